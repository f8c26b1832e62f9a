package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"provium/internal/arch"
	"provium/internal/qmp"
	"provium/internal/recording"
)

// logging returns what becomes of the log of a recorded guest. The boot of one has none.
func (c *Config) logging() recording.Log {
	switch {
	case c.Replay != nil:
		return *c.Replay
	case c.Restore != nil:
		return recording.Log{Path: filepath.Join(c.Dir, "recording")}
	}
	return recording.Log{}
}

// clock returns what the guest's wall clock follows: that of a guest that is recorded, what it has carried out.
func (c *Config) clock() string {
	switch {
	case !c.RTCBase.IsZero():
		return "base=" + c.RTCBase.UTC().Format("2006-01-02T15:04:05") + ",clock=vm"
	case !c.Shape.Record:
		return "base=utc,clock=host"
	}
	return "base=utc,clock=vm"
}

// recordArgs returns words of the command line of a guest that can be recorded: how it counts, and its ports.
func (c *Config) recordArgs() (counted, ports []string) {
	if c.Shape.Record {
		return recording.Args(c.logging()), recording.Ports("hvc0", agentChardev)
	}
	return nil, nil
}

// checkRecorded returns an error for a machine that cannot be recorded.
func (c *Config) checkRecorded() error {
	s := &c.Shape
	return recording.Check(recording.Machine{IsAMD64: c.arch() == arch.AMD64, KVM: c.Accel == "kvm", CPUs: c.CPUs,
		Vsock: c.Vsock, Disks: len(c.Disks), NICs: len(c.NICs), HasRNG: c.RNGSeed != nil, HasArgs: len(s.Args) > 0,
		IsDeterministic: s.IsDeterministic(), HasFirmware: s.IsUEFI() || s.IsFromDisk(), HasDisplay: s.HasDisplay()})
}

// openState opens what the machine is restored from.
func (m *Machine) openState() (*os.File, error) {
	f, err := m.cfg.Restore.openState()
	if err != nil || m.Recorder() == nil {
		return f, err
	}
	defer f.Close()
	return recording.Begin(f, m.cfg.Restore.StateLen)
}

// Recorder writes down moments of a recorded guest. It is nil for others.
func (m *Machine) Recorder() *recording.Recorder {
	if !m.cfg.Shape.Record || m.cfg.Restore == nil || m.cfg.Replay != nil {
		return nil
	}
	m.recorder.Machine = m
	return &m.recorder
}

// endLog has QEMU finish its log, and end. It reports whether it does that.
func (m *Machine) endLog() bool {
	r := m.Recorder()
	select {
	case <-m.connected:
	default:
		return false // it has carried out nothing
	}
	return r != nil && m.qmp != nil && r.End(m.qmp, m.done, m.proc.Kill)
}

// Monitor returns the monitor, for a guest that is run again.
func (m *Machine) Monitor() *qmp.Client { return m.qmp }

// Tape opens what is needed to run a recorded guest again. It must be closed.
func (m *Machine) Tape() (*recording.Tape, error) {
	c, r := &m.cfg, m.cfg.Restore
	t := &recording.Tape{Done: m.done, StateAt: r.StateAt, StateLen: r.StateLen, Recorder: m.Recorder(),
		Manifest: recording.Manifest{VM: c.Name, QEMU: m.Version(), Program: c.Binary, Machine: c.Machine,
			Memory: c.Memory,
			Kernel: c.Kernel, Cmdline: c.cmdline(), FirmwareConsole: c.FirmwareConsole}}
	for _, at := range r.Changed {
		t.Changed = append(t.Changed, recording.Range(at))
	}
	var err, stateErr, logErr error
	t.Memory, err = dup(m.ram)
	t.State, stateErr = dup(m.state)
	t.Log, logErr = os.Open(c.logging().Path)
	if err = errors.Join(err, stateErr, logErr); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Icount implements recording.Counter.
func (m *Machine) Icount(ctx context.Context) (int64, error) { return recording.Icount(ctx, m.qmp) }
