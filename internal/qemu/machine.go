package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/beside"
	"provium/internal/hostload"
	"provium/internal/proc"
	"provium/internal/qemu/consolepipe"
	"provium/internal/qmp"
	"provium/internal/recording"
	"provium/internal/syncpoint"
	"provium/internal/tail"
)

// Event is an asynchronous message of QEMU.
type Event = qmp.Event

// StartError is a QEMU process that ended or hung before it answered.
type StartError struct {
	Err    error
	Stderr string // what QEMU printed
}

func (e *StartError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("qemu start: %v", e.Err)
	}
	said := syncpoint.WithRemedy(complaint(e.Stderr))
	if strings.Contains(said, "initrd is too large") {
		said = "memory is too small: " + said
	}
	return fmt.Sprintf("qemu start: %v: %s", e.Err, said)
}

func (e *StartError) Unwrap() error { return e.Err }

// Machine is a running QEMU process. It is safe for concurrent use.
type Machine struct {
	cfg    Config
	proc   proc.Process
	qmp    *qmp.Client
	ram    *os.File // the memfd, or the snapshot's file
	agent  string   // socket path
	serial *consolepipe.Pipe
	hvc    *consolepipe.Pipe
	// entropy is nil without a seed.
	entropy  *entropy
	pacer    *syncpoint.Pacer // nil unless the guest is deterministic
	beside   *beside.Programs
	recorder recording.Recorder
	stderr   *tail.Buffer
	cid      uint32 // on vsock, 0 without
	waits    hostload.Waits

	migration *migrationWatch
	deleted   deletionWatch
	altered   alteration
	gdb       gdbStub
	disks     present[Disk]
	nics      present[NIC]
	early     chan net.Conn // the agent port of a restored machine, until somebody wants it
	saved     []byte        // what SaveState returned since the vCPUs were stopped
	numbers   fds           // of the files in the process
	state     *os.File      // what it is restored from, nil for a booted one
	stateFD   int           // number in the QEMU process of the same
	ramBase   atomic.Int64  // where the process has mapped the memory of a restored guest

	connected chan struct{} // closed when qmp is settled: a client, or nil after a failed start
	abandoned bool          // settled, too: the ordinary way is taken instead

	readers sync.WaitGroup // console and entropy goroutines
	done    chan struct{}  // closed when the process was reaped and all output was delivered
	exit    error
}

// Start starts QEMU and returns when its monitor answers; the guest is running
// by then. The caller must Kill the machine and wait for Done.
func Start(ctx context.Context, config Config) (*Machine, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	cfg := config.withDefaults()
	cfg.withoutSandbox = cfg.Sandboxes.lacks(cfg.Binary)
	cfg.plugin = syncpoint.Interfaces[0]
	m, err := start(ctx, cfg)
	for _, version := range syncpoint.Interfaces[1:] {
		if cfg.Shape.IsDeterministic() && refusesPlugin(err) {
			cfg.plugin = version
			m, err = start(ctx, cfg)
		}
	}
	if err != nil && !cfg.withoutSandbox && ctx.Err() == nil && refusesSandbox(err) {
		cfg.withoutSandbox = true
		if m, err = start(ctx, cfg); err == nil {
			cfg.Sandboxes.lack(cfg.Binary)
		}
	}
	if err != nil && cfg.Restore.template() != nil && ctx.Err() == nil {
		cfg.Restore = cfg.Restore.withoutTemplate()
		return Start(ctx, cfg)
	}
	return m, err
}

// start starts QEMU once.
func start(ctx context.Context, cfg Config) (*Machine, error) {
	m := &Machine{cfg: cfg, agent: filepath.Join(cfg.Dir, "agent"), stderr: &tail.Buffer{Limit: 16 << 10},
		connected: make(chan struct{}), done: make(chan struct{}), early: make(chan net.Conn, 1)}
	var child childFiles
	defer child.close()
	if err := cfg.makeVars(); err != nil {
		return nil, err
	}
	ram, err := cfg.openRAM()
	if err != nil {
		return nil, err
	}
	m.ram = ram
	if cfg.Restore != nil {
		if m.state, err = dup(cfg.Restore.stateFile()); err != nil {
			ram.Close()
			return nil, err
		}
	}
	m.migration = newMigrationWatch(cfg.OnEvent)
	ends, numbers, err := m.wire(&child, ram)
	if err != nil {
		m.closeFiles()
		return nil, err
	}
	m.beside, err = beside.Start(cfg.Starter, cfg.Dir, &cfg.Shape)
	if err == nil {
		err = m.launch(&child, numbers)
	}
	if err != nil {
		_ = m.beside.Close()
		ends.close()
		m.closeFiles()
		return nil, &StartError{Err: err}
	}
	child.close()
	m.serve(ends)

	meet := qmp.Connect
	switch {
	case cfg.Restore.template() != nil:
		meet = cfg.Restore.Template.attach
	case cfg.Restore != nil:
		meet = qmp.Greet // load does the rest
	}
	m.qmp, err = meet(ctx, ends.qmp, m.onEvent)
	if err == nil && cfg.Restore.template() != nil {
		err = m.goOn(ctx)
		m.abandoned = err != nil
	}
	close(m.connected)
	if err != nil {
		m.Kill()
		<-m.done
		if ctx.Err() == nil && m.exit != nil {
			err = m.exit
		}
		return nil, &StartError{Err: err, Stderr: m.stderr.String()}
	}
	switch {
	case cfg.Restore == nil:
		return m.checked()
	case cfg.Restore.Template != nil:
		return m, nil
	}
	if err := m.load(ctx); err != nil {
		m.Kill()
		<-m.done
		return nil, m.loadError(ctx, err)
	}
	return m.checked()
}

