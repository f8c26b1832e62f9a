package localvmm

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Guest is what runs in a machine. Its methods are called from goroutines of the
// machine.
type Guest interface {
	// Serve serves one connection to the agent's port until it ends. It is called
	// for one connection at a time.
	Serve(ctx context.Context, conn net.Conn)
	// Boot starts the guest anew, after a reset too.
	Boot()
	// Save returns the guest's state, Load takes that of another one.
	Save() ([]byte, error)
	Load(state []byte) error
	// PowerButton reports whether the guest powers off at the ACPI power button.
	PowerButton() bool
	// Command is asked before a monitor command is carried out.
	Command(name string) Reply
}

// Reply says what happens to a monitor command. Its zero value carries it out.
type Reply struct {
	Refuse string          // QEMU's error text; "" is no error
	Silent bool            // no answer ever comes, and nothing is done
	Die    bool            // the machine ends in place of an answer
	Before <-chan struct{} // waited for before the command is carried out; nil does not wait
}

// Run states of QEMU.
const (
	statusRunning   = "running"
	statusPaused    = "paused"
	statusShutdown  = "shutdown"
	statusPrelaunch = "prelaunch"
	statusSuspended = "suspended"
	statusIncoming  = "inmigrate"
)

// Machine is a machine without CPUs; it implements proc.Process. It is safe for
// concurrent use.
type Machine struct {
	pid    int
	opts   *options
	guest  Guest
	stderr io.Writer
	files  files
	memory memory

	killed chan struct{} // closed when the machine is to end
	work   sync.WaitGroup

	monitor  monitor
	consoles [2]console // ttyS0, hvc0
	nics     nics

	mu        sync.Mutex
	exit      error // how it ended
	over      bool
	status    string
	held      bool // the machine stands still where the guest ends
	connected bool // somebody is connected to the agent's port
	registers string
	changed   chan struct{}
}

// PID returns a number that no other machine of this process has.
func (m *Machine) PID() int { return m.pid }

// Dir returns the directory in /proc that shows the machine's memory: ours.
func (m *Machine) Dir() string { return "/proc/self" }

// SetRegisters sets what the monitor prints of the CPUs; they have no registers before.
func (m *Machine) SetRegisters(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registers = text
}

// registersText returns what was set.
func (m *Machine) registersText() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registers
}

// Name returns the name of the machine.
func (m *Machine) Name() string { return m.opts.name }

// Cmdline returns the kernel command line.
func (m *Machine) Cmdline() string { return m.opts.cmdline }

// Restored reports whether the machine was made to load a saved one.
func (m *Machine) Restored() bool { return m.opts.incoming }

// Kill ends the machine, as SIGKILL ends QEMU.
func (m *Machine) Kill() { m.End(errors.New("signal: killed")) }

// End ends the machine; how is what Wait returns, nil for exit code 0. Only the
// first call counts.
func (m *Machine) End(how error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.over {
		m.over, m.exit = true, how
		close(m.killed)
	}
}

// Ended reports whether the machine has ended, or is about to.
func (m *Machine) Ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over
}

// Complain writes to QEMU's standard error.
func (m *Machine) Complain(text string) {
	if m.stderr != nil {
		_, _ = io.WriteString(m.stderr, text)
	}
}

// Wait waits for the end of the machine and everything in it.
func (m *Machine) Wait() error {
	m.work.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

// run serves the machine until it is killed.
func (m *Machine) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var parts sync.WaitGroup
	start := func(part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				m.Complain("qemu-system-x86_64: " + err.Error() + "\n")
				m.End(errors.New("exit status 1"))
			}
		})
	}
	agent, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.opts.agent, Net: "unix"})
	if err == nil {
		err = m.memory.open(m.files.byFD[m.opts.fds["ram"]], m.opts.memory, m.opts.shared)
	}
	if err != nil {
		start(func() error { return err })
	} else {
		if !m.opts.incoming {
			m.guest.Boot() // before the host can connect to its agent
		}
		for i, name := range [...]string{"ttyS0", "hvc0"} {
			c := &m.consoles[i]
			// What a command prints is there before its result: the agent is served later.
			err := c.open(m.take(m.opts.fds[name]))
			start(func() error {
				if err == nil {
					c.serve()
				}
				return err
			})
		}
		start(func() error { return m.monitor.serve(m, m.take(m.opts.fds["qmp"])) })
		start(func() error { m.serveAgent(ctx, agent); return nil })
		for id, path := range m.opts.nics {
			if err := m.nics.plug(m, id, path); err != nil {
				start(func() error { return err })
			}
		}
	}
	<-m.killed
	cancel()
	m.monitor.close()
	for i := range m.consoles {
		m.consoles[i].close()
	}
	m.nics.close()
	if agent != nil {
		agent.Close()
	}
	parts.Wait()
	m.closeFiles()
	m.memory.close()
}

