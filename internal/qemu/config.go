// Package qemu runs one QEMU process: its command line, its
// devices, its life cycle and what it says about the guest.
//
// It does not choose a kernel, speak to the agent, read the console or decide
// what a state means for a test.
package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"provium/internal/arch"
	"provium/internal/beside"
	"provium/internal/machine"
	"provium/internal/proc"
	"provium/internal/recording"
	"provium/internal/syncpoint"
)

// ramAlign is the granularity of guest RAM in bytes: a page, on every host.
const ramAlign = 64 << 10

// agentChardev is QEMU's name of the agent's connection.
const agentChardev = "agent"

// AgentPort is the name of the virtio-serial port on which the agent serves.
const AgentPort = "org.provium.agent"

// Config describes a machine. Zero fields have the default named beside them.
type Config struct {
	Arch    *arch.Arch // what the guest runs on; x86-64
	Binary  string     // QEMU program; that of Arch from PATH
	Name    string     // shown in process lists
	Dir     string     // private directory for sockets, required; short, since a unix socket path holds 107 bytes
	Machine string     // that of Arch
	Accel   string     // "tcg"; or "kvm"
	CPUs    int        // 1
	Memory  int64      // guest RAM in bytes, required; rounded up to whole pages
	Kernel  string     // ELF vmlinux with PVH entry, or bzImage, required
	Initrd  string     // none
	Cmdline string
	// TSCKHz is the frequency of the host's time stamp counter, which an emulated kernel of
	// x86-64 is told in front of Cmdline; 0: it measures the counter by itself.
	TSCKHz  int
	RNGSeed *uint64 // nil: the host's entropy
	// Group is what the time of a deterministic guest on bridges depends on.
	Group *syncpoint.Group
	// Seed is that of a deterministic guest.
	Seed    uint64
	RTCBase time.Time // zero: the host's clock
	Disks   []Disk    // there from the start; the guest finds them in the order of their slots
	Vsock   bool      // the agent is reached by vsock, not by its port
	// FirmwareConsole has the firmware print to ttyS0, and read from it.
	FirmwareConsole bool
	Shape           machine.Shape
	Firmware        Firmware // with UEFI
	Restore         *Restore // start from a saved state instead of booting; nil boots
	NICs            []NIC    // network interfaces

	// Serial and HVC receive what ttyS0 and hvc0 print, in chunks, from one
	// goroutine each; they must not block for long. Nil drops it.
	Serial, HVC io.Writer
	// OnEvent is called in order for each event of QEMU, from one goroutine; it
	// must not block. Nil drops them.
	OnEvent func(Event)
	// OnExit is called when the process has ended, before what can still be read of its
	// memory is gone. Nil does nothing.
	OnExit func(*Machine)
	// Starter starts the process, required.
	Starter Starter
	// Sandboxes remembers which QEMUs have no sandbox; nil finds out at each start.
	Sandboxes *Sandboxes

	// Checks observes the sync points of a deterministic guest. changed visits what a restored one has changed of its
	// memory's file, and is nil for others. Nil does not.
	Checks func(ram *os.File, changed func(visit func(at int64, b []byte) error) error, p syncpoint.Point) error

	// Replay is what a guest is run from again that was recorded; nil records it, if its shape says so.
	Replay *recording.Log

	withoutSandbox bool
	plugin         int // version of QEMU's plugin interface, for a deterministic guest
}

// Starter starts processes that cannot outlive us. It is the seam at which tests
// put other machines in QEMU's place.
type Starter interface {
	// Start starts a program beside QEMU, confined; the caller must call cmd.Wait.
	Start(cmd *exec.Cmd) error
	// Launch starts a QEMU, which inherits cmd's files and opens those given.
	Launch(cmd *exec.Cmd, opens ...proc.File) (proc.Process, error)
	// Serve starts a program that serves files of the host to a guest.
	Serve(cmd *exec.Cmd) (proc.Process, error)
}

// cpuModel is the richest model of each accelerator: tests want the features
// of the machine they run on, and nothing of ours migrates between hosts.
func (c *Config) cpuModel() string {
	if c.Accel == "kvm" {
		return "host"
	}
	return c.arch().CPU
}

// cmdline returns the kernel's command line. What is put in front can be overridden by what
// follows, and is left out where there is no room.
func (c *Config) cmdline() string {
	if c.TSCKHz == 0 || c.Accel == "kvm" || !c.arch().TSC {
		return c.Cmdline
	}
	line := strings.TrimSpace(fmt.Sprintf("tsc_early_khz=%d %s", c.TSCKHz, c.Cmdline))
	if len(line) > c.arch().MaxCmdline {
		return c.Cmdline
	}
	return line
}