// serve begins what the machine needs of us while it runs.
func (m *Machine) serve(ends *hostEnds) {
	for _, p := range []*consolepipe.Pipe{m.serial, m.hvc} {
		m.readers.Add(1)
		go func() {
			defer m.readers.Done()
			p.Run()
		}()
	}
	if ends.rng != nil {
		m.serveEntropy(ends.rng)
	}
	if m.cfg.Shape.IsDeterministic() {
		m.startPacer(ends.pacer)
	}
	m.beside.Watch(m.proc.Kill)
	go m.reap()
}

// launch starts the process, or makes it of a template.
func (m *Machine) launch(child *childFiles, numbers fds) (err error) {
	m.numbers = numbers
	m.nics.add(m.cfg.NICs...)
	m.disks.add(m.cfg.Disks...)
	args := m.cfg.args(numbers, m.agent)
	if t := m.cfg.Restore.template(); t != nil {
		m.numbers = t.numbers
		m.proc, err = m.copyOf(t, child, numbers, args)
		return err
	}
	cmd := exec.Command(m.cfg.Binary, args...)
	cmd.Dir = m.cfg.Dir
	cmd.ExtraFiles = child.files
	cmd.Stderr = m.stderr
	m.proc, err = m.cfg.Starter.Launch(cmd, m.cfg.opens(fmt.Sprintf("/proc/self/fd/%d", m.ram.Fd()))...)
	return err
}

// loadError adds to an error of load what the process has said. It has ended.
func (m *Machine) loadError(ctx context.Context, err error) error {
	var state *StateError
	switch {
	case errors.As(err, &state):
		if ctx.Err() == nil {
			state.Stderr = m.stderr.String()
		}
	case errors.Is(err, qmp.ErrClosed):
		if m.exit != nil {
			err = m.exit
		}
		return &StartError{Err: err, Stderr: m.stderr.String()}
	}
	return err
}

func (m *Machine) onEvent(e Event) {
	m.deleted.onEvent(e)
	m.recorder.OnEvent(e.Name)
	m.migration.onEvent(e)
}

// hostEnds are our ends of the connections to QEMU.
type hostEnds struct {
	qmp              net.Conn
	serial, hvc, rng *os.File
	pacer            pacerFiles
}

func (h *hostEnds) close() {
	if h.qmp != nil {
		h.qmp.Close()
	}
	h.pacer.close()
	for _, f := range []*os.File{h.serial, h.hvc, h.rng} {
		if f != nil {
			f.Close()
		}
	}
}

// childFiles collects the descriptors that QEMU inherits, from number 3 on.
type childFiles struct{ files []*os.File }

func (c *childFiles) add(f *os.File) int {
	c.files = append(c.files, f)
	return 2 + len(c.files)
}

// close closes our copies, but not the RAM, which stays ours (the first).
func (c *childFiles) close() {
	for i, f := range c.files {
		if i > 0 {
			f.Close()
		}
	}
	c.files = nil
}

