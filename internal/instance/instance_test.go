package instance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/localvmm"
	"provium/internal/qemu"
)

// patience bounds waits for what has to happen.
const patience = time.Minute

// bench has what the tests of an instance need.
type bench struct {
	t        *testing.T
	machines *fakemachine.Machines
	cfg      Config

	mu         sync.Mutex
	findings   []string
	died       string
	warnings   []string
	resets     int
	configured int
	released   int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, machines: fakemachine.New(t)}
	console, err := CreateConsole(filepath.Join(t.TempDir(), "console.log"), "a")
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = Config{VM: "a", QEMU: b.describe(), AgentTimeout: patience, Grace: 20 * time.Millisecond,
		Epoch: &handle.Epoch{}, Console: console}
	count := func(n *int) func() {
		return func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			*n++
		}
	}
	b.cfg.Hooks = Hooks{
		Finding: func(f Finding) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.findings = append(b.findings, f.Title)
		},
		Reset: count(&b.resets),
		Configure: func(ctx context.Context, c *guest.Client) error {
			count(&b.configured)()
			return c.Ping(ctx)
		},
		Died: func(reason string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.died = reason
		},
		Released: count(&b.released),
		Warn: func(format string, args ...any) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
		},
	}
	return b
}

func (b *bench) describe() *qemu.Config {
	kernel, initrd := b.machines.BootFiles()
	return &qemu.Config{Starter: b.machines, Name: "a", Dir: b.t.TempDir(), Memory: 64 << 20, Kernel: kernel,
		Initrd: initrd}
}

// start starts an instance, which is ended with the test.
func (b *bench) start(warm *Prewarmed) (*Instance, *fakemachine.Machine) {
	b.t.Helper()
	i, err := Start(b.t.Context(), b.cfg, warm)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { i.End("the test has ended") })
	return i, b.machines.WithPID(i.Machine().PID())
}

func (b *bench) boot() (*Instance, *fakemachine.Machine) {
	b.t.Helper()
	i, m := b.start(nil)
	if _, err := i.Client(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return i, m
}

// death waits for the end of an instance and returns the reason that the VM was told.
func (b *bench) death(i *Instance) string {
	b.t.Helper()
	select {
	case <-i.Done():
	case <-time.After(patience):
		b.t.Fatal("the instance does not end")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released != 1 {
		b.t.Errorf("released %d times", b.released)
	}
	return b.died
}

func (b *bench) wantDeath(i *Instance, parts ...string) {
	b.t.Helper()
	reason := b.death(i)
	for _, p := range parts {
		if !strings.Contains(reason, p) {
			b.t.Errorf("reason %q lacks %q", reason, p)
		}
	}
	if link, err := i.Client(b.t.Context()); err == nil && link.Ping(b.t.Context()) == nil {
		b.t.Error("the link is up")
	}
	if !i.IsOver() {
		b.t.Error("it is not over")
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestEndIsNoDeath(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	if i.IsOver() || i.IsSuspended() {
		t.Error("over or suspended")
	}
	i.Expect(true)
	i.End("shut down")
	if got := b.death(i); got != "" || !m.Ended() {
		t.Errorf("died of %q", got)
	}
}

func TestDeaths(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*bench, *Instance, *fakemachine.Machine)
		want []string
	}{
		"power-off": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.PowerOff() },
			[]string{"guest powered off"}},
		"crash": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.Crash("no luck") },
			[]string{"qemu ended: exit status 1: qemu-system-x86_64: no luck"}},
		"exit": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.End(nil) }, []string{"qemu ended"}},
		"panic": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.Panic("no reason") },
			[]string{"guest panicked: ", "no reason"}},
		"dropped link": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.DropLink() },
			[]string{"the agent is lost: ", "agent link lost"}},
		"closed port": {func(b *bench, _ *Instance, m *fakemachine.Machine) {
			m.Print(false, "provium-agent: the agent has ended; this guest cannot be driven any more\n")
			m.PortChanged(false)
		}, []string{"the agent is lost: it closed its port"}},
		"marked dead": {func(_ *bench, i *Instance, _ *fakemachine.Machine) { i.End("a reason") },
			[]string{"a reason"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			i, m := b.boot()
			c.do(b, i, m)
			b.wantDeath(i, c.want...)
		})
	}
}

func TestNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fault fakemachine.AgentFault
		want  string
	}{
		"silent":  {fakemachine.AgentSilent, "no agent answered within 50ms"},
		"version": {fakemachine.AgentOfVersion0, "agent speaks version 1000"},
		"hang-up": {fakemachine.AgentHangsUp, "agent handshake: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.AgentTimeout = 50 * time.Millisecond
			b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(c.fault) })
			i, _ := b.start(nil)
			b.wantDeath(i, c.want)
		})
	}
}

// TestRebootLoop has a guest reset itself before its agent answers.
func TestRebootLoop(t *testing.T) {
	b := newBench(t)
	b.cfg.AgentTimeout = 200 * time.Millisecond
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	for range 3 {
		m.Reboot()
	}
	b.wantDeath(i, "no agent answered within 200ms, in which the guest reset itself 3 times")
	if b.resets != 3 {
		t.Errorf("%d resets", b.resets)
	}
}

func TestStartFails(t *testing.T) {
	for name, how := range map[string]localvmm.Reply{"refused": {Refuse: "no such thing"}, "dead": {Die: true}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.machines.Prepare(func(m *fakemachine.Machine) { m.OnCommand("qmp_capabilities", how) })
			if i, err := Start(t.Context(), b.cfg, nil); err == nil {
				i.End("")
				t.Error("started")
			}
			if b.released != 0 || b.died != "" {
				t.Error(b.released, b.died)
			}
		})
	}
}

// TestReset has an operation fail over a reset, and the next boot configured before its
// operations.
func TestReset(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	first := i.Epoch()
	link, epoch, err := i.Session(t.Context())
	if err != nil || epoch != first {
		t.Fatal(err)
	}
	m.OnOp("run", fakemachine.Hang)
	failed := make(chan error, 1)
	go func() {
		_, err := link.Run(t.Context(), guest.RunRequest{Shell: "true"})
		failed <- err
	}()
	eventually(t, "the operation is under way", func() bool { return m.Asked("run") == 1 })
	if err := i.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "vm `a`: the guest was reset") {
		t.Error(err)
	}
	if i.Epoch() == first || b.resets != 1 || b.configured != 1 {
		t.Error(b.resets, b.configured)
	}
	m.Reboot() // by itself
	eventually(t, "configured again", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.configured == 2
	})
	if link, err = i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil {
		t.Error(err)
	}
}

func TestResetGivenUp(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	ctx, cancel := context.WithCancel(t.Context())
	m.SetAgent(fakemachine.AgentSilent)
	before := i.Epoch()
	reset := make(chan error)
	go func() { reset <- i.Reset(ctx) }()
	eventually(t, "reset", func() bool { return i.Epoch() != before })
	cancel()
	if err := <-reset; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := i.Client(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	m.OnCommand("system_reset", localvmm.Reply{Refuse: "not now"})
	if err := i.Reset(t.Context()); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Error(err)
	}
}

func TestFailedConfigurationIsAWarning(t *testing.T) {
	b := newBench(t)
	b.cfg.Hooks.Configure = func(context.Context, *guest.Client) error { return errors.New("no luck") }
	i, _ := b.boot()
	if err := i.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.warnings) != 1 || b.warnings[0] != "vm `a` after a reset: no luck" {
		t.Error(b.warnings)
	}
}

// TestSuspended has the port close as a guest goes to sleep, which is no loss.
func TestSuspended(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	m.PortChanged(false)
	m.Suspend()
	eventually(t, "suspended", i.IsSuspended)
	m.PortChanged(false)
	m.Event("WAKEUP", nil)
	eventually(t, "awake", func() bool { return !i.IsSuspended() })
	m.PortChanged(false)
	m.PortChanged(true)
	i.SetAwake()
	time.Sleep(2 * b.cfg.Grace) // a loss would be found in that time
	if i.IsOver() || b.died != "" {
		t.Error(b.died)
	}
}
