package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
	"provium/internal/qmp"
)

// Template is a QEMU process that stands still with a guest in it, of which any number of guests
// can be made that go on from there. They share what they do not change, with the guest code that
// QEMU has translated. It is safe for concurrent use.
type Template struct {
	process proc.Template
	numbers fds    // of the files in the process
	agent   string // path of the socket of the original
	nics    []NIC  // of the original
	disks   []Disk // likewise
	base    int64  // where the process has mapped the guest's memory
	version string // of QEMU
	// booted is a template of a booted guest, whose memory it does not have: copies get the snapshot's,
	// which is the same. Others have what the guest had changed of the file that it was restored from.
	booted bool
}

// ErrNoTemplate is returned for a machine of which no template can be made.
var ErrNoTemplate = errors.New("qemu template: the machine has what no copy can have")

// MayHaveTemplate reports whether the machine is of the kind of which templates are made: those that
// are emulated, without what copies would share.
func (c *Config) MayHaveTemplate() bool {
	return c.Accel != "kvm" && !c.Vsock && c.RNGSeed == nil && !c.Shape.IsUEFI() && !c.Shape.CountsInstructions() &&
		!c.Shape.HasDisplay() && !c.Shape.HasTPM() && len(c.Shape.Args) == 0
}

// Template makes a template of the machine as it is now. The guest must be stopped, and may go on
// afterwards.
func (m *Machine) Template(ctx context.Context) (*Template, error) {
	original, ok := m.proc.(proc.Original)
	c := &m.cfg
	if !ok || !c.MayHaveTemplate() {
		return nil, ErrNoTemplate
	}
	t := &Template{numbers: m.numbers, agent: m.agent, base: m.ramBase.Load(), booted: c.Restore == nil,
		version: m.Version(), disks: m.disks.all()}
	if slices.ContainsFunc(t.disks, func(d Disk) bool { return d.Node > 0 }) {
		return nil, ErrNoTemplate // a copy would not have the names of its backends
	}
	shared := proc.SharedMemory{File: t.numbers.ram}
	if t.booted {
		var err error
		if t.base, err = m.ramAddress(ctx); err != nil {
			return nil, err
		}
		shared.At, shared.Length = t.base, c.Memory
	}
	if t.base == 0 {
		return nil, ErrNoTemplate
	}
	nics, release, quiet := m.holdNICs()
	defer release()
	if !quiet {
		return nil, ErrNoTemplate
	}
	t.nics = nics
	var err error
	if t.process, err = original.Template(shared); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the template. Guests that were made of it go on. It does nothing with nil.
func (t *Template) Close() {
	if t != nil {
		t.process.Close()
	}
}

// attach is what takes the place of qmp.Connect.
func (t *Template) attach(_ context.Context, conn net.Conn, onEvent func(Event)) (*qmp.Client, error) {
	return qmp.Attach(conn, onEvent, t.version), nil
}

// template returns the template of a Restore, nil without one.
func (r *Restore) template() *Template {
	if r == nil {
		return nil
	}
	return r.Template
}

// withoutTemplate returns r for the ordinary way.
func (r *Restore) withoutTemplate() *Restore {
	out := *r
	out.Template = nil
	return &out
}

// copyOf makes the process of a template. numbers are those of the child's files had they been
// passed to a new one.
func (m *Machine) copyOf(t *Template, child *childFiles, numbers fds, args []string) (proc.Process, error) {
	m.ramBase.Store(t.base)
	file := func(number, of int) proc.Replacement {
		return proc.Replacement{Number: number, File: child.files[of-3]}
	}
	c := proc.Copy{Dir: m.cfg.Dir, Args: append([]string{m.cfg.Binary}, args...), Stderr: m.stderr,
		Replaced: []proc.Replacement{file(t.numbers.qmp, numbers.qmp), file(t.numbers.serial, numbers.serial),
			file(t.numbers.hvc, numbers.hvc)}}
	if t.booted {
		c.Memory = &proc.PrivateMemory{File: m.ram, At: t.base, Length: m.cfg.Memory}
	}
	devices, err := m.connectDevices(t)
	defer func() {
		for _, r := range devices {
			r.File.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	c.Replaced = append(c.Replaced, devices...)
	listener, accepted, err := m.meetAgent()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	defer accepted.Close()
	c.Replaced = append(c.Replaced, proc.Replacement{Listener: t.agent, File: listener},
		proc.Replacement{Accepted: t.agent, File: accepted})
	return t.process.Copy(c)
}

// connectDevices makes the connections that QEMU would make for the NICs and disks, in place of those that the
// original had.
func (m *Machine) connectDevices(t *Template) (out []proc.Replacement, err error) {
	if len(t.nics) != len(m.cfg.NICs) || len(t.disks) != len(m.cfg.Disks) {
		return nil, ErrNoTemplate
	}
	for _, n := range m.cfg.NICs {
		at := slices.IndexFunc(t.nics, func(o NIC) bool { return o.Slot == n.Slot })
		if at < 0 {
			return out, ErrNoTemplate
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return out, fmt.Errorf("qemu network socket: %w", err)
		}
		out = append(out, proc.Replacement{Connected: t.nics[at].Socket, File: os.NewFile(uintptr(fd), n.Socket)})
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: n.Socket}); err != nil {
			return out, fmt.Errorf("qemu network socket: %w", err)
		}
	}
	for i := range m.cfg.Disks {
		d := &m.cfg.Disks[i]
		at := slices.IndexFunc(t.disks, func(o Disk) bool { return o.Slot == d.Slot })
		if at < 0 || d.Resume == nil {
			return out, ErrNoTemplate
		}
		conn, err := d.Resume()
		if err != nil {
			return out, err
		}
		out = append(out, proc.Replacement{Connected: t.disks[at].Socket, File: conn})
	}
	return out, nil
}

// meetAgent makes what QEMU has of an agent's port that is connected, and keeps our end.
func (m *Machine) meetAgent() (listener, accepted *os.File, err error) {
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("qemu agent port: %w", err)
	}
	listener = os.NewFile(uintptr(l), "listener")
	fail := func(err error) (*os.File, *os.File, error) {
		listener.Close()
		return nil, nil, fmt.Errorf("qemu agent port: %w", err)
	}
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: m.agent}); err != nil {
		return fail(err)
	}
	if err := unix.Listen(l, 1); err != nil { // as QEMU does
		return fail(err)
	}
	conn, err := m.dialAgent(context.Background()) // there is room for it
	if err != nil {
		return fail(err)
	}
	a, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		conn.Close()
		return fail(err)
	}
	m.early <- conn
	return listener, os.NewFile(uintptr(a), "agent"), nil
}
