package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"provium/internal/disk"
	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/localvmm"
)

// TestLimitsOfHotPlugAndSnapshotAreFair has a guest, or its QEMU, not do what a hot-plug, the release of a disk or a
// snapshot needs. With a CPU it is given up at the limit. Without one it is not, until four times the limit have passed
// on the clock; what was charged is in the message. What comes before that is in time.
func TestLimitsOfHotPlugAndSnapshotAreFair(t *testing.T) {
	for name, op := range map[string]struct {
		limit time.Duration
		what  string // took longer
		block func(m *fakemachine.Machine, until <-chan struct{})
		do    func(t *testing.T, v *VM, d *disk.Disk) error
		// first is how many limits of that length begin, and end, before. undo says that another one follows.
		first int
		undo  bool
	}{
		"hot-plug": {limit: plugTimeout, what: "the guest's reaction", block: blockDisks,
			do: func(t *testing.T, v *VM, _ *disk.Disk) error {
				_, err := v.AttachDisk(t.Context(), disk.Spec{ID: "more", Scratch: 1 << 20})
				return err
			}},
		"release": {limit: plugTimeout, what: "the guest's reaction", block: blockDisks,
			do: func(t *testing.T, v *VM, d *disk.Disk) error { return v.DetachDisk(t.Context(), d) }},
		"snapshot": {limit: 30 * time.Second, what: "QEMU", block: func(m *fakemachine.Machine, until <-chan struct{}) {
			m.OnCommand("stop", localvmm.Reply{Before: until})
		}, do: func(t *testing.T, v *VM, _ *disk.Disk) error {
			_, err := v.Snapshot(t.Context(), "")
			return err
		}, first: 1, undo: true},
	} {
		for _, c := range []struct {
			name    string
			starved bool // the host leaves the guest no CPU
			late    int  // how many limits pass before the guest reacts; 0: it does not
			want    string
		}{
			{"with a CPU", false, 0, op.what + " took longer than " + op.limit.String()},
			{"without a CPU", true, 0, op.what + " took longer than " + op.limit.String() + " (" +
				(4 * op.limit).String() + " on the clock, of which " + (4 * op.limit).String() + " do not count"},
			{"late without a CPU", true, 3, ""},
		} {
			t.Run(name+" "+c.name, func(t *testing.T) {
				ctx := t.Context()
				clock := &fakemachine.Clock{}
				h, f := fakeHost(t)
				h.Watch = guest.Watch{Time: clock, Hindered: clock.Hindered(c.starved)}
				v := declare(t, newLab(t, h), "a")
				if err := v.Boot(ctx, nil); err != nil {
					t.Fatal(err)
				}
				d, err := v.AttachDisk(ctx, disk.Spec{ID: "d", Scratch: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				until := make(chan struct{})
				op.block(f.Last(), until)
				before := clock.Asked(op.limit) + op.first
				done := make(chan error, 1)
				pending, over := context.WithCancelCause(ctx)
				go func() {
					err := op.do(t, v, d)
					done <- err
					over(fmt.Errorf("it has ended: %v", err))
				}()
				limits := 1
				if c.starved {
					limits = 4
				}
				if c.late > 0 {
					limits = c.late
				}
				for i := range limits {
					if err := clock.Await(pending, before+i+1, op.limit); err != nil {
						t.Fatalf("it was given up after %d times its limit: %v", i, err)
					}
					clock.Advance(op.limit)
				}
				if c.late > 0 {
					if err := clock.Await(pending, before+limits+1, op.limit); err != nil {
						t.Fatal(err)
					}
					close(until)
				}
				if c.late == 0 && op.undo {
					if err := clock.Await(pending, before+limits+1, op.limit); err != nil {
						t.Fatal(err)
					}
					close(until)
				}
				err = <-done
				if c.late == 0 && !op.undo {
					close(until)
				}
				text := fmt.Sprint(err) // "<nil>" without one
				if c.want == "" && err != nil || !strings.Contains(text, c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if c.want != "" && !c.starved && strings.Contains(text, "do not count") {
					t.Errorf("something is not charged: %v", err)
				}
			})
		}
	}
}

// blockDisks has the guest notice no disk, and release none.
func blockDisks(m *fakemachine.Machine, until <-chan struct{}) {
	m.OnCommand("device_del", localvmm.Reply{Before: until})
	m.OnOp("await_disk", fakemachine.Held(until))
}
