package syncpoint

import (
	"embed"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The plugins that the build puts there.
//
//go:embed all:payload
var payload embed.FS

// Interfaces are the versions of QEMU's plugin interface that there is a plugin for, in the order
// in which they are tried.
var Interfaces = [...]int{1, 4}

// tried are the versions of QEMU that runs were compared on.
var tried = [...]string{"7.2.", "10.0."}

// Library returns a file in memory with the plugin for a version of QEMU's plugin interface.
func Library(version int) (*os.File, error) {
	code, err := payload.ReadFile(fmt.Sprintf("payload/syncpoint-%d.so", version))
	if err != nil {
		return nil, fmt.Errorf("deterministic: this build has no plugin for QEMU (`make build` makes it): %w", err)
	}
	fd, err := unix.MemfdCreate("provium-syncpoint", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("deterministic: file of the plugin: %w", err)
	}
	f := os.NewFile(uintptr(fd), "provium-syncpoint")
	_, err = f.Write(code)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("deterministic: file of the plugin: %w", err)
	}
	return f, nil
}

// CheckVersion returns an error for a version of QEMU on which no runs were compared.
func CheckVersion(version string) error {
	for _, prefix := range tried {
		if strings.HasPrefix(version, prefix) {
			return nil
		}
	}
	return fmt.Errorf("deterministic: QEMU %s was never tried; 7.2 and 10.0 were (profile key `qemu` or --qemu "+
		"chooses one)", version)
}

// WithRemedy returns what a QEMU has said that has not started, with what to do if it does not take the plugin.
func WithRemedy(said string) string {
	if !strings.Contains(said, "plugin") {
		return said
	}
	return said + ": deterministic guests need a QEMU that takes plugins, of version 7.2 or 10.0 (profile key `qemu` " +
		"or --qemu chooses one)"
}

// Refuses reports whether QEMU, by what it has printed, does not take a plugin of that version of the
// interface.
func Refuses(stderr string) bool { return strings.Contains(stderr, "requires API version") }
