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
	printed    string
	resets     int
	configured int
	released   int
	expects    bool // panics are expected
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, machines: fakemachine.New(t)}
	console, err := CreateConsole(filepath.Join(t.TempDir(), "console.log"), "a")
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = Config{VM: "a", QEMU: b.describe(), AgentTimeout: patience, Grace: 20 * time.Millisecond,
		PanicGrace: 20 * time.Millisecond, Epoch: &handle.Epoch{}, Console: console}
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
		ExpectsPanic: func() bool { return b.expects },
		Reset:        count(&b.resets),
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
		Printed: func(text []byte) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.printed += string(text)
		},
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

// TestPowerOffThatFails has a guest end in other ways while it should power off.
func TestPowerOffThatFails(t *testing.T) {
	for want, end := range map[string]func(*Instance, *fakemachine.Machine){
		"guest panicked: Kernel panic - not syncing: no reason": func(_ *Instance, m *fakemachine.Machine) {
			m.Panic("no reason")
		},
		"qemu ended: exit status 1: qemu-system-x86_64: no luck": func(_ *Instance, m *fakemachine.Machine) {
			m.Crash("no luck")
		},
		"": func(i *Instance, m *fakemachine.Machine) { m.PowerOff() },
	} {
		b := newBench(t)
		i, m := b.boot()
		i.ExpectPowerOff()
		end(i, m)
		if got := strings.TrimSpace(b.death(i)); got != want {
			t.Errorf("died of %q, want %q", got, want)
		}
	}
	b := newBench(t)
	i, _ := b.boot()
	i.ExpectPowerOff()
	i.End("it takes too long")
	if got := b.death(i); got != "" {
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
		"panic, then a power-off": {func(_ *bench, _ *Instance, m *fakemachine.Machine) {
			m.Print(false, "[    1.000000] Kernel panic - not syncing: no reason\n")
			m.PowerOff()
		}, []string{"guest panicked: ", "no reason"}},
		"dropped link": {func(_ *bench, _ *Instance, m *fakemachine.Machine) { m.DropLink() },
			[]string{"the agent is lost: ", "agent link lost"}},
		"another writer": {func(_ *bench, i *Instance, m *fakemachine.Machine) {
			m.WriteNoise()
		}, []string{"the agent is lost: ", "the guest's agent port was written to by another program"}},
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
			if c.fault == fakemachine.AgentSilent {
				b.cfg.AgentTimeout = 50 * time.Millisecond
			}
			b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(c.fault) })
			i, _ := b.start(nil)
			b.wantDeath(i, c.want)
		})
	}
}

// TestEndDuringHandshake has QEMU close the agent's port as it ends, before the agent has
// answered.
func TestEndDuringHandshake(t *testing.T) {
	b := newBench(t)
	b.cfg.Grace = patience
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentHangsUp) })
	i, m := b.start(nil)
	m.Crash("no luck")
	b.wantDeath(i, "qemu ended: exit status 1: qemu-system-x86_64: no luck")
}

// TestRebootLoop has a guest reset itself before its agent answers.
func TestRebootLoop(t *testing.T) {
	b := newBench(t)
	b.cfg.AgentTimeout = 200 * time.Millisecond
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	m.Print(false, "booting\n")
	eventually(t, "printed", func() bool { return b.cfg.Console.Len() > 0 })
	for range 3 {
		m.Reboot()
	}
	b.wantDeath(i, "no agent answered within 200ms, in which the guest reset itself 3 times")
	if b.resets != 3 {
		t.Errorf("%d resets", b.resets)
	}
}

// TestResetsWithoutAnEnd has guests reset themselves as fast as they can: they are given
// up after a number of resets, which depends on whether they print something.
func TestResetsWithoutAnEnd(t *testing.T) {
	for name, c := range map[string]struct{ prints, want string }{
		"silent": {"", "the guest reset itself 3 times without an answer of an agent and without a word on its " +
			"console: its memory of 64M is perhaps too small"},
		"talks": {"booting\n", "the guest reset itself 10 times without an answer of an agent"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
			i, m := b.start(nil)
			for !m.Ended() {
				before := b.cfg.Console.Len()
				m.Print(false, c.prints)
				eventually(t, "printed", func() bool {
					return b.cfg.Console.Len() > before || c.prints == "" || m.Ended()
				})
				m.RebootSilently()
			}
			b.wantDeath(i, c.want)
		})
	}
}

// TestResetsDoNotMoveTheDeadline has a guest whose reset button is pressed without end.
func TestResetsDoNotMoveTheDeadline(t *testing.T) {
	b := newBench(t)
	b.cfg.AgentTimeout = 50 * time.Millisecond
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	for !m.Ended() {
		m.Reset(false)
	}
	b.wantDeath(i, "no agent answered within 50ms")
}

const panicTitle = "[    1.000000] Kernel panic - not syncing: no reason\n"

// TestPanicBeforeReset has the kernel reboot at once after its panic (panic=-1): the
// operation in flight says the panic, and the guest is dead.
func TestPanicBeforeReset(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	failed := inFlight(b, i, m)
	m.Print(false, panicTitle)
	m.RebootSilently()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "vm `a`: guest panicked: Kernel panic") {
		t.Error(err)
	}
	b.wantDeath(i, "guest panicked: Kernel panic - not syncing: no reason")
	if len(b.findings) != 1 || b.resets != 0 {
		t.Error(b.findings, b.resets)
	}
}

