package lab

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// waitStandbys waits until all stand-bys are built.
func waitStandbys(h *Host) (n int) {
	h.standbys.mu.Lock()
	list := append([]*standby(nil), h.standbys.list...)
	h.standbys.mu.Unlock()
	for _, b := range list {
		<-b.built
	}
	return len(list)
}

// TestStandby restores from what was restored ahead of need.
func TestStandby(t *testing.T) {
	l, h := guestLab(t)
	v, err := l.DeclareVM("a", "host", nil)
	must(t, err)
	must(t, v.Boot(t.Context(), nil))
	shell(t, v, "echo kept > /tmp/x; (while :; do echo tick; sleep 0.01; done) > /dev/console &")
	s, err := v.Snapshot(t.Context(), "")
	must(t, err)
	shell(t, v, "true")
	must(t, v.Shutdown(t.Context()))

	seen := map[string]bool{}
	restore := func(v *VM, wantStandby bool) {
		t.Helper()
		before := waitStandbys(h)
		start := time.Now()
		must(t, v.Restore(t.Context(), s.Path()))
		must(t, v.Ping(t.Context()))
		t.Logf("%d stand-bys before; restore in %v", before, time.Since(start))
		if got := v.inst.ownDir != ""; got != wantStandby {
			t.Fatalf("from a stand-by: %v, want %v", got, wantStandby)
		}
		if got := shell(t, v, "cat /tmp/x; echo lost > /tmp/x"); got != "kept" {
			t.Fatalf("/tmp/x is %q", got)
		}
		now := shell(t, v, "date +%s")
		if d := time.Now().Unix() - int64(atoi(t, now)); d < -2 || d > 5 {
			t.Fatalf("the clock is off by %d s", d)
		}
		random := shell(t, v, "head -c 16 /dev/urandom | xxd -p")
		if seen[random] {
			t.Fatalf("random bytes %s came before", random)
		}
		seen[random] = true
	}
	restore(v, false)
	must(t, v.Shutdown(t.Context()))
	restore(v, false)
	must(t, v.Shutdown(t.Context()))
	// The second restore had a stand-by made, which serves another VM as well.
	w, err := l.DeclareVM("b", "host", nil)
	must(t, err)
	restore(w, true)
	// The guest is as any other: it can be saved, and reset.
	again, err := w.Snapshot(t.Context(), "")
	must(t, err)
	must(t, w.Reset(t.Context()))
	shell(t, w, "test ! -e /tmp/x")
	dir := w.inst.ownDir
	must(t, w.Shutdown(t.Context()))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory of the stand-by: %v", err)
	}
	must(t, w.Restore(t.Context(), again.Path()))
	if got := shell(t, w, "cat /tmp/x"); got != "lost" {
		t.Fatalf("/tmp/x is %q", got)
	}
	must(t, w.Shutdown(t.Context()))

	// A stand-by that ended meanwhile is not used.
	if waitStandbys(h) != 1 {
		t.Fatalf("%d stand-bys, want 1", waitStandbys(h))
	}
	b := h.standbys.list[0]
	b.machine.Kill()
	<-b.machine.Done()
	restore(v, false)
	must(t, v.Shutdown(t.Context()))

	// Nor one of a file that was replaced.
	if waitStandbys(h) != 1 {
		t.Fatalf("%d stand-bys, want 1", waitStandbys(h))
	}
	must(t, os.Rename(again.Path(), s.Path()))
	must(t, v.Restore(t.Context(), s.Path()))
	if v.inst.ownDir != "" {
		t.Error("a stand-by of the file that was replaced was used")
	}
	// With the snapshot its stand-by goes.
	must(t, v.Prepare(t.Context(), s.Path()))
	waitStandbys(h)
	must(t, s.Delete())
	h.standbys.mu.Lock()
	for _, b := range h.standbys.list {
		if b.key.snapshot == v.inst.plan.origin {
			t.Error("a stand-by of a deleted snapshot is left")
		}
	}
	h.standbys.mu.Unlock()
	must(t, v.Shutdown(t.Context()))
	h.standbys.close()
	if len(h.standbys.list) != 0 {
		t.Error("stand-bys are left")
	}
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}
