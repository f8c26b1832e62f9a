package fakemachine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"provium/internal/localvmm"
	"provium/internal/wire"
)

// AgentFault is what is wrong with a machine's agent.
type AgentFault int

// The faults of agents.
const (
	AgentWorks      AgentFault = iota
	AgentSilent                // answers nothing, as a guest does that hangs
	AgentHangsUp               // closes the connection at once
	AgentOfVersion0            // speaks another version of the protocol
	AgentTalksNoise            // breaks the protocol after the handshake
)

// OpFunc carries out an operation in place of the fake agent.
type OpFunc func(ctx context.Context, op *localvmm.Op) (wire.Value, *wire.Error)

// Machine is a running machine as a test sees it. It is safe for concurrent use.
type Machine struct {
	*localvmm.Machine
	Files *Files // of the guest

	mu          sync.Mutex
	faults      map[string]localvmm.Reply // by monitor command
	commands    []string                  // that came
	requests    []wire.Request            // that came
	agent       AgentFault
	agentAtBoot *AgentFault // replaces agent at the next boot; nil keeps it
	ops         map[string]OpFunc
	programs    map[string]Program
	syscalls    map[int64]SyscallFunc
	stubborn    bool // ignores the power button
	conn        net.Conn
	stop        context.CancelFunc // ends the agent's present session
	panicked    bool
	stopped     chan struct{} // closed when that has ended
	agentID     string
	agents      int                // how often an agent was taken away
	served      int                // connections of the host that an agent has had
	thawed      chan struct{}      // closed when the agent goes on; nil if it is not stopped
	closed      bool               // no agent has the port open, though the guest runs
	opened      context.CancelFunc // ends the wait for the next agent
	boots       int
	started     bool          // booted, or loaded from a snapshot
	guest       *state        // of this boot
	ahead       time.Duration // of the guest's clocks since its boot
	clockShift  int64         // of the wall clock against the host's, in nanoseconds
	entropy     [][]byte
}

func newMachine(m *localvmm.Machine) *Machine {
	out := &Machine{Machine: m, faults: map[string]localvmm.Reply{}, ops: map[string]OpFunc{},
		programs: map[string]Program{},
		syscalls: map[int64]SyscallFunc{}, Files: newFiles()}
	out.guest = newState()
	return out
}

// OnCommand has a monitor command answered in that way from now on.
func (m *Machine) OnCommand(name string, how localvmm.Reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[name] = how
}

// Commands returns the names of the monitor commands that came so far.
func (m *Machine) Commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.commands)
}

// Requests returns the requests that came to the agent so far.
func (m *Machine) Requests() []wire.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.requests)
}

// Asked returns how many requests for an operation, named as on the wire, came so far.
func (m *Machine) Asked(op string) int {
	n := 0
	for _, r := range m.Requests() {
		if r.Op() == op {
			n++
		}
	}
	return n
}

// SetAgent changes what is wrong with the agent, for connections from now on.
func (m *Machine) SetAgent(f AgentFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = f
}

// SetAgentOfNextBoot is SetAgent for connections from the next boot on.
func (m *Machine) SetAgentOfNextBoot(f AgentFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agentAtBoot = &f
}

// OnOp has an operation, named as on the wire, carried out by do; nil gives it back
// to the fake agent.
func (m *Machine) OnOp(name string, do OpFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops[name] = do
}

// Block has operations wait until they are cancelled.
func (m *Machine) Block(names ...string) {
	for _, name := range names {
		m.OnOp(name, func(ctx context.Context, _ *localvmm.Op) (wire.Value, *wire.Error) {
			<-ctx.Done()
			return nil, Errno(wireECANCELED)
		})
	}
}

// Hang is an OpFunc that answers when the host gives up.
func Hang(ctx context.Context, _ *localvmm.Op) (wire.Value, *wire.Error) {
	<-ctx.Done()
	return nil, Errno(wireECANCELED)
}

// Held returns an OpFunc that succeeds when until is closed, or answers when the host gives up.
func Held(until <-chan struct{}) OpFunc {
	return func(ctx context.Context, op *localvmm.Op) (wire.Value, *wire.Error) {
		select {
		case <-until:
			return nil, nil
		case <-ctx.Done():
			return Hang(ctx, op)
		}
	}
}

// Refuse returns an OpFunc that fails with a Linux errno.
func Refuse(errno uint32) OpFunc {
	return func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) { return nil, Errno(errno) }
}

// Fail returns an OpFunc that fails with a Linux errno.
func Fail(errno uint32) OpFunc {
	return func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) { return nil, Errno(errno) }
}

const wireECANCELED = 125

