package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/admission"
	"provium/internal/event"
	"provium/internal/fakemachine"
	"provium/internal/instance"
	"provium/internal/topology"
	"provium/internal/wire"
)

// countingPool counts the shares that are out, and notes what they were for.
type countingPool struct {
	mu     sync.Mutex
	out    int
	asked  []string
	refuse error
}

func (p *countingPool) Acquire(_ context.Context, what string, shares []admission.Share) (release []func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	p.asked = append(p.asked, what)
	for range shares {
		p.out++
		release = append(release, sync.OnceFunc(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.out--
		}))
	}
	return release, nil
}

func (p *countingPool) Claim(context.Context, int64, int) error { return p.refuse }

// TestBootsThatFail leave nothing behind: neither a guest, nor a share of the pool.
func TestBootsThatFail(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		prepare func(h *Host, f *fakemachine.Machines, p *countingPool)
		want    string
	}{
		"image": {func(_ *Host, f *fakemachine.Machines, _ *countingPool) { f.SetImage("", broken) },
			"vm `a` boot: broken"},
		"pool": {func(_ *Host, _ *fakemachine.Machines, p *countingPool) { p.refuse = broken }, "vm `a` boot: broken"},
		"qemu": {func(h *Host, _ *fakemachine.Machines, _ *countingPool) { h.Profiles["p"].QEMU = "/no/qemu" },
			"profile `p`: qemu `/no/qemu`"},
		"accel": {func(h *Host, _ *fakemachine.Machines, _ *countingPool) { h.Profiles["p"].Accel = "abacus" },
			"abacus"},
		"no answer": {func(h *Host, f *fakemachine.Machines, _ *countingPool) {
			h.Profiles["p"].AgentTimeout = 50 * time.Millisecond
			h.Profiles["p"].Source = func(_ context.Context, text string) (string, error) {
				return strings.ReplaceAll(text, "demo+0x1/0x2", "demo+0x1/0x2 (x.c:7)"), nil
			}
			f.Prepare(func(m *fakemachine.Machine) {
				m.SetAgent(fakemachine.AgentSilent)
				m.Print(false, "Kernel is stuck in demo+0x1/0x2\n")
			})
		}, "no agent answered within 50ms"},
		"version": {func(_ *Host, f *fakemachine.Machines, _ *countingPool) {
			f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentOfVersion0) })
		}, "agent speaks version 1000"},
		"panic": {func(_ *Host, f *fakemachine.Machines, _ *countingPool) {
			f.Prepare(func(m *fakemachine.Machine) {
				m.SetAgent(fakemachine.AgentSilent)
				time.AfterFunc(20*time.Millisecond, func() { m.Panic("no init") })
			})
		}, "guest panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			h, f := fakeHost(t)
			pool := &countingPool{}
			h.Pool = pool
			tc.prepare(h, f, pool)
			v := declare(t, newLab(t, h), "a")
			err := v.Boot(t.Context(), nil)
			wantError(t, err, tc.want)
			var boot *instance.BootError
			if errors.As(err, &boot) {
				wantError(t, boot.Unwrap(), strings.TrimPrefix(tc.want, "vm `a` boot: "))
				if name == "no answer" {
					wantError(t, err, "the guest's console ends with:", "Kernel is stuck in demo+0x1/0x2 (x.c:7)")
				}
			}
			var admission *admission.Error
			if errors.As(err, &admission) != (name == "pool") {
				t.Errorf("%#v", err)
			}
			if v.State() == topology.Booted || pool.out != 0 {
				t.Errorf("state %s, %d shares are out", v.State(), pool.out)
			}
		})
	}
}

func TestBootOfAnEmptyConsole(t *testing.T) {
	wantError(t, &instance.BootError{VM: "a", Err: errors.New("late")},
		"vm `a` boot: late (the guest's console is empty)")
}

