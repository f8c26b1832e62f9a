package kernel

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"provium/internal/image/decompress"
)

// MaxConfig is how long the configuration of a kernel may be, in bytes.
const MaxConfig = 4 << 20

// Marks around the configuration in a kernel with CONFIG_IKCONFIG.
const (
	configBegin = "IKCFG_ST"
	configEnd   = "IKCFG_ED"
)

// errNoConfig is returned for a kernel without a configuration in it.
var errNoConfig = errors.New("the kernel has no configuration in it (CONFIG_IKCONFIG)")

// EmbeddedConfig returns the configuration that is part of an uncompressed kernel.
func EmbeddedConfig(r io.ReaderAt, size int64) (string, error) {
	at, err := find(io.NewSectionReader(r, 0, min(size, MaxVmlinux)), configBegin)
	if err != nil {
		return "", err
	}
	in := io.NewSectionReader(r, at+int64(len(configBegin)), size-at-int64(len(configBegin)))
	z, err := decompress.NewReader(decompress.Gzip, decompress.NewSource(in))
	if err != nil {
		return "", errNoConfig
	}
	defer z.Close()
	text, err := io.ReadAll(io.LimitReader(z, MaxConfig))
	if err != nil {
		return "", errNoConfig
	}
	return string(text), nil
}

// find returns where a text is.
func find(r io.Reader, text string) (int64, error) {
	buf := make([]byte, 1<<20)
	have, at := 0, int64(0)
	for {
		n, err := io.ReadFull(r, buf[have:])
		b := buf[:have+n]
		if i := bytes.Index(b, []byte(text)); i >= 0 {
			return at + int64(i), nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return 0, errNoConfig
		}
		if err != nil {
			return 0, err
		}
		keep := min(len(text)-1, len(b))
		at += int64(len(b) - keep)
		have = copy(buf, b[len(b)-keep:])
	}
}

// needs are the options without which a guest starts no agent, or cannot be reached by it; those of drivers may be
// modules.
var (
	needsDriver = [...]string{"CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_CONSOLE"}
	needs       = [...]string{"CONFIG_PCI", "CONFIG_TTY", "CONFIG_BLK_DEV_INITRD", "CONFIG_BINFMT_ELF",
		"CONFIG_PROC_FS", "CONFIG_SYSFS", "CONFIG_DEVTMPFS", "CONFIG_UNIX", "CONFIG_FUTEX",
		"CONFIG_EPOLL", "CONFIG_MULTIUSER"}
)

// Options are the values of the options that guests need, "" for one that is not set; nil if they are not known.
type Options map[string]string

// ReadOptions reads a configuration, as the file .config has it.
func ReadOptions(config string) Options {
	out := Options{}
	for _, name := range append(needs[:len(needs):len(needs)], needsDriver[:]...) {
		out[name] = ""
	}
	for line := range strings.Lines(config) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if _, known := out[name]; known && (value == "y" || value == "m") {
			out[name] = value
		}
	}
	return out
}

// Missing returns what guests with an agent lack. hasModule reports whether there is a module for a driver.
func (o Options) Missing(hasModule func(name string) bool) []string {
	var out []string
	if o == nil {
		return nil
	}
	for _, name := range needs {
		if o[name] != "y" {
			out = append(out, name)
		}
	}
	for _, name := range needsDriver {
		module := strings.ToLower(strings.TrimPrefix(name, "CONFIG_"))
		if v := o[name]; v != "y" && (v != "m" || !hasModule(module)) {
			out = append(out, name)
		}
	}
	return out
}
