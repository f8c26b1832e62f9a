package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/fulltest"
	"provium/internal/guest"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/qemu/accelerator"
)

// guestLab is a lab whose VMs are real guests of the built-in profile.
func guestLab(t *testing.T) (*Lab, *Host) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots guests")
	}
	starter := proc.NewStarter()
	t.Cleanup(starter.Close)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.NewStore(image.Config{CacheDir: filepath.Join(cache, "provium", "images"), Runner: starter,
		HostRoot: "/",
		Notice:   func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &Host{TempDir: dir, Images: images, Starter: starter, AccelHost: accelerator.This(),
		Profiles: map[string]*Profile{"host": {Name: "host"}},
		Warn:     func(format string, args ...any) { t.Errorf("warning: "+format, args...) }}
	l := New(h)
	t.Cleanup(func() {
		for _, err := range l.CloseScope(context.Background()) {
			t.Error(err)
		}
	})
	return l, h
}

func shell(t *testing.T, v *VM, text string) string {
	t.Helper()
	r, err := v.Run(t.Context(), guest.RunRequest{Shell: text})
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, v.Console().Tail(4096))
	}
	if r.ExitCode != 0 {
		t.Fatalf("%s: exit %d: %s", text, r.ExitCode, r.Stderr)
	}
	return string(bytes.TrimSpace(r.Stdout))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// TestRestoreLoop restores again and again, from booted and from restored
// guests, and looks at what stays behind.
func TestRestoreLoop(t *testing.T) {
	l, h := guestLab(t)
	var events []string
	h.Emit = withoutDetails(func(e event.Event) { events = append(events, fmt.Sprintf("%T", e)) })
	v, err := l.DeclareVM("a", "host", nil)
	must(t, err)
	started := time.Now()
	must(t, v.Boot(t.Context(), nil))
	shell(t, v, "true")
	cold := time.Since(started)
	shell(t, v, "echo kept > /tmp/x")
	s, err := v.Snapshot(t.Context(), "")
	must(t, err)
	must(t, v.Shutdown(t.Context()))

	rounds := fulltest.Of(9, 24)
	seen := map[string]bool{}
	var took []time.Duration
	var files, entries int
	for i := range rounds {
		started := time.Now()
		must(t, v.Restore(t.Context(), s.Path()))
		must(t, v.Ping(t.Context()))
		took = append(took, time.Since(started))
		if got := shell(t, v, "cat /tmp/x; echo lost > /tmp/x"); got != "kept" {
			t.Fatalf("round %d: %q", i, got)
		}
		random := shell(t, v, "head -c 16 /dev/urandom | xxd -p")
		if seen[random] {
			t.Fatalf("round %d: random bytes %s came before", i, random)
		}
		seen[random] = true
		if i%6 == 5 {
			// The restored guest's own snapshot is what is restored from now on.
			shell(t, v, "echo kept > /tmp/x")
			next, err := v.Snapshot(t.Context(), "")
			must(t, err)
			must(t, s.Delete())
			s = next
			shell(t, v, "true")
		}
		must(t, v.Shutdown(t.Context()))
		h.prewarmed.Close()
		if i == 6 {
			files, entries = openFiles(t), len(filesBelow(t, h.TempDir))
		}
		if i > 6 {
			expectNoMore(t, i, h.TempDir, files+2, entries)
		}
	}
	slices.Sort(took)
	t.Logf("cold boot %v; restore to first answer: median %v, p99 %v, 1/%.1f of the boot", cold,
		took[rounds/2], took[rounds*99/100], cold.Seconds()/took[rounds/2].Seconds())
	if want := 2 * (rounds + 1); len(events) != want {
		t.Errorf("%d events, want %d", len(events), want)
	}
	for i, e := range events {
		if want := []string{"event.VMSpawned", "event.VMShutdown"}[i%2]; e != want {
			t.Errorf("event %d is %s, want %s", i, e, want)
		}
	}
}

// filesBelow returns the paths of dir and of all that is below it.
func filesBelow(t *testing.T, dir string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return nil
	}))
	return paths
}

// expectNoMore waits until no more files are open, and no more are below dir, than these
// numbers: what a guest has had may be closed a moment after its end.
func expectNoMore(t *testing.T, round int, dir string, open, below int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		n, paths := openFiles(t), filesBelow(t, dir)
		if n <= open && len(paths) <= below {
			return
		}
		if time.Now().Before(end) {
			continue
		}
		var files []string
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, e := range list {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			files = append(files, to)
		}
		t.Fatalf("round %d: %d open files, at most %d before: %q; %d temporary files, %d before: %q", round, n, open,
			files, len(paths), below, paths)
	}
}
