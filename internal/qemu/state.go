package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/qmp"
)

// Restore is a saved machine. Config's other fields must describe the machine
// that was saved. The file stays the caller's and may be closed after Start.
type Restore struct {
	// File holds the guest's memory from byte 0 on. It is mapped copy-on-write:
	// QEMU needs the right to write to it, but never does; nobody else may
	// either while the machine runs.
	File *os.File
	// State holds the result of SaveState, at StateAt and StateLen bytes long; nil is
	// File. It is the caller's, as File is.
	State             *os.File
	StateAt, StateLen int64
	// Changed are the parts of the memory that State holds, at their own offsets, in
	// place of File's.
	Changed []Range
	// UUID is where in the memory a UUID lies that is replaced with a new one; 0: nowhere.
	UUID int64
	// Check is asked before anything is loaded whether a QEMU of this version
	// will do; nil accepts any.
	Check func(version string) error
	// Loaded is called when the state is loaded, before the guest goes on; nil for nothing.
	// QEMU has opened the disks by then, which it has not when Check is asked.
	Loaded func()
	// Keep gets a template of the machine as it was loaded, which is the caller's; nil: none is made.
	Keep func(*Template)
	// Hold leaves the guest stopped, for a later Cont.
	Hold bool
	// Template is of the same saved machine; the guest is made of it if that is possible. May be nil.
	Template *Template
}

// maxState caps what a machine may have in device state, in bytes. Real ones
// have some 600 KiB, most of which is firmware.
const maxState = 64 << 20

// StateError is a machine that could not be saved or loaded.
type StateError struct {
	Op     string // "save" or "load"
	Err    error
	Stderr string // what QEMU printed
}

