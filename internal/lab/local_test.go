package lab

import (
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/guest/handle"
	"provium/internal/localvmm"
	"provium/internal/network"
	"provium/internal/stream"
	"provium/internal/topology"
)

// localHost returns a host whose machines boot no kernel, as that of --vmm local.
func localHost(t *testing.T) *Host {
	t.Helper()
	h, _ := fakeHost(t)
	h.Starter, h.Images, h.Local = &localvmm.Starter{}, fakemachine.New(t), true
	h.Profiles["p"].Image.Userland.Kind = "host" // which is not needed
	return h
}

// TestLocal has states, topology and snapshots work without guests, and operations
// of tests say what is missing.
func TestLocal(t *testing.T) {
	ctx := t.Context()
	l := newLab(t, localHost(t))
	v := declare(t, l, "a")
	wantError(t, v.Ping(ctx), "cannot ping", "created")
	b, err := l.Bridge("lan", nil)
	must(t, err)
	must(t, b.Attach(ctx, []network.Endpoint{{VM: v, Name: "a"}}))
	must(t, v.Boot(ctx, nil))
	if cid, ok := v.CID(); !ok || cid == 0 {
		t.Error("no CID")
	}
	wantError(t, v.Ping(ctx), "boots no guests (--vmm local)")
	_, err = handle.NewClock(v).GetNS(ctx)
	wantError(t, err, "boots no guests")
	_, err = v.AsActor().OpenFile(ctx, "/x", handle.FileMode{})
	wantError(t, err, "boots no guests")
	_, err = v.Console().Read(stream.Site{})
	wantError(t, err, "console:read: VMM does not expose a console socket")
	wantError(t, v.Console().Write(ctx, []byte("x"), 0), "console:write: VMM does not expose a console socket")
	for _, step := range []struct {
		do   func() error
		want topology.State
	}{
		{func() error { return v.Pause(ctx) }, topology.Paused},
		{func() error { return v.Resume(ctx) }, topology.Booted},
		{func() error { return v.Reset(ctx) }, topology.Booted},
	} {
		must(t, step.do())
		if got := v.State(); got != step.want {
			t.Errorf("state %s, want %s", got, step.want)
		}
	}
	s, err := v.Snapshot(ctx, "")
	must(t, err)
	must(t, v.Shutdown(ctx))
	must(t, v.Restore(ctx, s.Path()))
	graceful, err := v.PowerButton(ctx, patience)
	if err != nil || !graceful || v.State() != topology.Shutdown {
		t.Error(graceful, err, v.State())
	}
}
