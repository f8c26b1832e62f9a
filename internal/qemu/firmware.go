package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Firmware is the files of a UEFI firmware.
type Firmware struct {
	Code string // read by all guests
	Vars string // template of the variable store
}

// firmwares are where distributions have them: Debian, Fedora, Arch, openSUSE.
var firmwares = []Firmware{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	{"/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"},
}

// ErrNoFirmware is returned where no UEFI firmware is installed.
var ErrNoFirmware = errors.New("no UEFI firmware (OVMF) is installed: Debian and Ubuntu have it in the package " +
	"`ovmf`, Fedora in `edk2-ovmf`")

// FindFirmware returns the UEFI firmware of this host.
func FindFirmware() (Firmware, error) { return FirmwareIn(os.DirFS("/")) }

// FirmwareIn returns the UEFI firmware of a host with these files.
func FirmwareIn(root fs.FS) (Firmware, error) {
	isRegular := func(path string) bool {
		info, err := fs.Stat(root, strings.TrimPrefix(path, "/"))
		return err == nil && info.Mode().IsRegular()
	}
	for _, f := range firmwares {
		if isRegular(f.Code) && isRegular(f.Vars) {
			return f, nil
		}
	}
	return Firmware{}, ErrNoFirmware
}

// Flash memory as QEMU names it.
const (
	codeFlash  = "pflash0"
	varsFlash  = "pflash1"
	varsMemory = "system.flash1" // in a saved state

	maxVars = 4 << 20 // bytes of a variable store
)

// varsPath is where the variable store of the machine is.
func (c *Config) varsPath() string { return filepath.Join(c.Dir, "vars.fd") }

// makeVars makes the variable store of a machine that is about to start. One that is restored fills it by itself.
func (c *Config) makeVars() error {
	if !c.Shape.IsUEFI() {
		return nil
	}
	template, err := os.Open(c.Firmware.Vars)
	if err != nil {
		return fmt.Errorf("qemu firmware: %w", err)
	}
	defer template.Close()
	content, err := io.ReadAll(io.LimitReader(template, maxVars+1))
	if err == nil && len(content) > maxVars {
		err = fmt.Errorf("`%s` has more than %d MiB", c.Firmware.Vars, maxVars>>20)
	}
	if err == nil {
		err = os.WriteFile(c.varsPath(), content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("qemu firmware: %w", err)
	}
	return nil
}

// firmwareArgs are the options for the flash memory.
func (c *Config) firmwareArgs() (args []string) {
	if !c.Shape.IsUEFI() {
		return nil
	}
	for _, f := range []struct {
		node, path string
		readOnly   bool
	}{{codeFlash, c.Firmware.Code, true}, {varsFlash, c.varsPath(), false}} {
		args = append(args, option("-blockdev", flashBackend{Driver: "raw", Node: f.node, ReadOnly: f.readOnly,
			File: fileBackend{Driver: "file", Path: f.path}})...)
	}
	return args
}

// firmwareID describes the firmware, which has to be the same where a state is loaded.
func (c *Config) firmwareID() string {
	id := func(path string) string {
		info, err := os.Stat(path)
		if err != nil {
			return path
		}
		return fmt.Sprintf("%s of %d bytes, %d", path, info.Size(), info.ModTime().Unix())
	}
	return "uefi " + id(c.Firmware.Code)
}

// flashBackend is the contents of a flash memory.
type flashBackend struct {
	Driver   string      `json:"driver"` // raw
	Node     string      `json:"node-name"`
	ReadOnly bool        `json:"read-only"`
	File     fileBackend `json:"file"`
}

type fileBackend struct {
	Driver string `json:"driver"` // file
	Path   string `json:"filename"`
}

// savedVars returns the variable store as sections of a saved state: what of it the guest has changed since it
// was restored is not in the state that it was restored from. origin is that state. Machines without one get nothing.
func (m *Machine) savedVars(origin []byte) ([]byte, error) {
	if !m.cfg.Shape.IsUEFI() {
		return nil, nil
	}
	vars, err := os.ReadFile(m.cfg.varsPath())
	if err != nil {
		return nil, err
	}
	if len(vars) > maxVars || len(vars)%pageSize != 0 {
		return nil, fmt.Errorf("a variable store of %d bytes", len(vars))
	}
	return memorySection(origin, varsMemory, vars)
}

// The parts of a stream of QEMU's (migration/savevm.c, migration/ram.c).
const (
	sectionStart = 1 // with a name
	sectionPart  = 2 // of one that has started

	ramZero     = 0x02 // flags, in the low bits of an address
	ramPage     = 0x08
	ramEnd      = 0x10
	ramContinue = 0x20 // of the same memory as the page before
)

// memorySection returns a section that loads content into the memory of that name, behind those of origin.
func memorySection(origin []byte, name string, content []byte) ([]byte, error) {
	const header = 8 // magic and version of a stream
	const start = header + 1 + 4
	if len(origin) < start+4 || origin[header] != sectionStart || string(origin[start:start+4]) != "\x03ram" {
		return nil, errors.New("the stream does not begin with the memory")
	}
	out := slices.Concat([]byte{sectionPart}, origin[header+1:start])
	var zero [pageSize]byte
	for at := 0; at < len(content); at += pageSize {
		page := content[at : at+pageSize]
		flags := uint64(ramPage)
		if bytes.Equal(page, zero[:]) {
			page, flags = zero[:1], ramZero // which is filled with that byte
		}
		if at > 0 {
			flags |= ramContinue
		}
		out = binary.BigEndian.AppendUint64(out, uint64(at)|flags)
		if at == 0 {
			out = append(append(out, byte(len(name))), name...)
		}
		out = append(out, page...)
	}
	return binary.BigEndian.AppendUint64(out, ramEnd), nil
}
