package instance

import (
	"context"

	"provium/internal/qemu"
)

// Template makes a template of the snapshot that the guest was restored from, if that has none. The
// guest stands still for some milliseconds. Template returns nil where it makes none, and an error if
// the guest does not go on.
//
// What the guest has run since its restore shows in copies as little as what a prewarmed one has run.
// One that is exercised first has copies for which the code for that is translated, which takes longer
// than all else that they would do; what it has run is seen by the numbers of processes.
func (i *Instance) Template(ctx context.Context, exercise bool) (*qemu.Template, error) {
	if c := i.cfg.QEMU; c.Restore.Template != nil || len(c.NICs)+len(c.Disks) > 0 {
		return nil, nil
	}
	link, err := i.Client(ctx)
	if err != nil {
		return nil, err
	}
	if exercise {
		_ = link.Exercise(ctx) // the test would see why
	}
	if err := i.Halt(ctx); err != nil {
		return nil, err
	}
	t, _ := i.machine.Template(ctx) // without one, the file will do
	return t, i.Continue(ctx)
}