// wire makes the socket pairs. Passing descriptors rather than paths leaves
// nothing in the file system and no window in which somebody else connects.
func (m *Machine) wire(child *childFiles, ram *os.File) (ends *hostEnds, n fds, err error) {
	ends = &hostEnds{}
	defer func() {
		if err != nil {
			ends.close()
		}
	}()
	n.ram = child.add(ram)
	pair := func(name string) (host *os.File, number int, err error) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, 0, fmt.Errorf("qemu %s socket: %w", name, err)
		}
		// Only our end may be non-blocking, which the runtime poller needs.
		if err := unix.SetNonblock(p[0], true); err != nil {
			return nil, 0, fmt.Errorf("qemu %s socket: %w", name, err)
		}
		return os.NewFile(uintptr(p[0]), name), child.add(os.NewFile(uintptr(p[1]), name)), nil
	}
	monitor, number, err := pair("qmp")
	if err != nil {
		return ends, n, err
	}
	n.qmp = number
	ends.qmp, err = net.FileConn(monitor)
	monitor.Close()
	if err != nil {
		return ends, n, fmt.Errorf("qemu qmp socket: %w", err)
	}
	output := pair
	if m.cfg.Shape.CountsInstructions() {
		output = child.pipe
	}
	if m.cfg.Shape.IsDeterministic() {
		if err := m.wirePacer(&ends.pacer, &n, pair, child); err != nil {
			return ends, n, err
		}
	}
	if ends.serial, n.serial, err = output("ttyS0"); err != nil {
		return ends, n, err
	}
	if ends.hvc, n.hvc, err = output("hvc0"); err != nil {
		return ends, n, err
	}
	if m.serial, err = consolepipe.New(ends.serial, m.cfg.Serial); err != nil {
		return ends, n, fmt.Errorf("qemu ttyS0 socket: %w", err)
	}
	if m.hvc, err = consolepipe.New(ends.hvc, m.cfg.HVC); err != nil {
		return ends, n, fmt.Errorf("qemu hvc0 socket: %w", err)
	}
	if m.cfg.RNGSeed != nil {
		if ends.rng, n.rng, err = pair("rng"); err != nil {
			return ends, n, err
		}
	}
	if m.cfg.Restore != nil {
		state, err := m.openState()
		if err != nil {
			return ends, n, err
		}
		n.state = child.add(state)
		m.stateFD = n.state
	}
	if m.cfg.Vsock {
		v, err := openVsock(uint32(os.Getpid()))
		if err != nil {
			return ends, n, err
		}
		n.vsock, n.cid, m.cid = child.add(v.device), v.cid, v.cid
	}
	return ends, n, nil
}

// closeFiles closes what was only read, or goes with the guest.
func (m *Machine) closeFiles() {
	m.ram.Close()
	if m.state != nil {
		m.state.Close()
	}
}

// newRAM makes the guest's memory. The memfd is sealed against a change of its
// size, on which QEMU would die by SIGBUS.
func newRAM(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("guest-ram", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("qemu ram: %w", err)
	}
	f := os.NewFile(uintptr(fd), "guest-ram")
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("qemu ram of %d bytes: %w", size, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		f.Close()
		return nil, fmt.Errorf("qemu ram seal: %w", err)
	}
	return f, nil
}

func (m *Machine) reap() {
	err := m.proc.Wait()
	if failed := m.beside.Close(); failed != nil {
		fmt.Fprintf(m.stderr, "\nqemu: %v", failed)
	}
	if err != nil {
		m.exit = fmt.Errorf("qemu ended: %w", err)
	}
	if m.pacer != nil {
		m.pacer.Close()
	}
	// QEMU's ends are closed now: the readers deliver what is left, then stop.
	m.readers.Wait()
	_ = m.serial.Close()
	_ = m.hvc.Close()
	<-m.connected
	if m.qmp != nil {
		<-m.qmp.Done()
		m.qmp.Close()
	}
	// A plugin that is refused is replaced with another one, as is a copy that does not go on.
	if m.cfg.OnExit != nil && !m.abandoned && (m.pacer == nil || !syncpoint.Refuses(m.stderr.String())) {
		m.cfg.OnExit(m)
	}
	m.closeFiles()
	select {
	case conn := <-m.early:
		conn.Close()
	default:
	}
	_ = os.Remove(m.agent)
	close(m.done)
}

// Done is closed when the process has ended, was reaped, and every byte of its
// console and every event was delivered.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Exit tells, after Done or in OnExit, how the process ended: nil for a clean exit. Stderr
// is the end of what it printed.
func (m *Machine) Exit() (stderr string, err error) { return m.stderr.String(), m.exit }

// Kill ends the process: at once, unless it has a log to complete. It does nothing when the process has ended.
func (m *Machine) Kill() {
	if !m.endLog() {
		m.proc.Kill()
	}
}

// PID returns the process id on the host.
func (m *Machine) PID() int { return m.proc.PID() }

// CID returns the guest's id on vsock, 0 when its agent is reached by the port.
func (m *Machine) CID() uint32 { return m.cid }

// Accel is the accelerator in use, "kvm" or "tcg".
func (m *Machine) Accel() string { return m.cfg.Accel }

// dialStep is how long a connection waits for its turn before the context is
// looked at again.
const dialStep = time.Second

