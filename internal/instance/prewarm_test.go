package instance

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/localvmm"
	"provium/internal/qemu"
)

// testParts records what a Pool does to the devices of a machine.
type testParts struct {
	mu    sync.Mutex
	calls []string
	fail  error // of Resume
}

func (p *testParts) add(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

func (p *testParts) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, " ")
}

func (p *testParts) Stopping()     { p.add("stopping") }
func (p *testParts) Stopped()      { p.add("stopped") }
func (p *testParts) Resume() error { p.add("resume"); return p.fail }
func (p *testParts) Close()        { p.add("close") }

// saved is a saved guest as a file, for machines to be restored from.
type saved struct {
	file   *os.File
	length int64
	at     int64
}

// save boots a guest, writes a file into it, and saves it.
func (b *bench) save() saved {
	b.t.Helper()
	i, m := b.boot()
	m.Files.Write("/tmp/x", []byte("kept"))
	if err := i.Machine().Stop(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	state, err := i.Machine().SaveState(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	i.Expect(true)
	i.End("saved")
	f, err := os.Create(b.t.TempDir() + "/saved")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	at := b.cfg.QEMU.Memory
	if _, err := f.WriteAt(state, at); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.released = 0
	b.mu.Unlock()
	return saved{f, int64(len(state)), at}
}

func (b *bench) order(s saved, key Key, parts *testParts) Order {
	return Order{Key: key, Limit: patience,
		Plan: func(string) (*qemu.Config, Parts, error) {
			f, err := os.OpenFile(s.file.Name(), os.O_RDWR, 0)
			if err != nil {
				return nil, parts, err
			}
			cfg := b.describe()
			cfg.Restore = &qemu.Restore{File: f, StateAt: s.at, StateLen: s.length}
			return cfg, parts, nil
		},
		Reseed: func(ctx context.Context, c *guest.Client) error {
			return (&Renewal{FixedTime: true}).Apply(ctx, c, nil)
		},
	}
}

// prewarmed waits until the latest machine is stopped with its agent's answer.
func (b *bench) prewarmed(n int) *fakemachine.Machine {
	b.t.Helper()
	m, err := b.machines.Await(b.t.Context(), n)
	if err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, "it is stopped", func() bool { return m.Asked("renew") == 1 && m.Status() == "paused" })
	return m
}

func TestPool(t *testing.T) {
	b := newBench(t)
	s := b.save()
	var pool Pool
	t.Cleanup(pool.Close)
	temp := t.TempDir()
	parts, key := &testParts{}, Key{Seed: 1}
	pool.Prepare(temp, b.order(s, key, parts))
	pool.Prepare(temp, b.order(s, key, &testParts{})) // there is one
	m := b.prewarmed(2)
	if pool.Take(t.Context(), Key{Seed: 2}) != nil {
		t.Error("taken for another key")
	}
	m.Print(false, "printed ahead\n")
	warm := pool.Take(t.Context(), key)
	if warm == nil || warm.Parts != parts {
		t.Fatal(warm)
	}
	if got := parts.String(); got != "stopping stopped resume" {
		t.Error(got)
	}
	i, running := b.start(warm)
	if running != m {
		t.Error("another machine")
	}
	link, err := i.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := link.ReadFile(t.Context(), "/tmp/x"); err != nil || string(p) != "kept" {
		t.Errorf("%q %v", p, err)
	}
	if err := expect(t.Context(), b.cfg.Console, "printed ahead", patience); err != nil {
		t.Error(err)
	}
	if err := i.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	i.End("over")
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	if pool.Take(t.Context(), key) != nil {
		t.Error("taken twice")
	}
}

// TestPoolUnusable has a prewarmed guest become of no use before it is taken.
func TestPoolUnusable(t *testing.T) {
	for name, spoil := range map[string]func(*testParts, *fakemachine.Machine){
		"dead": func(_ *testParts, m *fakemachine.Machine) {
			m.Kill()
			_ = m.Wait() // it was killed
		},
		"disks": func(p *testParts, _ *fakemachine.Machine) { p.fail = errors.New("no luck") },
		"cont":  func(_ *testParts, m *fakemachine.Machine) { m.OnCommand("cont", localvmm.Reply{Refuse: "no"}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s := b.save()
			var pool Pool
			parts := &testParts{}
			pool.Prepare(t.TempDir(), b.order(s, Key{}, parts))
			m := b.prewarmed(2)
			eventually(t, "built", func() bool { return parts.String() == "stopping stopped" })
			spoil(parts, m)
			if pool.Take(t.Context(), Key{}) != nil {
				t.Error("taken")
			}
			pool.Close()
			if got := parts.String(); !m.Ended() || !strings.HasSuffix(got, "close") {
				t.Error(m.Ended(), got)
			}
		})
	}
}

// TestPoolBuildFails has no guest come about.
func TestPoolBuildFails(t *testing.T) {
	onMachine := func(do func(*fakemachine.Machine)) func(*bench, *Order) {
		return func(b *bench, _ *Order) { b.machines.Prepare(do) }
	}
	refuse := func(command string) func(*bench, *Order) {
		return onMachine(func(m *fakemachine.Machine) { m.OnCommand(command, localvmm.Reply{Refuse: "no"}) })
	}
	for name, spoil := range map[string]func(*bench, *Order){
		"plan": func(_ *bench, o *Order) {
			plan := o.Plan
			o.Plan = func(dir string) (*qemu.Config, Parts, error) {
				cfg, parts, _ := plan(dir)
				cfg.Restore.File.Close()
				return nil, parts, errors.New("no luck")
			}
		},
		"load":   refuse("migrate-incoming"),
		"cont":   refuse("cont"),
		"stop":   refuse("stop"),
		"agent":  onMachine(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentHangsUp) }),
		"reseed": onMachine(func(m *fakemachine.Machine) { m.OnOp("renew", fakemachine.Fail(1)) }),
		"limit": func(b *bench, o *Order) {
			b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
			o.Limit = 20 * time.Millisecond
		},
		"reset": func(b *bench, o *Order) {
			o.Reseed = func(context.Context, *guest.Client) error {
				b.machines.Last().Event("RESET", nil)
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			parts := &testParts{}
			o := b.order(b.save(), Key{}, parts)
			spoil(b, &o)
			var pool Pool
			temp := t.TempDir()
			pool.Prepare(temp, o)
			if pool.Take(t.Context(), Key{}) != nil {
				t.Error("taken")
			}
			pool.Close()
			if got := parts.String(); !strings.HasSuffix(got, "close") {
				t.Error(got)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Error(left, err)
			}
		})
	}
}