// serveAgent accepts one connection after the other.
func (m *Machine) serveAgent(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		m.setConnected(true)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		m.guest.Serve(ctx, conn)
		stop()
		conn.Close()
		m.setConnected(false)
	}
}

func (m *Machine) setConnected(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connected = is
}

// setStatus changes the run state and wakes those who wait for one.
func (m *Machine) setStatus(status string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = status
	close(m.changed)
	m.changed = make(chan struct{})
}

// Status returns the run state, as query-status does.
func (m *Machine) Status() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// AwaitRunning waits until the vCPUs run: what a guest does, it does then.
func (m *Machine) AwaitRunning(ctx context.Context) error {
	for {
		m.mu.Lock()
		status, changed := m.status, m.changed
		m.mu.Unlock()
		if status == statusRunning {
			return nil
		}
		select {
		case <-changed:
		case <-m.killed:
			return net.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Event sends an event to the host.
func (m *Machine) Event(name string, data map[string]any) {
	now := time.Now()
	e := map[string]any{"event": name, "timestamp": map[string]int64{"seconds": now.Unix(),
		"microseconds": int64(now.Nanosecond() / 1000)}}
	if data != nil {
		e["data"] = data
	}
	m.monitor.send(e)
}

// Reset resets the guest, as the guest itself does by a reboot (byGuest), or the
// host by the reset button.
func (m *Machine) Reset(byGuest bool) {
	if byGuest && (m.AwaitRunning(context.Background()) != nil || m.standsStill(true, "guest-reset")) {
		return
	}
	if m.Status() == statusShutdown {
		m.setStatus(statusPrelaunch) // until the host sends cont
	} else {
		m.setStatus(statusRunning)
	}
	m.guest.Boot()
	reason := "host-qmp-system-reset"
	if byGuest {
		reason = "guest-reset"
	}
	m.Event("RESET", map[string]any{"guest": byGuest, "reason": reason})
}

// turn starts the vCPUs, or stops them. It returns what follows the answer.
func (m *Machine) turn(on bool) (after func(), err error) {
	ended := m.Status() == statusShutdown
	switch {
	case on && ended:
		//lint:ignore ST1005 these are QEMU's words
		return nil, errors.New("Resetting the Virtual Machine is required")
	case on:
		m.setStatus(statusRunning)
		return func() { m.Event("RESUME", nil) }, nil
	case ended:
		return nil, nil
	}
	m.setStatus(statusPaused)
	return func() { m.Event("STOP", nil) }, nil
}

// pressReset presses the reset button, whose reset the machine holds as it does the guest's.
func (m *Machine) pressReset() {
	if !m.standsStill(false, "host-qmp-system-reset") {
		m.Reset(false)
	}
}

func (m *Machine) setHeld(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
}

// standsStill stops the machine in place of what the guest does, if it is to do so.
func (m *Machine) standsStill(byGuest bool, reason string) bool {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held {
		m.setStatus(statusShutdown)
		m.Event("SHUTDOWN", map[string]any{"guest": byGuest, "reason": reason})
	}
	return held
}

// PowerOff ends the machine as a guest does that powers off.
func (m *Machine) PowerOff() {
	if m.standsStill(true, "guest-shutdown") {
		return
	}
	m.Event("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-shutdown"})
	m.End(nil)
}

// Suspend puts the guest to sleep (S3).
func (m *Machine) Suspend() {
	m.setStatus(statusSuspended)
	m.Event("SUSPEND", nil)
}

// PortChanged tells the host that the guest has opened or closed the agent's port.
func (m *Machine) PortChanged(open bool) {
	m.Event("VSERPORT_CHANGE", map[string]any{"id": "agentport", "open": open})
}
