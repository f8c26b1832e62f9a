package instance

import (
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/guest/handle"
)

// hang begins an operation that does not end, and returns where its error comes.
func (b *bench) hang(i *Instance, m *fakemachine.Machine) <-chan error {
	b.t.Helper()
	link, err := i.Client(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	m.OnOp("run", fakemachine.Hang)
	before := m.Asked("run")
	failed := make(chan error, 1)
	go func() {
		_, err := link.Run(b.t.Context(), guest.RunRequest{Shell: "true"})
		failed <- err
	}()
	eventually(b.t, "the operation is under way", func() bool { return m.Asked("run") == before+1 })
	return failed
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want %q", err, part)
	}
}

// TestReplacedAgent has another agent answer at the port without a reset, as after kexec
// or a resume from hibernation: what the last one was doing fails, and the guest lives.
func TestReplacedAgent(t *testing.T) {
	b := newBench(t)
	b.cfg.Grace = patience // the next agent is there before that
	i, m := b.boot()
	first := i.Epoch()
	failed := b.hang(i, m)
	m.CloseAgent()
	m.OpenAgent("another")
	wantError(t, <-failed, "vm `a`: the agent was replaced: ")
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if link, err := i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil {
		t.Error("the new agent does not serve: ", err)
	}
	if i.Epoch() == first || b.configured != 1 || b.resets != 0 {
		t.Error(b.configured, b.resets)
	}
}

// TestLateAgent has the next agent answer after a kernel has booted.
func TestLateAgent(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	failed := b.hang(i, m)
	m.CloseAgent()
	wantError(t, <-failed, "vm `a`: the agent is lost: it closed its port")
	m.OpenAgent("another")
	if link, err := i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil {
		t.Error("the new agent does not serve: ", err)
	}
}

func TestNoLateAgent(t *testing.T) {
	b := newBench(t)
	b.cfg.AgentTimeout = 200 * time.Millisecond
	i, m := b.boot()
	m.CloseAgent()
	b.wantDeath(i, "the agent is lost: it closed its port, and no other one answered within 200ms")
}

// TestEndedAgent has PID 1 say that the agent has ended, before and after its port is closed:
// nothing is waited for then.
func TestEndedAgent(t *testing.T) {
	for name, order := range map[string][2]func(*fakemachine.Machine){
		"said first": {sayAgentEnded, (*fakemachine.Machine).CloseAgent},
		"said later": {(*fakemachine.Machine).CloseAgent, sayAgentEnded},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.Grace = patience
			i, m := b.boot()
			order[0](m)
			i.SyncConsole()
			order[1](m)
			b.wantDeath(i, "the agent is lost: it closed its port")
		})
	}
}

func sayAgentEnded(m *fakemachine.Machine) {
	m.Print(false, agentEnded+"; this guest cannot be driven any more\n")
}

// TestReopenedPort has the agent itself come back, as after a sleep: its operations go on.
func TestReopenedPort(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	first := i.Epoch()
	failed := b.hang(i, m)
	m.PortChanged(false)
	m.PortChanged(true)
	link, err := i.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
	if i.Epoch() != first {
		t.Error("another epoch")
	}
	m.Reboot()
	wantError(t, <-failed, "the guest was reset")
}

// TestReplacedWithinASecond has an agent replaced so fast that QEMU does not say that its port was closed: after a
// restore, of which the port was open before, and after an opening.
func TestReplacedWithinASecond(t *testing.T) {
	for _, restored := range []bool{false, true} {
		b := newBench(t)
		b.cfg.Restored = restored
		i, m := b.boot()
		if !restored {
			m.PortChanged(true)
		}
		failed := b.hang(i, m)
		m.ReplaceAgent("another")
		wantError(t, <-failed, agentReplaced)
		if err := i.WaitReboot(t.Context(), patience); err != nil {
			t.Error(err)
		}
	}
}

// TestResumedAgent has an agent that was hibernated come back behind another one, in the
// same QEMU and in a later one: it has what it had.
func TestResumedAgent(t *testing.T) {
	b := newBench(t)
	b.cfg.Agents = &handle.Agents{}
	i, m := b.boot()
	hibernated, id := i.Epoch(), m.AgentID()
	m.Reboot()
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if i.Epoch() == hibernated {
		t.Error("the agent that resumes the other one has what that one had")
	}
	failed := b.hang(i, m)
	m.CloseAgent()
	m.OpenAgent(id)
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-failed, "vm `a`: the agent ")
	if i.Epoch() != hibernated {
		t.Error("the resumed agent is not known")
	}
	m.PowerOff()
	b.death(i)
	b.released, b.died = 0, ""
	b.cfg.Epoch, b.cfg.QEMU = &handle.Epoch{}, b.describe()
	i, m = b.boot()
	m.CloseAgent()
	m.OpenAgent(id)
	if err := i.WaitReboot(t.Context(), patience); err != nil || i.Epoch() != hibernated {
		t.Error("the agent is not known in a later QEMU: ", err)
	}
}

func TestWaitReboot(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	wantError(t, i.WaitReboot(t.Context(), 0), "wait_reboot timed out after 0s: vm `a` has not rebooted")
	m.Reboot()
	eventually(t, "rebooted", func() bool { i.mu.Lock(); defer i.mu.Unlock(); return i.boot == 1 })
	// One that came before the call counts, once.
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Error(err)
	}
	wantError(t, i.WaitReboot(t.Context(), 0), "has not rebooted")
	m.Reboot()
	if err := i.Reset(t.Context()); err != nil { // asked for: not waited for
		t.Fatal(err)
	}
	wantError(t, i.WaitReboot(t.Context(), 0), "has not rebooted")
	m.SetAgent(fakemachine.AgentSilent)
	m.Reboot()
	wantError(t, i.WaitReboot(t.Context(), 50*time.Millisecond), "has rebooted, and no agent has answered since")
	i.End("no luck")
	wantError(t, i.WaitReboot(t.Context(), patience), "no luck")
}
