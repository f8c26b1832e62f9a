package instance

import (
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/ready"
)

// TestBootThatWaitsForText lets a guest without an agent live on, and an agent that comes
// later serve.
func TestBootThatWaitsForText(t *testing.T) {
	b := newBench(t)
	b.cfg.Wait, b.cfg.AgentTimeout = ready.Condition{Kind: ready.Console, Text: "login: "}, patience
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	booted := make(chan error, 1)
	go func() { booted <- i.AwaitBoot(t.Context()) }()
	m.Print(false, "welcome\nlog")
	m.Print(false, "in: ")
	if err := <-booted; err != nil {
		t.Fatal(err)
	}
	if !i.IsAgentless() {
		t.Error("an agent has answered")
	}
	// The position of Expect has not moved.
	if err := expect(t.Context(), b.cfg.Console, "login: ", patience); err != nil {
		t.Error(err)
	}
	if err := i.Reset(t.Context()); err != nil { // does not wait for an agent
		t.Error(err)
	}
	// Else the agent of the next boot could be the one that the linker of this boot finds.
	eventually(t, "a link to the silent agent", func() bool { return m.Served() == 2 })
	m.SetAgentOfNextBoot(fakemachine.AgentWorks)
	m.Reboot()
	if link, err := i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil || i.IsAgentless() {
		t.Error(err)
	}
	if b.configured != 1 {
		t.Errorf("configured %d times", b.configured)
	}
}

// TestBootThatWaitsForNothing returns at once. Operations wait for an agent within their
// limit, and resets are the guest's own affair.
func TestBootThatWaitsForNothing(t *testing.T) {
	b := newBench(t)
	b.cfg.Wait, b.cfg.AgentTimeout = ready.Condition{Kind: ready.None}, 20*time.Millisecond
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	if err := i.AwaitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 * maxResets {
		m.Reboot()
	}
	_, err := i.Client(t.Context())
	wantError(t, err, `no agent answered within 20ms, and the boot did not wait for one (wait = "none")`)
	m.Print(false, "provium-agent: no port\nprovium-agent: the agent has ended; this guest cannot be driven any more\n")
	eventually(t, "the agent's end is known", func() bool {
		_, err := i.Client(t.Context())
		return strings.Contains(err.Error(), "the last attempt: the agent has ended before it answered: no port")
	})
	if i.IsOver() {
		t.Error("the guest has ended")
	}
}

func TestBootsThatWaitInVain(t *testing.T) {
	login := ready.Condition{Kind: ready.Console, Text: "login: "}
	for name, c := range map[string]struct {
		wait ready.Condition
		do   func(*fakemachine.Machine)
		want string
	}{
		"text": {login, func(*fakemachine.Machine) {}, "the console did not show `login: ` within 300ms"},
		"panic": {login, func(m *fakemachine.Machine) { m.Panic("no init") },
			"guest panicked: Kernel panic - not syncing: no init"},
		"power-off": {login, (*fakemachine.Machine).PowerOff, "guest powered off"},
		"agent's end": {ready.Condition{}, func(m *fakemachine.Machine) {
			m.Print(false, "provium-agent: open the port: no such device\r\n")
			m.Print(false, "provium-agent: the agent has ended; this guest cannot be driven any more\r\n")
		}, "the agent has ended before it answered: open the port: no such device"},
		"agent's end after a wait": {ready.Condition{}, func(m *fakemachine.Machine) {
			m.Print(false, "provium-agent: waiting for root=/dev/vdz; block devices: none\r\n")
			m.Print(false, "provium-agent: mount root: root=/dev/vdz has not appeared for 10 s\r\n")
			m.Print(false, "provium-agent: the agent ended before it could serve\r\n")
		}, "the agent has ended before it answered: mount root: root=/dev/vdz has not appeared for 10 s"},
		"agent's early end": {ready.Condition{}, func(m *fakemachine.Machine) {
			m.Print(false, "provium-agent: the agent ended before it could serve\n")
		}, "the agent has ended before it answered"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.Wait, b.cfg.AgentTimeout = c.wait, patience
			if name == "text" {
				b.cfg.AgentTimeout = 300 * time.Millisecond
			}
			b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
			i, m := b.start(nil)
			c.do(m)
			wantError(t, i.AwaitBoot(t.Context()), c.want)
		})
	}
}

// A limit that nobody has asked for does not count what a loaded host takes; the message says so, and what the agent
// waited for.
func TestFairLimit(t *testing.T) {
	for _, fair := range []bool{false, true} {
		b := newBench(t)
		b.cfg.AgentTimeout, b.cfg.FairTimeout = 200*time.Millisecond, fair
		var began time.Time
		b.cfg.Watch.Hindered = func() time.Duration {
			if began.IsZero() {
				began = time.Now()
			}
			return time.Since(began) // it never has a CPU
		}
		b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
		i, m := b.start(nil)
		m.Print(false, "provium-agent: waiting for the port x; virtio-serial ports: none\n")
		err := i.AwaitBoot(t.Context())
		wantError(t, err, "no agent answered within 200ms")
		wantError(t, err, "; the agent was waiting for the port x; virtio-serial ports: none")
		if got := strings.Contains(err.Error(), "do not count, since a loaded host left no CPU"); got != fair {
			t.Errorf("fair: %v: %v", fair, err)
		}
	}
}