// imageArgs are what the machine boots. Firmware that finds it by itself gets no words for it, either.
func (c *Config) imageArgs() (a []string) {
	if c.Kernel == "" {
		return nil
	}
	a = append(a, "-kernel", c.Kernel)
	if c.Initrd != "" {
		a = append(a, "-initrd", c.Initrd)
	}
	if cmdline := c.cmdline(); cmdline != "" {
		a = append(a, "-append", cmdline)
	}
	return a
}

// SerialConsole returns what a guest's kernel calls the serial port.
func (c *Config) SerialConsole() string { return c.arch().Console }

// arch returns the guest's architecture.
func (c *Config) arch() *arch.Arch {
	if c.Arch == nil {
		return arch.AMD64
	}
	return c.Arch
}

func (c *Config) withDefaults() Config {
	d := *c
	d.Arch = c.arch()
	if d.Binary == "" {
		d.Binary = d.Arch.QEMU
	}
	if d.Machine == "" {
		d.Machine = d.Arch.Machine
	}
	if d.Accel == "" {
		d.Accel = "tcg"
	}
	if d.CPUs == 0 {
		d.CPUs = 1
	}
	if d.Shape.IsDeterministic() {
		if d.TSCKHz = icountTSC; d.RTCBase.IsZero() {
			d.RTCBase = deterministicStart
		}
	}
	if d.Shape.Record {
		d.TSCKHz = icountTSC
	}
	// QEMU rounds up by itself, and would then find its RAM file too short.
	d.Memory = (d.Memory + ramAlign - 1) / ramAlign * ramAlign
	return d
}

func (c *Config) validate() error {
	switch {
	case c.Starter == nil:
		return errors.New("qemu config: no starter")
	case c.Dir == "":
		return errors.New("qemu config: no directory")
	case c.Memory <= 0:
		return fmt.Errorf("qemu config: memory is %d bytes", c.Memory)
	case c.CPUs < 0:
		return fmt.Errorf("qemu config: %d CPUs", c.CPUs)
	case c.Kernel == "" && !c.Shape.IsFromDisk():
		return errors.New("qemu config: no kernel")
	case c.Shape.IsUEFI() && c.Firmware == (Firmware{}):
		return ErrNoFirmware
	case c.Shape.IsDeterministic() && c.checkDeterministic() != nil:
		return c.checkDeterministic()
	case c.Shape.Record && c.checkRecorded() != nil:
		return c.checkRecorded()
	case len(c.NICs) > 0 && c.Machine != "" && c.nicBridge() == nil:
		return fmt.Errorf("qemu config: machine `%s` cannot have network interfaces (q35, pc and virt can)", c.Machine)
	case c.Accel != "" && c.Accel != "kvm" && c.Accel != "tcg":
		return fmt.Errorf("qemu config: unknown accelerator `%s` (valid: kvm, tcg)", c.Accel)
	}
	// A file that QEMU cannot open ends it with a message on a stderr that
	// nobody would look at first.
	for _, f := range []string{c.Kernel, c.Initrd} {
		if f == "" {
			continue
		}
		h, err := os.Open(f)
		if err != nil {
			return fmt.Errorf("qemu config: %w", err)
		}
		h.Close()
	}
	return nil
}

// fds are the descriptor numbers in the QEMU process.
type fds struct {
	ram, qmp, serial, hvc, rng, state int    // rng is 0 without a seed, state without a Restore
	agent, control, plugin            int    // 0 unless the guest is deterministic
	pace                              int    // likewise, and it has NICs
	nics                              []int  // likewise
	vsock                             int    // the device; 0 without it
	cid                               uint32 // with vsock
}