func (e *StateError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("qemu state %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("qemu state %s: %v: %s", e.Op, e.Err, complaint(e.Stderr))
}

func (e *StateError) Unwrap() error { return e.Err }

// openRAM opens the file behind the guest's memory.
func (c *Config) openRAM() (*os.File, error) {
	if c.Restore == nil {
		return newRAM(c.Memory)
	}
	return dup(c.Restore.File)
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("qemu dup %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// openState opens what the machine is restored from once more, so that QEMU
// reads on from a position of its own.
func (r *Restore) openState() (*os.File, error) {
	if r.StateLen < 0 || r.StateLen > maxState {
		return nil, &StateError{Op: "load",
			Err: fmt.Errorf("%d bytes of state, at most %d are possible", r.StateLen, maxState)}
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", r.stateFile().Fd()))
	if err == nil {
		_, err = f.Seek(r.StateAt, io.SeekStart)
	}
	if err != nil {
		return nil, &StateError{Op: "load", Err: err}
	}
	return f, nil
}

// migrationWatch catches QEMU's reports on saving and loading and passes every
// event on.
type migrationWatch struct {
	next func(Event)

	mu      sync.Mutex
	status  string
	changed chan struct{} // closed at the next change
}

func newMigrationWatch(next func(Event)) *migrationWatch {
	return &migrationWatch{next: next, changed: make(chan struct{})}
}

func (w *migrationWatch) onEvent(e Event) {
	if e.Name == "MIGRATION" {
		var d struct{ Status string }
		if err := json.Unmarshal(e.Data, &d); err == nil {
			w.mu.Lock()
			w.status = d.Status
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
		}
	}
	if w.next != nil {
		w.next(e)
	}
}

// isIdle reports whether QEMU has neither saved nor loaded anything.
func (w *migrationWatch) isIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status == ""
}

// forget makes wait look only at what comes from now on.
func (w *migrationWatch) forget() {
	w.mu.Lock()
	w.status = ""
	w.mu.Unlock()
}

// wait returns when QEMU has finished.
func (w *migrationWatch) wait(ctx context.Context, gone <-chan struct{}) error {
	for {
		w.mu.Lock()
		status, changed := w.status, w.changed
		w.mu.Unlock()
		switch status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return errors.New("qemu reports that it " + status)
		}
		select {
		case <-changed:
		case <-gone:
			return errors.New("qemu ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// prepare sets how state is saved and loaded: without the RAM, and with reports.
func (m *Machine) prepare(ctx context.Context) error {
	return m.monitor().all(ctx, stateCapabilities())
}

func stateCapabilities() qmp.Command { return setCapabilities("events", "x-ignore-shared") }

// load takes the machine over into this process, which has greeted, and, unless it is held,
// sets it going.
func (m *Machine) load(ctx context.Context) error {
	r := m.cfg.Restore
	if r.Check != nil {
		if err := r.Check(m.qmp.Version()); err != nil {
			return err
		}
	}
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &StateError{Op: "load", Err: err}
	}
	// A guest that was saved with a connected agent port and is loaded with one
	// does not even see that it is another connection, which spares it work. QEMU
	// accepts the connection before it has carried out the first two commands.
	if m.dialsAgent() {
		early, err := m.dialAgent(ctx)
		if err != nil {
			return fail(err)
		}
		m.early <- early
	}
	if err := m.loadState(ctx); err != nil {
		var refused *qmp.Error
		if m.migration.isIdle() && !errors.As(err, &refused) && ctx.Err() == nil {
			return err // it ended before it had made its machine
		}
		return fail(err)
	}
	if err := m.goOn(ctx); err != nil {
		return fail(err)
	}
	return nil
}

// goOn makes the machine, which has its state, the guest's own and, unless it is held, sets it going.
func (m *Machine) goOn(ctx context.Context) error {
	r := m.cfg.Restore
	if r.Keep != nil {
		if t, err := m.Template(ctx); err == nil { // without one, the file will do
			r.Keep(t)
		}
	}
	if r.UUID != 0 {
		if err := m.replaceUUID(ctx); err != nil {
			return err
		}
	}
	if r.Loaded != nil {
		r.Loaded()
	}
	if r.Hold {
		return nil
	}
	return m.Cont(ctx)
}

// loadState has QEMU load the state as soon as it can. All commands are sent at once: what
// QEMU does between two of them, e.g. freeing memory, would delay the load.
func (m *Machine) loadState(ctx context.Context) error {
	r := m.cfg.Restore
	var ports []chardev
	var address string
	// A restored machine is where it was: it announces itself to nobody. Else it would do so for a second, with the
	// MACs of its command line, also for NICs that come later, and so would its copies, whose guests have other MACs.
	commands := []qmp.Command{{Name: qmp.Negotiate}, stateCapabilities(), setAnnounceRounds(0)}
	if m.dialsAgent() {
		commands = append(commands, queryChardevs(&ports))
	}
	commands = append(commands, hmp(m.cfg.addressCommand(), &address))
	begin := migrateIncoming(fmt.Sprintf("fd:%d", m.stateFD))
	if len(r.Changed) == 0 {
		commands = append(commands, begin)
	}
	if err := m.monitor().all(ctx, commands...); err != nil {
		return err
	}
	base, addressErr := parseAddress(address)
	if addressErr == nil {
		m.ramBase.Store(base)
	} else if r.UUID != 0 || len(r.Changed) > 0 {
		return addressErr
	}
	for m.dialsAgent() && !agentAccepted(ports) {
		if err := m.monitor().all(ctx, queryChardevs(&ports)); err != nil {
			return err
		}
	}
	if len(r.Changed) > 0 { // devices look at the memory when they are loaded
		if err := m.overlay(ctx); err != nil {
			return err
		}
		if err := m.monitor().all(ctx, begin); err != nil {
			return err
		}
	}
	if err := m.migration.wait(ctx, m.qmp.Done()); err != nil {
		return err
	}
	return m.startTimers(ctx)
}

// dialsAgent reports whether the agent's port is connected when somebody wants it, and not by the start of QEMU.
func (m *Machine) dialsAgent() bool { return !m.cfg.Vsock && m.pacer == nil }

// agentAccepted reports whether QEMU has seen that the agent's port is connected.
func agentAccepted(ports []chardev) bool {
	return slices.ContainsFunc(ports, func(p chardev) bool {
		return p.Label == agentChardev && !strings.HasPrefix(p.Filename, "disconnected:")
	})
}

// Version is QEMU's version.
func (m *Machine) Version() string { return m.qmp.Version() }

// SaveState returns the state of everything but RAM. The guest must be stopped,
// and may go on afterwards. Calls must not overlap.
func (m *Machine) SaveState(ctx context.Context) ([]byte, error) {
	// QEMU saves a machine once until it has run again.
	if m.saved != nil {
		return m.saved, nil
	}
	if err := errors.Join(m.altered.check(), m.saveable()); err != nil {
		return nil, &StateError{Op: "save", Err: err}
	}
	save := m.saveBooted
	if m.cfg.Restore != nil {
		save = m.saveRestored
	}
	state, err := save(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, &StateError{Op: "save", Err: err}
	}
	m.saved = state
	return state, nil
}

// saveBooted saves a machine whose RAM is shared, and thus left out.
func (m *Machine) saveBooted(ctx context.Context) ([]byte, error) {
	if err := m.prepare(ctx); err != nil {
		return nil, err
	}
	path := filepath.Join(m.cfg.Dir, "state")
	// One is in the way where its removal, or only its listen, has failed before.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	type result struct {
		state []byte
		err   error
	}
	received := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			received <- result{err: err}
			return
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		state, err := readState(conn)
		received <- result{state, err}
	}()
	m.migration.forget()
	err = m.monitor().migrate(ctx, "unix:"+path)
	if err == nil {
		err = m.migration.wait(ctx, m.qmp.Done())
	}
	defer l.Close()
	if err != nil {
		l.Close() // ends an Accept that nobody came to
		if r := <-received; r.err != nil && !errors.Is(r.err, net.ErrClosed) {
			err = errors.Join(err, r.err)
		}
		return nil, err
	}
	// QEMU has connected, which Accept may not have seen yet: a small state fits into
	// the socket's buffer.
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	r := <-received
	if errors.Is(r.err, net.ErrClosed) && ctx.Err() != nil {
		r.err = context.Cause(ctx)
	}
	return r.state, r.err
}

func readState(r io.Reader) ([]byte, error) {
	state, err := io.ReadAll(io.LimitReader(r, maxState+1))
	if err == nil && len(state) > maxState {
		err = fmt.Errorf("more than %d bytes", maxState)
	}
	return state, err
}

// saveRestored saves a machine whose RAM is a private copy. The ordinary way
// would carry all of that along, so only the devices are saved, and the part
// before them, with the firmware's memory, is taken from what the machine was
// restored from: firmware is read-only.
func (m *Machine) saveRestored(ctx context.Context) ([]byte, error) {
	path := filepath.Join(m.cfg.Dir, "devices")
	defer os.Remove(path)
	if err := m.monitor().saveDevices(ctx, path); err != nil {
		return nil, nameFullDisk(err, m.cfg.Dir)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	devices, err := readState(f)
	if err != nil {
		return nil, err
	}
	origin := make([]byte, m.cfg.Restore.StateLen)
	if _, err := m.state.ReadAt(origin, m.cfg.Restore.StateAt); err != nil {
		return nil, err
	}
	vars, err := m.savedVars(origin)
	if err != nil {
		return nil, err
	}
	video, err := m.savedVideo(ctx, origin)
	if err != nil {
		return nil, err
	}
	return joinState(origin, append(vars, video...), devices)
}

// leastSpace is more than what the state of a machine's devices takes, in bytes.
const leastSpace = 4 << 20

// nameFullDisk returns the error of QEMU, which does not say why it could not write a file
// in dir, with that reason if it is a full disk.
func nameFullDisk(err error, dir string) error {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil && int64(st.Bavail)*int64(st.Bsize) < leastSpace {
		return fmt.Errorf("%w in %s (set TMPDIR to another directory): %w", unix.ENOSPC, dir, err)
	}
	return err
}

// joinState puts the sections of devices behind the RAM sections of origin. Both
// are streams of one machine, and their first device section begins alike: type,
// section id, length of the name, name, instance, version (QEMU migration/savevm.c).
// More sections of RAM go between them.
func joinState(origin, more, devices []byte) ([]byte, error) {
	const header = 8 // magic and version of a stream
	const fixed = 1 + 4 + 1
	if len(devices) < header+fixed || !bytes.HasPrefix(origin, devices[:header]) {
		return nil, errors.New("the streams do not begin alike")
	}
	n := header + fixed + int(devices[header+fixed-1]) + 8
	if len(devices) < n {
		return nil, errors.New("the device stream ends early")
	}
	first := devices[header:n]
	at := bytes.Index(origin, first)
	if at < header || bytes.Contains(origin[at+1:], first) {
		return nil, errors.New("the devices cannot be told from memory in the stream")
	}
	return slices.Concat(origin[:at], more, devices[header:]), nil
}

// RAM is the file behind the guest's memory: all of it for a booted machine,
// what it was restored from for a restored one. It is open until Done.
func (m *Machine) RAM() *os.File { return m.ram }
