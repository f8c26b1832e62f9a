// Package machine has the words for what a guest's hardware is made of beside its memory,
// disks and networks: firmware, topology of the CPUs, and arguments of QEMU's own.
//
// It starts nothing and knows no command line: package qemu makes devices of a Shape.
//
// Start with Shape.
package machine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Values of Shape.Firmware and Shape.BootFrom. Empty ones are the first of each.
const (
	BIOS = "bios"
	UEFI = "uefi"

	FromKernel = "kernel"
	FromDisk   = "disk"
)

// Firmwares returns the valid values of Shape.Firmware.
func Firmwares() []string { return []string{BIOS, UEFI} }

// Sources returns the valid values of Shape.BootFrom.
func Sources() []string { return []string{FromKernel, FromDisk} }

// Limits of arguments for QEMU, which come from files of other users' projects, too.
const (
	maxArgs     = 256
	maxArgBytes = 32 << 10
)

// Shape is what a machine is made of. Its zero value is Provium's usual machine.
type Shape struct {
	Firmware string   `json:"firmware,omitempty"`  // "bios" (or ""), "uefi"
	BootFrom string   `json:"boot_from,omitempty"` // "kernel" (or ""), of the profile; "disk": what the firmware finds
	Display  *bool    `json:"display,omitempty"`   // a VGA adapter; nil is false
	TPM      *bool    `json:"tpm,omitempty"`       // a TPM 2.0; nil is false
	CPU      Topology `json:"cpu,omitzero"`
	// Deterministic says that the guest does the same in each run with the same seed; nil is false.
	Deterministic *bool `json:"deterministic,omitempty"`
	// Record says that what happens to the guest is written down, so that it can be run again under a debugger.
	Record bool `json:"record,omitempty"`
	// Disturb has a deterministic guest's processes be interrupted at moments that follow from its seed.
	Disturb bool     `json:"disturb,omitempty"`
	Args    []string `json:"args,omitempty"` // behind those of QEMU's command line, as they are
	// Shares come from profiles alone: a file of another user must not say what a guest may write to.
	Shares []Share `json:"-"`
}

// Topology is how the vCPUs are divided. A zero field is 1, or what the others leave.
type Topology struct {
	Sockets int `json:"sockets,omitempty"`
	Cores   int `json:"cores,omitempty"`   // of each socket
	Threads int `json:"threads,omitempty"` // of each core
}

// IsUEFI reports whether the machine starts with UEFI.
func (s *Shape) IsUEFI() bool { return s.Firmware == UEFI }

// IsFromDisk reports whether the firmware finds what it boots on a disk.
func (s *Shape) IsFromDisk() bool { return s.BootFrom == FromDisk }

// IsDeterministic reports whether the guest does the same in each run.
func (s *Shape) IsDeterministic() bool { return s.Deterministic != nil && *s.Deterministic }

// CountsInstructions reports whether the guest's time is counted in instructions.
func (s *Shape) CountsInstructions() bool { return s.IsDeterministic() || s.Record }

// HasDisplay reports whether the machine has a screen.
func (s *Shape) HasDisplay() bool { return s.Display != nil && *s.Display }

// HasTPM reports whether the machine has a TPM.
func (s *Shape) HasTPM() bool { return s.TPM != nil && *s.TPM }

// Merge returns s, replaced by what over sets. Arguments are joined.
func (s Shape) Merge(over Shape) Shape {
	if over.Firmware != "" {
		s.Firmware = over.Firmware
	}
	if over.BootFrom != "" {
		s.BootFrom = over.BootFrom
	}
	if over.Display != nil {
		s.Display = over.Display
	}
	if over.TPM != nil {
		s.TPM = over.TPM
	}
	if over.CPU != (Topology{}) {
		s.CPU = over.CPU
	}
	if over.Deterministic != nil {
		s.Deterministic = over.Deterministic
	}
	s.Disturb = s.Disturb || over.Disturb
	s.Record = s.Record || over.Record
	s.Args, s.Shares = slices.Concat(s.Args, over.Args), slices.Concat(s.Shares, over.Shares)
	return s
}

// Check returns an error for a shape that a machine of the type with so many CPUs cannot have.
func (s *Shape) Check(machineType string, cpus int) error {
	if s.IsUEFI() && !strings.Contains(machineType, "q35") {
		return fmt.Errorf("firmware: `uefi` needs machine `q35`, not `%s`", machineType)
	}
	isPC := strings.HasPrefix(machineType, "pc") || strings.Contains(machineType, "q35")
	for _, part := range []struct {
		name string
		has  bool
	}{{"display", s.HasDisplay()}, {"tpm", s.HasTPM()}} {
		if part.has && !isPC {
			return fmt.Errorf("%s: machine `%s` cannot have one (`q35` and `pc` can)", part.name, machineType)
		}
	}
	if err := s.CPU.Check(cpus); err != nil {
		return err
	}
	if err := CheckShares(s.Shares); err != nil {
		return fmt.Errorf("rw: %w", err)
	}
	return CheckArgs(s.Args)
}

// Check returns an error for a topology that so many CPUs cannot have.
func (t Topology) Check(cpus int) error {
	if t.Sockets < 0 || t.Cores < 0 || t.Threads < 0 {
		return errors.New("cpu_topology: sockets, cores and threads must be at least 1")
	}
	if t == (Topology{}) || t.CPUs() == cpus {
		return nil
	}
	return fmt.Errorf("cpu_topology: %d sockets × %d cores × %d threads are %d CPUs, the machine has %d "+
		"(option `cpus`)",
		max(t.Sockets, 1), max(t.Cores, 1), max(t.Threads, 1), t.CPUs(), cpus)
}

// CPUs returns how many CPUs there are in all, capped.
func (t Topology) CPUs() int {
	const most = 1 << 16
	n := 1
	for _, f := range []int{t.Sockets, t.Cores, t.Threads} {
		n = min(n*min(max(f, 1), most), most)
	}
	return n
}

// options are those of QEMU's command line on which Provium's own control depends.
var options = []string{"qmp", "mon", "monitor", "incoming", "S", "daemonize", "pidfile", "runas", "chroot", "loadvm",
	"kernel", "initrd", "append", "m", "smp", "accel", "enable-kvm", "sandbox", "name", "nodefaults", "rtc", "action"}

// CheckArgs returns an error for arguments that would take the machine out of Provium's hands.
func CheckArgs(args []string) error {
	size := 0
	for i, arg := range args {
		if size += len(arg); i >= maxArgs || size > maxArgBytes {
			return fmt.Errorf("qemu_args: at most %d arguments of %d KiB in all", maxArgs, maxArgBytes>>10)
		}
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("qemu_args: argument %d holds a NUL byte", i+1)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
		if name != arg && slices.Contains(options, name) {
			return fmt.Errorf("qemu_args: `%s` is Provium's own: %s", arg, reason(name))
		}
	}
	return nil
}

// reason returns how an option of Provium's own is set.
func reason(option string) string {
	switch option {
	case "kernel", "initrd", "append":
		return "profile keys `kernel`, `initrd` and `cmdline` set what is booted"
	case "m":
		return "option `memory` sets it"
	case "smp":
		return "options `cpus` and `cpu_topology` set it"
	case "accel", "enable-kvm":
		return "profile key `accel` sets it"
	case "rtc":
		return "option `initial_time` sets it"
	}
	return "without it the machine could not be controlled"
}