// args builds the command line. It is pure, so that a change of the machine is
// seen in a test.
func (c *Config) args(fd fds, agentSocket string) []string {
	a := []string{
		"-name", "guest=" + escapeComma(c.Name),
		"-nodefaults", "-no-user-config", "-display", "none",
		// A state without descriptions, footers and header is the one form that
		// QEMU both saves apart from RAM and loads (see state.go).
		"-machine", c.Machine + ",accel=" + c.Accel + ",memory-backend=ram,suppress-vmdesc=on" + c.machineExtras(),
		"-global", "migration.send-configuration=off", "-global", "migration.send-section-footer=off",
		"-cpu", c.cpuModel(), "-smp", c.smp(),
		"-m", fmt.Sprintf("%dB", c.Memory),
	}
	a = append(a, c.firmwareArgs()...)
	a = append(a, c.imageArgs()...)
	if !c.withoutSandbox {
		a = append(a, "-sandbox", SandboxOption)
	}
	// A booting guest's RAM is a memfd of ours, mapped shared, so that a snapshot reads
	// it without QEMU's help (and a file on disk made a boot 1 s slower). A restored
	// guest's is the snapshot's file, mapped copy-on-write.
	a = append(a, option("-object", memoryObject{Type: "memory-backend-file", ID: "ram", Size: c.Memory,
		Path: fmt.Sprintf("/proc/self/fd/%d", fd.ram), Share: c.Restore == nil})...)
	if c.Shape.IsDeterministic() {
		a = append(a, c.deterministicArgs(fd)...)
	}
	counted, ports := c.recordArgs()
	a = append(a, counted...)
	// A guest that says that its kernel has panicked stops before it reboots. It goes on if a test expects that.
	end := "panic=pause"
	if !c.Shape.Record { // see HoldsEnd
		end += ",reboot=shutdown,shutdown=pause"
	}
	a = append(a, "-rtc", c.clock(), "-action", end,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fd.qmp),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", c.consoleDevice("ttyS0", fd.serial),
		"-serial", "chardev:ttyS0",
		"-chardev", c.consoleDevice("hvc0", fd.hvc),
	)
	a = append(a, ports...)
	rng := rngObject{Type: "rng-random", ID: "rng0", File: "/dev/urandom"}
	if fd.rng != 0 {
		a = append(a, "-chardev", fmt.Sprintf("socket,id=rng,fd=%d", fd.rng))
		rng = rngObject{Type: "rng-egd", ID: "rng0", Chardev: "rng"}
	}
	if !c.Shape.CountsInstructions() {
		a = append(a, option("-object", rng)...)
	}
	for i := range c.Disks {
		a = append(a, option("-blockdev", c.Disks[i].backend(c.export()))...)
	}
	for i := range c.NICs {
		backend := c.NICs[i].backend()
		if i < len(fd.nics) {
			backend.Addr = fdAddress{"fd", fmt.Sprint(fd.nics[i])}
		}
		a = append(a, option("-netdev", backend)...)
	}
	switch {
	case c.Vsock:
	case c.Shape.IsDeterministic():
		// The host is there before the guest is: when it comes is no part of the run.
		a = append(a, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d", agentChardev, fd.agent))
		if fd.pace != 0 {
			a = append(a, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d", paceChardev, fd.pace))
		}
	default:
		a = append(a, "-chardev", "socket,id="+agentChardev+",server=on,wait=off,path="+escapeComma(agentSocket))
	}
	for _, d := range c.devices() {
		a = append(a, option("-device", d)...)
	}
	if c.Vsock {
		a = append(a, option("-device", c.vsockDevice(fd))...)
	}
	if c.Restore != nil {
		// Nothing runs before the state is loaded and the caller says so.
		a = append(a, "-S", "-incoming", "defer")
	}
	return slices.Concat(a, beside.Args(c.Dir, c.rootBus(), &c.Shape), c.Shape.Args)
}

// Command returns a command line that boots the machine by itself, with its console on the
// terminal on which it is typed, where Ctrl-A x ends it. Nothing of ours serves it: it has no
// disks and no network of the lab, and its agent has no link.
func (c *Config) Command() []string {
	d := c.withDefaults()
	d.Disks, d.NICs, d.Vsock, d.Shape.Deterministic = nil, nil, false, nil
	a := []string{d.Binary, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", d.Machine + ",accel=" + d.Accel + d.machineExtras(), "-cpu", d.cpuModel(),
		"-smp", d.smp(), "-m", fmt.Sprintf("%dB", d.Memory)}
	a = append(a, d.firmwareArgs()...)
	a = append(a, d.imageArgs()...)
	a = append(a, "-serial", "mon:stdio", "-chardev", "null,id="+agentChardev, "-chardev", "null,id=hvc0")
	a = append(a, option("-object", rngObject{Type: "rng-random", ID: "rng0", File: "/dev/urandom"})...)
	for _, device := range d.devices() {
		a = append(a, option("-device", device)...)
	}
	return append(a, d.Shape.Args...)
}

// devices are the descriptions of all devices, in the order in which they are made.
func (c *Config) devices() []any {
	out := []any{
		// Without an ioeventfd a notification is served where it is raised:
		// with one, another thread is woken first, and its completion then
		// wakes the guest a second time. Ports cost queues, which cost boot
		// time. With an interrupt for each queue the driver need not look
		// through all of them, and wake a thread for one of them, each time.
		serialBus{Driver: "virtio-serial-pci", ID: "vser", IOEventFD: false, MaxPorts: 4, Vectors: 10,
			Addr: c.fixedDevice(serialAt)},
	}
	if !c.Vsock {
		out = append(out, serialPort{Driver: "virtserialport", ID: "agentport", Bus: "vser.0", Number: 1,
			Chardev: agentChardev, Name: AgentPort})
	}
	out = append(out, serialPort{Driver: "virtconsole", Bus: "vser.0", Number: 2, Chardev: "hvc0"})
	if c.isInGroup() {
		out = append(out, serialPort{Driver: "virtserialport", ID: "paceport", Bus: "vser.0", Number: 3,
			Chardev: paceChardev, Name: pacePort})
	}
	if !c.Shape.CountsInstructions() {
		// Without an ioeventfd a request has reached the backend when the guest's call
		// returns, see ReleaseEntropy.
		out = append(out,
			rngDevice{Driver: "virtio-rng-pci", RNG: "rng0", IOEventFD: false, Addr: c.fixedDevice(rngAt)})
	}
	if c.arch().PanicDevice {
		out = append(out, plainDevice{Driver: "pvpanic"})
	}
	if c.arch().NoteDevice {
		out = append(out, plainDevice{Driver: "vmcoreinfo"})
	}
	if c.Shape.HasDisplay() {
		out = append(out, c.displayDevice())
	}
	if bridge := c.plugBridge(); bridge != nil {
		out = append(out, bridge)
	}
	for i := range c.Disks {
		if before := c.Disks[i].before(); before != nil {
			out = append(out, before)
		}
		front := c.Disks[i].frontend()
		if c.Shape.IsFromDisk() && i == 0 {
			front.BootIndex = 1
		}
		out = append(out, front)
	}
	if bridge := c.nicBridge(); bridge != nil {
		out = append(out, bridge)
	}
	for i := range c.NICs {
		if c.isInGroup() {
			out = append(out, c.NICs[i].pacedDevice(c.rootBus()))
		} else {
			out = append(out, c.NICs[i].device(c.rootBus()))
		}
	}
	return out
}

// vsockDevice is the device by which the agent is reached. Its CID is no part of a saved
// state: the guest asks for it again after a restore.
func (c *Config) vsockDevice(fd fds) vsockDevice {
	out := vsockDevice{Driver: "vhost-vsock-pci", CID: fd.cid, Addr: c.fixedDevice(vsockAt)}
	if fd.vsock != 0 {
		out.VHost = fmt.Sprint(fd.vsock)
	}
	return out
}

// Hardware is what a saved state depends on, beside the version of QEMU.
type Hardware struct {
	Type    string // QEMU machine type, with its options
	CPU     string // model
	Accel   string
	Memory  int64 // bytes
	CPUs    int
	Devices []string // in order
}

// Hardware tells what machine a Config makes.
func (c *Config) Hardware() Hardware {
	d := c.withDefaults()
	d.NICs = slices.Clone(d.NICs)
	for i := range d.NICs {
		d.NICs[i] = NIC{Slot: d.NICs[i].Slot} // who it is for does not matter
	}
	h := Hardware{Type: d.Machine + d.machineExtras(), CPU: d.cpuModel(), Accel: d.Accel,
		Memory: d.Memory, CPUs: d.CPUs}
	for _, device := range d.devices() {
		h.Devices = append(h.Devices, option("-device", device)[1])
	}
	if c.Vsock {
		h.Devices = append(h.Devices, option("-device", d.vsockDevice(fds{}))[1])
	}
	h.Devices = append(h.Devices, d.shapeParts()...)
	return h
}

func (c *Config) machineExtras() string {
	var extras string
	if c.Machine == c.arch().Machine || c.Machine == "pc" {
		extras = c.arch().MachineOptions
	}
	if c.FirmwareConsole {
		extras += ",graphics=off"
	}
	if c.Shape.IsUEFI() {
		extras += ",pflash0=" + codeFlash + ",pflash1=" + varsFlash
	}
	return extras
}

// smp returns how many CPUs there are and how they are divided, as the option takes it.
func (c *Config) smp() string {
	t := c.Shape.CPU
	if t == (machine.Topology{}) {
		return fmt.Sprint(c.CPUs)
	}
	return fmt.Sprintf("%d,sockets=%d,cores=%d,threads=%d", c.CPUs,
		max(t.Sockets, 1), max(t.Cores, 1), max(t.Threads, 1))
}

// shapeParts describes what of the shape a saved state depends on, beside the devices.
func (c *Config) shapeParts() (parts []string) {
	if c.Shape.CPU != (machine.Topology{}) {
		parts = append(parts, "-smp "+c.smp())
	}
	if c.Shape.IsUEFI() {
		parts = append(parts, c.firmwareID())
	}
	if c.Shape.IsDeterministic() {
		parts = append(parts, fmt.Sprintf("-icount shift=%d", icountShift))
	}
	if c.Shape.Record {
		parts = append(parts, strings.Join(recording.Args(recording.Log{}), " "))
	}
	parts = append(parts, beside.Parts(&c.Shape)...)
	if len(c.Shape.Args) > 0 {
		parts = append(parts, "qemu_args "+strings.Join(c.Shape.Args, " "))
	}
	return parts
}

// escapeComma protects a value inside a QEMU option list.
func escapeComma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// FormatSize returns a size as command lines and test files have it: "512M", "64K".
func FormatSize(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", n/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
