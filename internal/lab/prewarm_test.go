package lab

import (
	"os"
	"testing"
	"time"

	"provium/internal/fakemachine"
)

// awaitPrewarmed waits until n guests were restored ahead of need, and returns the last
// of them, which is stopped.
func awaitPrewarmed(t *testing.T, f *fakemachine.Machines, n int) *fakemachine.Machine {
	t.Helper()
	for {
		var found []*fakemachine.Machine
		for _, m := range f.All() {
			if m.Name() == "prewarmed" {
				found = append(found, m)
			}
		}
		if len(found) >= n && found[n-1].Status() == "paused" {
			return found[n-1]
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d of %d were made", len(found), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestPrewarmed restores from what was restored ahead of need.
func TestPrewarmed(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	h := l.host
	v := declare(t, l, "a")
	must(t, v.Boot(ctx, nil))
	must(t, v.WriteFile(ctx, "/tmp/x", []byte("kept")))
	s, err := v.Snapshot(ctx, "")
	must(t, err)
	must(t, v.Shutdown(ctx))
	isPrewarmed := func(v *VM) bool { return machineOf(f, v).Name() == "prewarmed" }
	restore := func(v *VM, want bool) {
		t.Helper()
		must(t, v.Restore(ctx, s.Path()))
		must(t, v.Ping(ctx))
		if got := isPrewarmed(v); got != want {
			t.Fatalf("prewarmed: %v, want %v", got, want)
		}
		if got, err := v.ReadFile(ctx, "/tmp/x"); err != nil || string(got) != "kept" {
			t.Fatalf("/tmp/x is %q, %v", got, err)
		}
		must(t, v.WriteFile(ctx, "/tmp/x", []byte("lost")))
		if n := len(machineOf(f, v).Entropy()); n == 0 {
			t.Error("no entropy was mixed in")
		}
	}
	restore(v, false)
	must(t, v.Shutdown(ctx))
	restore(v, false)
	must(t, v.Shutdown(ctx))
	// The second restore had one made, which serves another VM as well.
	w := declare(t, l, "b")
	restore(w, true)
	if got := w.Console(); got.VM() != w {
		t.Error(got.VM().Name())
	}
	m := machineOf(f, w)
	m.Print(false, "as any other\n")
	must(t, expect(ctx, w, "as any other", patience))
	// The guest is as any other: it can be saved, and reset.
	again, err := w.Snapshot(ctx, "")
	must(t, err)
	must(t, w.Reset(ctx))
	if _, err := w.ReadFile(ctx, "/tmp/x"); err == nil {
		t.Error("the file is there after a reset")
	}
	must(t, w.Shutdown(ctx))
	if !m.Ended() {
		t.Error("the machine runs")
	}
	must(t, w.Restore(ctx, again.Path()))
	if got, err := w.ReadFile(ctx, "/tmp/x"); err != nil || string(got) != "lost" {
		t.Fatalf("/tmp/x is %q, %v", got, err)
	}
	must(t, w.Shutdown(ctx))

	// One that ended meanwhile is not used.
	dead := awaitPrewarmed(t, f, 2)
	dead.Kill()
	_ = dead.Wait() // it was killed
	restore(v, false)
	must(t, v.Shutdown(ctx))

	// Nor one of a file that was replaced.
	awaitPrewarmed(t, f, 3)
	must(t, os.Rename(again.Path(), s.Path()))
	must(t, v.Restore(ctx, s.Path()))
	if isPrewarmed(v) {
		t.Error("a guest of the file that was replaced was used")
	}
	// With the snapshot its guest goes.
	must(t, v.Prepare(ctx, s.Path()))
	prepared := awaitPrewarmed(t, f, 4)
	must(t, s.Delete())
	must(t, v.Shutdown(ctx))
	h.prewarmed.Close()
	if !prepared.Ended() {
		t.Error("the guest of a deleted snapshot is left")
	}
}

// TestNoPrewarmingOnABusyHost restores as often as would be enough on another host.
func TestNoPrewarmingOnABusyHost(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	asked := 0
	l.host.Busy = func() bool { asked++; return true }
	v := declare(t, l, "a")
	must(t, v.Boot(ctx, nil))
	s, err := v.Snapshot(ctx, "")
	must(t, err)
	for range 3 {
		must(t, v.Shutdown(ctx))
		must(t, v.Restore(ctx, s.Path()))
	}
	for _, m := range f.All() {
		if m.Name() == "prewarmed" {
			t.Error("a guest was restored ahead of need")
		}
	}
	if asked == 0 {
		t.Error("nobody asked whether the host is busy")
	}
}
