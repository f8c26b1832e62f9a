package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"provium/internal/arch"
	"provium/internal/nbd"
	"provium/internal/qemu/consolepipe"
	"provium/internal/syncpoint"
)

const (
	// icountShift makes an instruction take 8 ns of the guest's time.
	icountShift = 3
	// icountTSC is what the counter of a guest that counts instructions counts, in kHz.
	icountTSC = 1_000_000
)

// deterministicStart is when a deterministic guest boots that has no RTCBase.
var deterministicStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// SyncOption is the word on the kernel's command line that has the agent pass sync points, as
// provium-agent knows it.
const SyncOption = "provium.deterministic"

// checkDeterministic returns an error for a machine that cannot be deterministic.
func (c *Config) checkDeterministic() error {
	refuse := func(what, remedy string) error { return fmt.Errorf("deterministic: %s; %s", what, remedy) }
	switch {
	case c.arch() != arch.AMD64:
		return refuse("guests of "+c.arch().Name+" cannot be", "x86-64 can")
	case c.Accel == "kvm":
		return refuse("KVM runs the guest as fast as it can", "set accel = \"tcg\", or leave it out")
	case c.CPUs > 1:
		return refuse(fmt.Sprintf("%d CPUs have no common order", c.CPUs), "set cpus = 1")
	case c.Vsock:
		return refuse("vsock is served by the host's kernel", "set transport = \"virtio-serial\"")
	case slices.ContainsFunc(c.Disks, func(d Disk) bool { return d.Model.Bus != "" && d.Model.Bus != VirtioBlk }):
		return refuse("the host decides when a disk of SCSI or NVMe begins", "set bus = \"virtio-blk\"")
	case c.RNGSeed != nil:
		return refuse("rng_seed is of a random device that the guest does not have", "set the seed of the run (--seed)")
	case len(c.Shape.Args) > 0:
		return refuse("devices of qemu_args could depend on the host", "leave qemu_args out")
	case c.Shape.IsUEFI() || c.Shape.IsFromDisk():
		return refuse("firmware and boot_from were not tried", "boot the profile's kernel")
	case c.Shape.HasDisplay():
		return refuse("a screen is drawn when the host has the time", "leave `display` out")
	}
	return nil
}

// export is the name of what the servers of disks serve.
func (c *Config) export() string {
	switch {
	case !c.Shape.IsDeterministic():
		return ""
	case c.Checks != nil:
		return nbd.AtRandom
	}
	return nbd.InOrder
}

// pacePort is the name of the port by which the ticks of a deterministic guest on bridges are chosen.
const (
	pacePort    = "org.provium.pace"
	paceChardev = "pace"
)

// isInGroup reports whether the guest is deterministic, and on bridges.
func (c *Config) isInGroup() bool { return c.Shape.IsDeterministic() && len(c.NICs) > 0 }

// deterministicArgs are the words of the command line that count time in instructions.
func (c *Config) deterministicArgs(fd fds) []string {
	plugin := fmt.Sprintf("/proc/self/fd/%d,fd=%d,port=%d", fd.plugin, fd.control, fd.agent)
	if fd.pace != 0 {
		plugin += fmt.Sprintf(",port=%d", fd.pace)
	}
	for _, number := range fd.nics {
		plugin += fmt.Sprintf(",nic=%d", number)
	}
	return []string{"-icount", fmt.Sprintf("shift=%d,sleep=off", icountShift), "-seed", fmt.Sprint(uint32(c.Seed)),
		"-plugin", plugin}
}

// consoleDevice is what a console writes to. One of a guest that counts instructions must never be full, since the
// guest would see that: a pipe of 1 MiB instead of a socket, of which each character takes a part of its own.
func (c *Config) consoleDevice(id string, fd int) string {
	if c.Shape.CountsInstructions() {
		return fmt.Sprintf("file,id=%s,path=/proc/self/fd/%d", id, fd)
	}
	return fmt.Sprintf("socket,id=%s,fd=%d", id, fd)
}

// pipe makes the pipe of a console.
func (c *childFiles) pipe(name string) (host *os.File, number int, err error) {
	host, end, err := consolepipe.Make(name)
	if err != nil {
		return nil, 0, err
	}
	return host, c.add(end), nil
}

// pacerFiles are our ends of what a deterministic guest has beside other guests.
type pacerFiles struct {
	control, port, pace *os.File
	nics                []*os.File
}

func (f *pacerFiles) close() {
	for _, file := range append([]*os.File{f.control, f.port, f.pace}, f.nics...) {
		if file != nil {
			file.Close()
		}
	}
}

