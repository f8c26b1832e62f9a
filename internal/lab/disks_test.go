package lab

import (
	"context"
	"errors"
	"testing"

	"provium/internal/disk"
	"provium/internal/localvmm"
	"provium/internal/topology"
	"provium/internal/wire"
)

func scratch(id string) disk.Spec { return disk.Spec{ID: id, Scratch: 1 << 20} }

func TestDisksOfEveryState(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	l.host.Profiles["p"].Disks = []disk.Spec{scratch("profile")}
	v, err := l.DeclareVM("a", "p", &topology.BootOpts{Disks: []disk.Spec{{Scratch: 1 << 20}}})
	must(t, err)
	for _, id := range []string{"profile", "boot0"} { // before the first boot
		d, err := v.Disk(ctx, id)
		must(t, err)
		if VMOf(d) != v {
			t.Error("another owner")
		}
	}
	early, err := v.AttachDisk(ctx, scratch("early"))
	must(t, err)
	must(t, v.Boot(ctx, nil))
	if n := len(v.inst.plan.cfg.Disks); n != 3 {
		t.Errorf("%d disks at the boot", n)
	}
	_, err = v.AttachDisk(ctx, scratch("early"))
	wantError(t, err, "`early`")
	late, err := v.AttachDisk(ctx, scratch("late"))
	must(t, err)
	awaited := 0
	for _, r := range f.Last().Requests() {
		if _, ok := r.(*wire.AwaitDisk); ok {
			awaited++
		}
	}
	if awaited != 1 {
		t.Errorf("the guest was asked for a disk %d times", awaited)
	}
	must(t, v.ResizeDisk(ctx, late, 2<<20))
	must(t, v.ResizeDisk(ctx, late, 2<<20)) // nothing to do
	wantError(t, v.ResizeDisk(ctx, late, 1<<20), "can only grow")

	must(t, v.Pause(ctx))
	wantError(t, v.DetachDisk(ctx, late), "cannot detach", "paused")
	frozen, err := v.AttachDisk(ctx, scratch("frozen"))
	must(t, err)
	must(t, v.Resume(ctx))
	for _, d := range []*disk.Disk{late, frozen, early} {
		must(t, v.DetachDisk(ctx, d))
		must(t, v.DetachDisk(ctx, d))
	}
	_, err = v.Disk(ctx, "late")
	wantError(t, err, "late")
	must(t, v.Shutdown(ctx))
	must(t, v.ResizeDisk(ctx, v.disks.All()[0], 4<<20))
	if images := v.DiskImages(); len(images) != 0 {
		t.Errorf("%v", images)
	}
	must(t, v.Boot(ctx, nil))
	v.MarkDead("it broke")
	_, err = v.AttachDisk(ctx, scratch("dead"))
	wantError(t, err, "cannot attach_disk", "dead: it broke")
	held := canceled(t)
	unlock, err := v.lifecycle(ctx)
	must(t, err)
	for _, do := range []func() error{
		func() error { _, err := v.AttachDisk(held, scratch("x")); return err },
		func() error { return v.DetachDisk(held, v.disks.All()[0]) },
		func() error { return v.ResizeDisk(held, v.disks.All()[0], 8<<20) },
	} {
		if err := do(); !errors.Is(err, errGivenUp) {
			t.Error(err)
		}
	}
	unlock()
}

// TestDisksThatDoNotAttach leave nothing behind.
func TestDisksThatDoNotAttach(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	refused := func(want string) {
		t.Helper()
		_, err := v.AttachDisk(ctx, scratch("d"))
		wantError(t, err, "disk `d`: ", want)
		if n := len(v.disks.All()); n != 0 {
			t.Errorf("%d disks", n)
		}
	}
	m.OnCommand("device_add", localvmm.Reply{Refuse: "no such bus"})
	refused("no such bus")
	m.OnCommand("device_add", localvmm.Reply{})
	m.OnOp("await_disk", func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
		return nil, &wire.Error{Text: "the kernel has no driver"}
	})
	refused("the kernel has no driver")
}