// DialAgent connects to the agent's port. QEMU takes one connection at a time
// and keeps two more waiting; a further one waits here. Bytes sent before the
// guest opens the port wait in the socket.
func (m *Machine) DialAgent(ctx context.Context) (net.Conn, error) {
	if m.pacer != nil {
		return m.pacer.Dial(), nil
	}
	select {
	case conn := <-m.early:
		return conn, nil
	default:
		return m.dialAgent(ctx)
	}
}

func (m *Machine) dialAgent(ctx context.Context) (net.Conn, error) {
	// A non-blocking connect would fail with EAGAIN while the queue is full.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("qemu agent port dial: %w", err)
	}
	f := os.NewFile(uintptr(fd), m.agent)
	defer f.Close()
	step := unix.NsecToTimeval(int64(dialStep))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &step); err != nil {
		return nil, fmt.Errorf("qemu agent port dial: %w", err)
	}
	for {
		err := unix.Connect(fd, &unix.SockaddrUnix{Name: m.agent})
		if err == nil {
			break
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return nil, fmt.Errorf("qemu agent port dial: %w", err)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("qemu agent port dial: %w", context.Cause(ctx))
		}
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("qemu agent port dial: %w", err)
	}
	return conn, nil
}

// WriteConsole sends input to ttyS0, or to hvc0. It blocks while the guest does not
// read, or another call writes, until ctx ends. It returns how many bytes were taken.
func (m *Machine) WriteConsole(ctx context.Context, hvc bool, data []byte) (int, error) {
	p := m.serial
	if hvc {
		p = m.hvc
	}
	n, err := p.Write(ctx, data)
	if err != nil {
		return n, fmt.Errorf("qemu console write: %w", err)
	}
	return n, nil
}

// SyncConsole delivers what the guest has printed so far to Config.Serial and Config.HVC.
func (m *Machine) SyncConsole() {
	m.serial.Sync()
	m.hvc.Sync()
}

func (m *Machine) monitor() monitor { return monitor{m.qmp} }

// Stop stops the vCPUs, Cont starts them again, Reset presses the reset
// button, PowerDown the ACPI power button, Wakeup ends suspend-to-RAM. All
// return when QEMU has taken the command, not when the guest has reacted.
func (m *Machine) Stop(ctx context.Context) error {
	if m.pacer != nil {
		return m.pacer.Stop(ctx, func() error { return m.monitor().run(ctx, "stop") })
	}
	return m.monitor().run(ctx, "stop")
}

// Cont starts the vCPUs.
func (m *Machine) Cont(ctx context.Context) error {
	m.saved = nil
	return m.monitor().run(ctx, "cont")
}

// Reset presses the reset button, whose reset would be held, too.
func (m *Machine) Reset(ctx context.Context) error {
	return m.monitor().all(ctx, setAction(false), qmp.Command{Name: "system_reset"}, setAction(m.HoldsEnd()))
}

// PowerDown presses the ACPI power button.
func (m *Machine) PowerDown(ctx context.Context) error {
	return m.monitor().run(ctx, "system_powerdown")
}

// HoldsEnd reports whether the machine always stands still where the guest resets it or powers it off, as HoldEnd has
// it. One that is recorded does not, since what the host does then is not in its log.
func (m *Machine) HoldsEnd() bool { return !m.cfg.Shape.Record }

// HoldEnd sets whether the machine stands still where the guest resets it or powers it off, with all
// that is in its memory. QEMU's event is SHUTDOWN then. Reset and Cont make the reset, Quit the end.
func (m *Machine) HoldEnd(ctx context.Context, hold bool) error {
	return m.monitor().all(ctx, setAction(hold))
}

// Quit has QEMU end in good order.
func (m *Machine) Quit(ctx context.Context) error { return m.monitor().run(ctx, "quit") }

// Wakeup ends suspend-to-RAM.
func (m *Machine) Wakeup(ctx context.Context) error {
	return m.monitor().run(ctx, "system_wakeup")
}

// CanWake reports whether a guest can come back from suspend-to-RAM. The firmware
// wakes it after a reset of the machine, at which QEMU loads an ELF kernel into
// the guest's memory again, over the one that sleeps there.
func (m *Machine) CanWake() bool {
	f, err := os.Open(m.cfg.Kernel)
	if err != nil {
		return true
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err != nil || string(magic[:]) != "\x7fELF"
}

// Status is QEMU's run state, e.g. "running", "paused", "suspended".
func (m *Machine) Status(ctx context.Context) (string, error) { return m.monitor().status(ctx) }

// complaint is the line of QEMU's standard error that says what is wrong: the
// last one that begins with the program's name, since hints may follow it, or
// the last one.
func complaint(stderr string) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	for _, l := range slices.Backward(lines) {
		if name, text, ok := strings.Cut(l, ": "); ok && strings.HasPrefix(filepath.Base(name), "qemu") {
			return text
		}
	}
	return lines[len(lines)-1]
}