// TestPoolSize keeps no more guests than run, and at least one.
func TestPoolSize(t *testing.T) {
	b := newBench(t)
	s := b.save()
	var pool Pool
	t.Cleanup(pool.Close)
	pool.CountRunning(+2)
	first := &testParts{}
	for n := range 3 {
		parts := &testParts{}
		if n == 0 {
			parts = first
		}
		pool.Prepare(t.TempDir(), b.order(s, Key{Seed: uint64(n)}, parts))
		b.prewarmed(n + 2)
	}
	eventually(t, "the oldest is gone", func() bool { return strings.HasSuffix(first.String(), "close") })
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if pool.Take(given, Key{Seed: 0}) != nil {
		t.Error("taken")
	}
	pool.Drop(Key{}.Snapshot)
	if pool.Take(t.Context(), Key{Seed: 2}) != nil {
		t.Error("taken though dropped")
	}
}

func TestHeld(t *testing.T) {
	var w heldWriter
	if _, err := w.Write(make([]byte, heldLimit)); err != nil || w.overflown() {
		t.Error(err)
	}
	if _, err := w.Write([]byte("x")); err != nil || !w.overflown() {
		t.Error(err)
	}
	var text strings.Builder
	w.set(&text)
	if _, err := w.Write([]byte("y")); err != nil || text.Len() != heldLimit+1 {
		t.Error(text.Len(), err)
	}
	var e heldEvents
	for range heldEventLimit {
		e.add(qemu.Event{Name: "X"})
	}
	if e.overflown() {
		t.Error("too early")
	}
	e.add(qemu.Event{Name: "X"})
	n := 0
	e.set(func(qemu.Event) { n++ })
	e.add(qemu.Event{Name: "Y"})
	if !e.overflown() || n != heldEventLimit+1 {
		t.Error(n)
	}
	var l heldLoss
	lost := errors.New("lost")
	if l.why(lost) != lost {
		t.Error("changed")
	}
	l.set(func(error) error { return os.ErrClosed })
	if l.why(lost) != os.ErrClosed {
		t.Error("not asked")
	}
}