// TestBootWithoutAnAgent has a VM booted, and announced, when its console shows a text.
func TestBootWithoutAnAgent(t *testing.T) {
	l, f := fakeLab(t)
	var events []event.Event
	var mu sync.Mutex
	l.host.Emit = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind() != event.KindConsoleOutput {
			events = append(events, e)
		}
	}
	f.Prepare(func(m *fakemachine.Machine) {
		m.SetAgent(fakemachine.AgentSilent)
		m.Print(false, "login: ")
	})
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), &topology.BootOpts{Wait: "console:login: ", AgentTimeout: 50 * time.Millisecond}))
	// That it was begun, three stages, and the guest: no agent has answered.
	if v.State() != topology.Booted || len(events) != 5 || !v.IsAgentless() {
		t.Errorf("state %s, events %+v", v.State(), events)
	}
	must(t, expect(t.Context(), v, "login: ", time.Minute))
	must(t, v.Console().Write(t.Context(), []byte("root\n"), time.Minute))
	wantError(t, v.Ping(t.Context()), "no agent answered within 50ms, and the boot did not wait for one")
	_, err := v.Snapshot(t.Context(), "")
	wantError(t, err, "vm:snapshot() refused: vm `a` has no agent yet")
	must(t, v.Pause(t.Context()))
	must(t, v.Resume(t.Context()))
	must(t, v.Reset(t.Context()))
}

func TestAgentComesWithALaterBoot(t *testing.T) {
	l, f := fakeLab(t)
	f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), &topology.BootOpts{Wait: "none", AgentTimeout: time.Minute}))
	must(t, v.Reset(t.Context()))
	if !v.IsAgentless() {
		t.Error("an agent without an answer")
	}
	f.Last().SetAgent(fakemachine.AgentWorks)
	f.Last().Reboot()
	must(t, v.WaitReboot(t.Context(), patience)) // an operation before QEMU says so is one of the boot before
	must(t, v.Ping(t.Context()))
	must(t, v.Shutdown(t.Context()))
}

func TestBootThatIsGivenUp(t *testing.T) {
	h, f := fakeHost(t)
	f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	cause := errors.New("test over")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	v := declare(t, newLab(t, h), "a")
	if err := v.Boot(ctx, nil); !errors.Is(err, cause) {
		t.Error(err)
	}
}

// TestBootOptions looks at what the machine and the agent get of them.
func TestBootOptions(t *testing.T) {
	l, f := fakeLab(t)
	h := l.host
	var events []event.Event
	h.Emit = withoutDetails(func(e event.Event) { events = append(events, e) })
	when := time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)
	seed := uint64(7)
	v, err := l.DeclareVM("a", "p", &topology.BootOpts{Memory: 256 << 20, CPUs: 2, InitialTime: &when, RNGSeed: &seed})
	must(t, err)
	must(t, v.Boot(t.Context(), &topology.BootOpts{CPUs: 3, AgentTimeout: time.Hour}))
	cfg := v.inst.plan.cfg
	if cfg.Memory != 256<<20 || cfg.CPUs != 3 || !cfg.RTCBase.Equal(when) || *cfg.RNGSeed != 7 {
		t.Errorf("%+v", cfg)
	}
	set := slices.ContainsFunc(f.Last().Requests(), func(r wire.Request) bool {
		_,
			ok := r.(*wire.ClockSet)
		return ok
	})
	if !set {
		t.Error("the guest's clock was not set")
	}
	must(t, v.Shutdown(t.Context()))
	if len(events) != 2 {
		t.Errorf("events %+v", events)
	}
	wantError(t, v.Boot(t.Context(), &topology.BootOpts{Memory: -1}), "memory")
}