// wirePacer makes the connections of the agent and of the plugin, and the plugin's file.
func (m *Machine) wirePacer(ends *pacerFiles, n *fds, pair func(string) (*os.File, int, error),
	child *childFiles) (err error) {
	if ends.port, n.agent, err = pair("agent"); err != nil {
		return err
	}
	// The plugin waits in its reads.
	if ends.control, n.control, err = pair("sync points"); err != nil {
		return err
	}
	library, err := syncpoint.Library(m.cfg.plugin)
	if err != nil {
		return err
	}
	n.plugin = child.add(library)
	if !m.cfg.isInGroup() {
		return nil
	}
	for i := range m.cfg.NICs {
		p := m.cfg.NICs[i].Paced
		if p == nil {
			return errors.New("deterministic: a network interface without a connection")
		}
		theirs, err := dup(p.QEMU)
		if err != nil {
			return err
		}
		n.nics = append(n.nics, child.add(theirs))
		ours, err := syncpoint.Pollable(p.Host)
		if err != nil {
			return err
		}
		ends.nics = append(ends.nics, ours)
	}
	ends.pace, n.pace, err = pair("ticks")
	return err
}

// startPacer begins to pace the guest.
func (m *Machine) startPacer(f pacerFiles) {
	var group *syncpoint.Group
	var nics []syncpoint.NIC
	key := m.cfg.Name
	if m.cfg.isInGroup() {
		group = m.cfg.Group
		for i := range m.cfg.NICs {
			nics = append(nics, syncpoint.NewNIC(f.nics[i], m.cfg.NICs[i].Paced.Link))
			key += " " + m.cfg.NICs[i].MAC
		}
	}
	m.pacer = syncpoint.New(syncpoint.Config{Control: f.control, Port: f.port, Seed: m.cfg.Seed,
		Group: group, Pace: f.pace, NICs: nics, Key: key,
		Restored: m.cfg.Restore != nil,
		Arrived:  m.SyncConsole,
		Observe:  m.observe(),
		Failed: func(err error) {
			m.stderr.Write([]byte(fmt.Sprintf("deterministic: %v\n", err)))
			m.Kill()
		},
	})
	m.readers.Go(m.pacer.Run)
}

func (m *Machine) observe() func(syncpoint.Point) error {
	if m.cfg.Checks == nil {
		return nil
	}
	var changed func(func(int64, []byte) error) error
	if m.cfg.Restore != nil {
		changed = func(visit func(int64, []byte) error) error {
			return m.privateRAM(context.Background(), m.ramBase.Load(), visit)
		}
	}
	return func(p syncpoint.Point) error {
		p.Printed = consolepipe.Digest(m.serial, m.hvc)
		return m.cfg.Checks(m.ram, changed, p)
	}
}

// checked returns the machine, which is ended if it cannot be what it is to be.
func (m *Machine) checked() (*Machine, error) {
	if m.pacer == nil {
		return m, nil
	}
	if err := m.checkPlugin(); err != nil {
		m.Kill()
		<-m.done
		return nil, &StartError{Err: err, Stderr: m.stderr.String()}
	}
	return m, nil
}

// checkPlugin returns an error for a QEMU that was never tried, or whose plugin is not there.
func (m *Machine) checkPlugin() error {
	if err := syncpoint.CheckVersion(m.Version()); err != nil {
		return err
	}
	select {
	case <-m.pacer.Loaded():
		return nil
	case <-m.pacer.Done():
		return errors.New("deterministic: the plugin for QEMU did not load")
	}
}

// Disturbance is the seed of the moments at which a deterministic guest's processes are interrupted, 0 where they
// are not.
func (m *Machine) Disturbance() uint64 {
	if m.pacer == nil || !m.cfg.Shape.Disturb {
		return 0
	}
	return max(m.cfg.Seed, 1)
}

// Pacer lets a deterministic guest go on. It is nil for others.
func (m *Machine) Pacer() *syncpoint.Pacer { return m.pacer }

// Ticks reports whether the guest is to meet its host at times that the host chooses.
func (m *Machine) Ticks() bool { return m.cfg.isInGroup() }

// JoinNetwork has the frames of a deterministic guest, which has booted, pass. again says that the guest has booted
// before.
func (m *Machine) JoinNetwork(again bool) {
	switch {
	case m.pacer == nil:
	case again:
		m.pacer.Rejoin()
	default:
		m.pacer.Join()
	}
}

// refusesPlugin reports whether a start has failed since QEMU wants another version of the plugin.
func refusesPlugin(err error) bool {
	var start *StartError
	return errors.As(err, &start) && syncpoint.Refuses(start.Stderr)
}