// Errno is a failure with a Linux errno.
func Errno(n uint32) *wire.Error { return wire.ErrnoError(n) }

// IgnorePowerButton keeps the guest running at the ACPI power button.
func (m *Machine) IgnorePowerButton() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stubborn = true
}

// DropLink closes the present connection of the agent, as a crash of it does.
func (m *Machine) DropLink() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
	}
}

// WriteNoise writes to the agent's port what is no frame, as another program could.
func (m *Machine) WriteNoise() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		_, _ = m.conn.Write([]byte("garbage garbage garbage garbage garbage")) // the link is to end
	}
}

// Panic prints a kernel panic. The agent answers nothing until the next boot.
func (m *Machine) Panic(why string) {
	m.mu.Lock()
	m.panicked = true
	m.mu.Unlock()
	m.Print(false, "[    1.000000] Kernel panic - not syncing: "+why+
		"\n[    1.000000] ---[ end Kernel panic - not syncing: "+why+" ]---\n")
}

// StopAgent has the agent answer nothing and take nothing more, as SIGSTOP does, until the
// next boot.
func (m *Machine) StopAgent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.thawed == nil {
		m.thawed = make(chan struct{})
	}
}

// StopAgentAt has operations of those names, as on the wire, stop the agent before they are
// answered.
func (m *Machine) StopAgentAt(names ...string) {
	for _, name := range names {
		m.OnOp(name, func(ctx context.Context, op *localvmm.Op) (wire.Value, *wire.Error) {
			m.StopAgent()
			return Hang(ctx, op)
		})
	}
}

// thaw ends what StopAgent began. The caller must hold m.mu.
func (m *Machine) thaw() {
	if m.thawed != nil {
		close(m.thawed)
		m.thawed = nil
	}
}

// await waits until the vCPUs run and the agent is not stopped.
func (m *Machine) await(ctx context.Context) error {
	if err := m.AwaitRunning(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	thawed := m.thawed
	m.mu.Unlock()
	if thawed == nil {
		return nil
	}
	select {
	case <-thawed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Crash ends QEMU with a message on its standard error.
func (m *Machine) Crash(message string) {
	m.Complain("qemu-system-x86_64: " + message + "\n")
	m.End(errors.New("exit status 1"))
}

// Reboot restarts the guest from inside, as a reboot call does, or its kernel after a panic.
func (m *Machine) Reboot() {
	_ = m.AwaitRunning(context.Background()) // or it has ended, and says nothing
	m.mu.Lock()
	panicked := m.panicked
	m.mu.Unlock()
	if !panicked {
		m.Print(false, "[   12.000000] reboot: Restarting system\n")
	}
	m.RebootSilently()
}

// RebootSilently restarts the guest from inside without a word, as a triple fault does, or a kernel
// with panic=-1.
func (m *Machine) RebootSilently() { m.Reset(true) }

// Boots returns how often the guest has started.
func (m *Machine) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

// Served returns how many connections of the host agents have had.
func (m *Machine) Served() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served
}

// Entropy returns what the host has mixed into the guest's random generator.
func (m *Machine) Entropy() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.entropy)
}

// guest is the Machine as package localvmm sees it.
type guest struct{ m *Machine }

// Boot begins with an empty guest. The agent of the boot before is gone without a
// trace on its connection.
func (g *guest) Boot() {
	m := g.m
	m.mu.Lock()
	m.boots++
	if m.agentAtBoot != nil {
		m.agent, m.agentAtBoot = *m.agentAtBoot, nil
	}
	old := m.guest
	m.guest, m.panicked = newState(), false
	m.thaw()
	m.clockShift = 0
	m.agentID = fmt.Sprintf("boot %d of %d", m.boots, m.PID())
	m.closed = false
	if m.stop != nil {
		m.stop()
	}
	again := m.started // what a test has put there before is there at the first boot
	m.started = true
	m.mu.Unlock()
	if again {
		m.Files.clear()
	}
	old.end()
}

func (g *guest) PowerButton() bool {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	return !g.m.stubborn
}

func (g *guest) Command(name string) localvmm.Reply {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	g.m.commands = append(g.m.commands, name)
	return g.m.faults[name]
}

// saved is what a snapshot has of a guest.
type saved struct {
	Files map[string]*File
	State *state
}

func (g *guest) Save() ([]byte, error) {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	return json.Marshal(saved{g.m.Files.all(), g.m.guest.copy()})
}

func (g *guest) Load(p []byte) error {
	s := saved{State: newState()}
	if err := json.Unmarshal(p, &s); err != nil {
		return err
	}
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	g.m.Files.set(s.Files)
	g.m.guest, g.m.started = s.State, true
	g.m.guest.loaded()
	return nil
}
