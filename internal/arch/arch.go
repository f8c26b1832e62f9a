// Package arch says what the architectures of guests are, in one table: how they are
// called, which QEMU and which machine runs them, what their kernels look like.
//
// It starts nothing and reads no file. Start reading at table.
package arch

import (
	"debug/elf"
	"fmt"
	"runtime"
	"strings"
)

// Arch is an architecture. It must not be changed.
type Arch struct {
	// Name is how Go and Debian call it.
	Name string
	// Uname is how `uname -m` calls it.
	Uname string
	// QEMU is the program that runs its guests.
	QEMU string
	// Packages have that program, by distribution (the ID of /etc/os-release).
	Packages map[string]string

	// Machine is QEMU's type of machine for guests, and MachineOptions are its options, each
	// behind a comma.
	Machine, MachineOptions string
	// CPU is the model of an emulated CPU.
	CPU string
	// RAM is the physical address of the first byte of memory.
	RAM int64
	// Console is how the kernel calls the serial port.
	Console string
	// PanicDevice is set where kernels tell a device that they have panicked.
	PanicDevice bool
	// NoteDevice is set where the machine can have the device to which kernels tell where their
	// note for crash tools is.
	NoteDevice bool
	// HotPlug is set where guests find out by themselves that a device has come, and release
	// one that is to go.
	HotPlug bool
	// TSC is set where an emulated kernel is told how fast its clock counts.
	TSC bool

	// ELF is the machine of its programs.
	ELF elf.Machine
	// ImageMagic stands in the header of a kernel in the form Image. "" has bzImages.
	ImageMagic string
	// MaxCmdline is what its kernel takes of a command line, in bytes.
	MaxCmdline int
	// Cmdline is for profiles that choose neither a kernel nor a command line.
	Cmdline string

	// Kernels are Debian's packages that depend on the newest kernel, the best first.
	Kernels []string
	// Suite of Debian has them, where an older one that the host runs does not.
	Suite string
}

// common are the words of the default command line that have the same sense everywhere:
// the kernel stamps its lines, by which they are told from those of programs
// (printk.time=1), trusts the CPU's random numbers (random.trust_cpu), leaves out the
// self-tests of the crypto drivers, a fifth of an emulated guest's boot
// (cryptomgr.notests), and a panicked guest stands still, so that the panic is seen
// (panic=0).
const common = "random.trust_cpu=on cryptomgr.notests panic=0"

var table = [...]*Arch{
	{
		Name: "amd64", Uname: "x86_64", QEMU: "qemu-system-x86_64",
		Packages: map[string]string{"debian": "qemu-system-x86", "fedora": "qemu-system-x86-core",
			"arch": "qemu-system-x86", "alpine": "qemu-system-x86_64", "suse": "qemu-x86"},
		// vmport and the HPET cost emulation time and no test needs them.
		Machine: "q35", MachineOptions: ",vmport=off,hpet=off",
		// TCG carries out "rep movsb" byte by byte, and ERMS and FSRM make kernels use it for
		// every copy: without these hints they move eight bytes at a time, and bulk data
		// leaves an emulated guest three times as fast.
		CPU:     "max,erms=off,fsrm=off",
		Console: "ttyS0", PanicDevice: true, NoteDevice: true, HotPlug: true, TSC: true,
		ELF: elf.EM_X86_64, MaxCmdline: 2047,
		// Beside the common words it keeps an emulated guest from failing its timer self-test
		// (no_timer_check) or taking its TSC for unstable (tsc=reliable) on a busy host.
		Cmdline: "quiet printk.time=1 no_timer_check tsc=reliable " + common,
		Kernels: []string{"linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64", "linux-image-generic"},
	},
	{
		Name: "arm64", Uname: "aarch64", QEMU: "qemu-system-aarch64",
		Packages: map[string]string{"debian": "qemu-system-arm", "fedora": "qemu-system-aarch64-core",
			"arch": "qemu-system-aarch64", "alpine": "qemu-system-aarch64", "suse": "qemu-arm"},
		Machine: "virt", MachineOptions: ",gic-version=max",
		// The architecture's own pointer authentication takes an emulated guest most of its
		// time; this is another algorithm for the same instructions.
		CPU: "max,pauth-impdef=on",
		RAM: 1 << 30, Console: "ttyAMA0", NoteDevice: true,
		ELF: elf.EM_AARCH64, ImageMagic: "ARM\x64", MaxCmdline: 2047,
		Cmdline: "quiet printk.time=1 " + common,
		Kernels: []string{"linux-image-cloud-arm64", "linux-image-arm64"},
	},
	{
		Name: "riscv64", Uname: "riscv64", QEMU: "qemu-system-riscv64",
		Packages: map[string]string{"debian": "qemu-system-misc", "fedora": "qemu-system-riscv-core",
			"arch": "qemu-system-riscv", "alpine": "qemu-system-riscv64", "suse": "qemu-extra"},
		Machine: "virt",
		// QEMU does not start a timer again in a guest that it loads: it is told the time anew (package qemu/mtimer),
		// which it takes of the older timer, the one by way of the firmware.
		CPU: "rv64,sstc=off",
		RAM: 2 << 30, Console: "ttyS0",
		ELF: elf.EM_RISCV, ImageMagic: "RSC\x05", MaxCmdline: 1023,
		Cmdline: "quiet printk.time=1 " + common,
		Kernels: []string{"linux-image-riscv64"}, Suite: "trixie",
	},
}

// AMD64 is x86-64. RISCV64 is one whose timers QEMU does not start again in a guest that it loads.
var AMD64, RISCV64 = table[0], table[2]

// All returns all architectures.
func All() []*Arch { return table[:] }

// Host returns the architecture of this machine, or x86-64 where guests of it are not
// known.
func Host() *Arch {
	if a, err := Named(runtime.GOARCH); err == nil {
		return a
	}
	return AMD64
}

// Named returns the architecture with a name of Go, Debian or uname.
func Named(name string) (*Arch, error) {
	for _, a := range table {
		if name == a.Name || name == a.Uname {
			return a, nil
		}
	}
	return nil, fmt.Errorf("unknown architecture `%s` (valid: %s)", name, strings.Join(Names(), ", "))
}

// Names returns the names of all architectures.
func Names() []string {
	var names []string
	for _, a := range table {
		names = append(names, a.Name)
	}
	return names
}

// OfELF returns the architecture of programs for a machine, or nil.
func OfELF(machine elf.Machine) *Arch {
	for _, a := range table {
		if a.ELF == machine {
			return a
		}
	}
	return nil
}

// OfImage returns the architecture of a kernel whose header has the magic, or nil.
func OfImage(magic string) *Arch {
	for _, a := range table {
		if a.ImageMagic != "" && a.ImageMagic == magic {
			return a
		}
	}
	return nil
}

// String returns the name.
func (a *Arch) String() string { return a.Name }
