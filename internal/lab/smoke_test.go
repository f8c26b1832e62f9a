package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/image"
	"provium/internal/proc"
	"provium/internal/qemu"
)

func TestSmoke(t *testing.T) {
	s := proc.NewStarter()
	defer s.Close()
	images, err := image.NewStore(image.Config{CacheDir: "/tmp/imgcache", Runner: s, HostRoot: "/", Notice: func(x string) { t.Log(x) }})
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := os.MkdirTemp("", "lt")
	defer os.RemoveAll(dir)
	h := &Host{TempDir: dir, Images: images, Starter: s, AccelHost: qemu.ThisHost(), Emit: func(e event.Event) { t.Logf("%#v", e) },
		Profiles: map[string]*Profile{"host": {Name: "host"}},
		Warn:     func(f string, a ...any) { t.Logf(f, a...) }}
	l := New(h)
	v, err := l.DeclareVM("a", "host", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for i := range 2 {
		t0 := time.Now()
		if err := v.Boot(ctx, nil); err != nil {
			t.Fatal(err)
		}
		t.Logf("boot %v", time.Since(t0))
		t0 = time.Now()
		r, err := v.Run(ctx, RunRequest{Shell: "uname -a; cat /proc/cmdline; free -m; ps"})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("run %v %s", time.Since(t0), r.Stdout)
		t0 = time.Now()
		for range 100 {
			v.Ping(ctx)
		}
		t.Logf("ping %v", time.Since(t0)/100)
		if i == 1 {
			t0 = time.Now()
			if err := v.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			t.Logf("reset %v", time.Since(t0))
			t0 = time.Now()
			ok, err := v.PowerButton(ctx, 30*time.Second)
			t.Logf("power %v %v %v", ok, err, time.Since(t0))
		}
		v.Shutdown(ctx)
	}
	for _, w := range l.CloseScope(ctx) {
		fmt.Println(w)
	}
}