func TestAgentTimeouts(t *testing.T) {
	v := &VM{profile: &Profile{}}
	for _, tc := range []struct {
		opts    topology.BootOpts
		profile time.Duration
		accel   string
		want    time.Duration
	}{
		{topology.BootOpts{AgentTimeout: 1}, 2, "kvm", 1},
		{topology.BootOpts{}, 2, "kvm", 2},
		{topology.BootOpts{}, 0, "kvm", 30 * time.Second},
		{topology.BootOpts{}, 0, "tcg", 120 * time.Second},
	} {
		v.profile.AgentTimeout = tc.profile
		if got := v.agentTimeout(&tc.opts, tc.accel); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// cachedLab returns a lab with a boot cache, and the warnings that come.
func cachedLab(t *testing.T) (*Lab, *fakemachine.Machines, *[]string) {
	t.Helper()
	h, f := fakeHost(t)
	h.BootCache = filepath.Join(t.TempDir(), "boots")
	h.QEMU = filepath.Join(t.TempDir(), "qemu")
	must(t, os.WriteFile(h.QEMU, nil, 0o700))
	h.NoPrewarming = true
	warnings := &[]string{}
	h.Warn = func(format string, args ...any) { *warnings = append(*warnings, fmt.Sprintf(format, args...)) }
	return newLab(t, h), f, warnings
}

func cacheEntries(t *testing.T, h *Host) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(h.BootCache, "*.snap"))
	must(t, err)
	return list
}

// TestFakeBootCache boots, is served by the cache, and boots again where the entry
// cannot be used.
func TestFakeBootCache(t *testing.T) {
	ctx := t.Context()
	l, f, warnings := cachedLab(t)
	v := declare(t, l, "a")
	boots := func() int {
		t.Helper()
		before := len(f.All())
		must(t, v.Boot(ctx, nil))
		must(t, v.Ping(ctx))
		must(t, v.Shutdown(ctx))
		booted := 0
		for _, m := range f.All()[before:] {
			booted += m.Boots()
		}
		return booted
	}
	if n := boots(); n != 1 || len(cacheEntries(t, l.host)) != 1 {
		t.Errorf("%d boots, entries %v", n, cacheEntries(t, l.host))
	}
	if n := boots(); n != 0 {
		t.Errorf("%d boots although there is an entry", n)
	}
	must(t, os.Truncate(cacheEntries(t, l.host)[0], 100))
	if n := boots(); n != 1 || len(*warnings) != 1 || !strings.Contains((*warnings)[0],
		"the boot cache's entry cannot be used") {
		t.Errorf("%d boots, warnings %q", n, *warnings)
	}
	// A guest that does not answer after its restore is proof against the entry.
	*warnings = nil
	silent := true
	f.Prepare(func(m *fakemachine.Machine) {
		if silent {
			m.SetAgent(fakemachine.AgentHangsUp)
		}
		silent = false
	})
	if n := boots(); n != 1 || len(*warnings) != 1 {
		t.Errorf("%d boots, warnings %q", n, *warnings)
	}
	f.SetImage("another", nil)
	if n := boots(); n != 1 || len(cacheEntries(t, l.host)) != 2 {
		t.Errorf("another image: %d boots, entries %v", n, cacheEntries(t, l.host))
	}
}

// TestWrongClocksAreNotCached has a kernel that has measured its TSC wrong.
func TestWrongClocksAreNotCached(t *testing.T) {
	l, f, warnings := cachedLab(t)
	f.Prepare(func(m *fakemachine.Machine) { m.SetAhead(20 * time.Minute) })
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), nil))
	if n := len(cacheEntries(t, l.host)); n != 0 || len(*warnings) != 1 ||
		!strings.Contains((*warnings)[0], "the boot is not cached: the guest's clock is 20m0s ahead") {
		t.Errorf("%d entries, warnings %q", n, *warnings)
	}
}

// TestBootCacheAge has an entry that is too old for its profile, and one that is not.
func TestBootCacheAge(t *testing.T) {
	ctx := t.Context()
	l, f, _ := cachedLab(t)
	p := l.host.Profiles["p"]
	p.BootCacheAge = time.Hour
	v := declare(t, l, "a")
	booted := func() bool {
		t.Helper()
		must(t, v.Boot(ctx, nil))
		r := renewals(machineOf(f, v))
		must(t, v.Shutdown(ctx))
		return len(r) == 0
	}
	if !booted() || booted() {
		t.Error("an entry within its age was not used")
	}
	p.BootCacheAge = 1
	if !booted() {
		t.Error("an entry beyond its age was used")
	}
	p.BootCacheAge = time.Hour
	if booted() {
		t.Error("it was not replaced")
	}
}