// TestExpectedPanic has the kernel reboot, or a crash kernel start, after a panic that
// the test expects.
func TestExpectedPanic(t *testing.T) {
	for name, goOn := range map[string]func(*fakemachine.Machine){
		"reboot":       (*fakemachine.Machine).RebootSilently,
		"crash kernel": func(m *fakemachine.Machine) { m.Print(false, "[    0.000000] Linux version 6\n") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.expects = true
			i, m := b.boot()
			first := i.Epoch()
			failed := inFlight(b, i, m)
			if name != "reboot" {
				m.OnOp("ping", fakemachine.Hang) // without a reset, silence tells
			}
			m.Print(false, panicTitle)
			goOn(m)
			if err := <-failed; err == nil || !strings.Contains(err.Error(), "vm `a`: guest panicked: Kernel panic") {
				t.Error(err)
			}
			m.OnOp("ping", nil)
			link, err := i.Client(t.Context())
			if err != nil || link.Ping(t.Context()) != nil || i.Epoch() == first {
				t.Error(err)
			}
			eventually(t, "a finding", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.died == "" && len(b.findings) == 1
			})
		})
	}
}

// TestExpectedPanicWithoutAnEnd has no kernel follow the one that has panicked.
func TestExpectedPanicWithoutAnEnd(t *testing.T) {
	b := newBench(t)
	b.expects = true
	i, m := b.boot()
	i.cfg.AgentTimeout = 50 * time.Millisecond
	m.SetAgent(fakemachine.AgentSilent)
	m.Panic("no reason")
	b.wantDeath(i, "guest panicked: ", "no reason", "; no agent answered within 50ms after that")
}

// TestWordsOfAPanicOnly has a living guest print what a kernel prints when it panics.
func TestWordsOfAPanicOnly(t *testing.T) {
	for name, text := range map[string]string{
		"no stamp":    "[    0.000000] Linux version 6\nKernel panic - not syncing: from pstore\n",
		"with stamps": panicTitle + "[    1.000000] ---[ end Kernel panic - not syncing: no reason ]---\n",
		"then reboot": panicTitle + "[    1.100000] reboot: Restarting system\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.PanicGrace = time.Hour // its agent answers, if late
			i, m := b.boot()
			m.Print(false, text)
			eventually(t, "printed", func() bool { return i.cfg.Console.Len() == int64(len(text)) })
			i.SyncConsole()
			if name == "then reboot" {
				m.Reboot()
				eventually(b.t, "the next boot", func() bool {
					b.mu.Lock()
					defer b.mu.Unlock()
					return b.configured == 1
				})
			}
			i.SyncConsole()
			if link, err := i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil {
				t.Error(err)
			}
			if b.died != "" || len(b.findings) != 0 {
				t.Error(b.died, b.findings)
			}
		})
	}
}

// TestStampsOfAQuietKernel asks the guest when nothing else tells.
func TestStampsOfAQuietKernel(t *testing.T) {
	for text, want := range map[string]int{"Y\n": 0, "N\n": 1, "": 1} {
		b := newBench(t)
		b.machines.Prepare(func(m *fakemachine.Machine) {
			if text != "" {
				m.Files.MkdirAll("/sys/module/printk/parameters")
				m.Files.Write(stampsFile, []byte(text))
			}
		})
		i, m := b.boot()
		m.Print(false, "BUG: x\n")
		eventually(t, "printed", func() bool { return i.cfg.Console.Len() > 0 })
		i.SyncConsole()
		if len(b.findings) != want || i.StampsLines() != (want == 0) {
			t.Errorf("%q: %q", text, b.findings)
		}
	}
}

// inFlight starts an operation that does not end by itself.
func inFlight(b *bench, i *Instance, m *fakemachine.Machine) <-chan error {
	b.t.Helper()
	link, err := i.Client(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	m.OnOp("run", fakemachine.Hang)
	failed := make(chan error, 1)
	go func() {
		_, err := link.Run(b.t.Context(), guest.RunRequest{Shell: "true"})
		failed <- err
	}()
	eventually(b.t, "the operation is under way", func() bool { return m.Asked("run") == 1 })
	return failed
}

func TestFindingsOfBoots(t *testing.T) {
	title := func(list []Finding) (out string) {
		for _, f := range list {
			out += f.Title
		}
		return out
	}
	want := func(list []Finding, want string) {
		t.Helper()
		if got := title(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var f Findings
	f.Begin()
	if f.Add(Finding{Title: "a"}) {
		t.Error("the report of a boot that may fail counts")
	}
	want(f.Take(), "")
	want(f.Failed(), "a")
	f.Begin()
	f.Add(Finding{Title: "of a program"})
	f.Add(Finding{Title: "b", Stamped: true})
	want(f.Answered(true), "b")
	f.Rebooted()
	f.Add(Finding{Title: "c"})
	if f.Add(Finding{Title: "d", Panic: true, Expected: true}) {
		t.Error("an expected panic counts")
	}
	want(f.Take(), "b")
	if !f.IsEmpty() {
		t.Error("not empty")
	}
	err := errors.New("late")
	if Explain(err, nil) != err || Explain(err, []Finding{{Title: "late"}}) != err {
		t.Error("explained")
	}
	if got := Explain(err, []Finding{{Title: "BUG: x"}}); got.Error() != "late; the guest's kernel reported: BUG: x" {
		t.Error(got)
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
