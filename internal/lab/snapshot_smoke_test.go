package lab

import (
	"context"
	"os"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/qemu"
)

func newTestLab(t *testing.T) *Lab {
	s := proc.NewStarter()
	t.Cleanup(s.Close)
	images, err := image.NewStore(image.Config{CacheDir: "/tmp/imgcache", Runner: s, HostRoot: "/", Notice: func(x string) { t.Log(x) }})
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := os.MkdirTemp("", "lt")
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &Host{TempDir: dir, Images: images, Starter: s, AccelHost: qemu.ThisHost(), Emit: func(e event.Event) { t.Logf("%#v", e) },
		Profiles: map[string]*Profile{"host": {Name: "host"}},
		Warn:     func(f string, a ...any) { t.Logf(f, a...) }}
	return New(h)
}

func TestSnapSmoke(t *testing.T) {
	l := newTestLab(t)
	v, err := l.DeclareVM("a", "host", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	defer l.CloseScope(ctx)
	step := func(name string, f func() error) {
		t.Helper()
		t0 := time.Now()
		if err := f(); err != nil {
			t.Log(v.Console().Tail(2000))
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, time.Since(t0))
	}
	sh := func(cmd string) func() error {
		return func() error {
			r, err := v.Run(ctx, RunRequest{Shell: cmd})
			if err == nil {
				t.Logf("%s", r.Stdout)
			}
			return err
		}
	}
	step("boot", func() error { return v.Boot(ctx, nil) })
	step("run", sh("echo hello >/tmp/x; date; echo $$"))
	var s *Snapshot
	step("snapshot", func() (err error) { s, err = v.Snapshot(ctx, ""); return })
	n, _ := s.Size()
	t.Logf("size %d MiB", n>>20)
	step("run", sh("echo hello2 >/tmp/x; date"))
	step("snapshot2", func() (err error) { _, err = v.Snapshot(ctx, ""); return })
	step("run", sh("cat /tmp/x"))
	step("shutdown", func() error { return v.Shutdown(ctx) })
	for range 3 {
		step("restore", func() error { return v.Restore(ctx, s.Path()) })
		step("run", sh("cat /tmp/x; date; head -c 8 /dev/urandom | xxd"))
		step("shutdown", func() error { return v.Shutdown(ctx) })
	}
	step("restore", func() error { return v.Restore(ctx, s.Path()) })
	step("run", sh("echo hello3 > /tmp/x; date; head -c 8 /dev/urandom | xxd"))
	var s3 *Snapshot
	step("snapshot of restored", func() (err error) { s3, err = v.Snapshot(ctx, ""); return })
	step("run", sh("echo hello4 > /tmp/x"))
	step("snapshot of restored", func() (err error) { _, err = v.Snapshot(ctx, ""); return })
	step("shutdown", func() error { return v.Shutdown(ctx) })
	step("restore 3", func() error { return v.Restore(ctx, s3.Path()) })
	step("run", sh("cat /tmp/x; date; head -c 8 /dev/urandom | xxd"))
	step("reset", func() error { return v.Reset(ctx) })
	step("run", sh("cat /tmp/x; date; head -c 8 /dev/urandom | xxd"))
}