// TestBootsThatAreNotCached are wanted cold, fixed in what is random, or not clean.
func TestBootsThatAreNotCached(t *testing.T) {
	ctx := t.Context()
	cold, seed := true, uint64(1)
	for name, tc := range map[string]struct {
		opts    topology.BootOpts
		prepare func(h *Host, f *fakemachine.Machines)
	}{
		"cold":    {topology.BootOpts{Cold: &cold}, nil},
		"seed":    {topology.BootOpts{RNGSeed: &seed}, nil},
		"profile": {topology.BootOpts{}, func(h *Host, _ *fakemachine.Machines) { h.Profiles["p"].NoBootCache = true }},
		"no qemu": {topology.BootOpts{}, func(h *Host, _ *fakemachine.Machines) { h.QEMU += "-none" }},
		"oops": {topology.BootOpts{}, func(_ *Host, f *fakemachine.Machines) {
			f.Prepare(func(m *fakemachine.Machine) {
				m.Print(false, "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n"+
					"[    1.000000] ---[ end trace 0000000000000000 ]---\n")
			})
		}},
	} {
		l, f, warnings := cachedLab(t)
		if tc.prepare != nil {
			tc.prepare(l.host, f)
		}
		v, err := l.DeclareVM("a", "p", &tc.opts)
		must(t, err)
		must(t, v.Boot(ctx, nil))
		if list := cacheEntries(t, l.host); len(list) > 0 || len(*warnings) > 0 {
			t.Errorf("%s: entries %v, warnings %q", name, list, *warnings)
		}
		must(t, v.Shutdown(ctx))
	}
}

// TestCachedBootsOfFixedTime have entries by their time, and go on with that time.
func TestCachedBootsOfFixedTime(t *testing.T) {
	ctx := t.Context()
	l, f, _ := cachedLab(t)
	at := time.Unix(1700000000, 500e6)
	later := at.Add(time.Nanosecond)
	same := at.In(time.FixedZone("east", 3600))
	for i, tc := range []struct {
		start   *time.Time
		entries int
		renewed bool
	}{{&at, 1, false}, {&same, 1, true}, {&later, 2, false}, {nil, 3, false}} {
		v, err := l.DeclareVM(fmt.Sprint("v", i), "p", &topology.BootOpts{InitialTime: tc.start})
		must(t, err)
		must(t, v.Boot(ctx, nil))
		if list := cacheEntries(t, l.host); len(list) != tc.entries {
			t.Errorf("boot %d: entries %v", i, list)
		}
		all := renewals(machineOf(f, v))
		if len(all) > 0 != tc.renewed || tc.renewed && all[0].RealtimeNS != 0 {
			t.Errorf("boot %d: renewed %+v", i, all)
		}
		must(t, v.Shutdown(ctx))
	}
}

func TestBootCacheThatCannotBeWritten(t *testing.T) {
	l, _, warnings := cachedLab(t)
	must(t, os.WriteFile(l.host.BootCache, nil, 0o600))
	must(t, declare(t, l, "a").Boot(t.Context(), nil))
	if len(*warnings) == 0 {
		t.Error("no warning")
	}
}

// TestQEMUOfTheProfile boots a profile whose QEMU is not there.
func TestQEMUOfTheProfile(t *testing.T) {
	h, _ := fakeHost(t)
	l := newLab(t, h)
	for name, want := range map[string]string{
		"/no/qemu":  "profile `own`: qemu `/no/qemu`: ",
		"no-qemu-x": "profile `own`: qemu `no-qemu-x`: executable file not found in $PATH (give the path",
	} {
		h.Profiles["own"] = &Profile{Name: "own", QEMU: name, Accel: "tcg"}
		v, err := l.DeclareVM("v"+name[1:3], "own", nil)
		must(t, err)
		if err := v.Boot(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestCloseOfABusyVM closes a VM that another life-cycle call holds up: its guest is killed.
func TestCloseOfABusyVM(t *testing.T) {
	v, m := bootFake(t)
	release, err := v.lifecycle(t.Context())
	must(t, err)
	defer release()
	if err := v.Close(canceled(t)); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	if !m.Ended() || v.State() != topology.Shutdown {
		t.Error(m.Ended(), v.State())
	}
}
