package instance

import (
	"context"

	"provium/internal/qemu"
)

// Template makes a template of the snapshot that the guest was restored from, if that has none. The
// guest stands still for some milliseconds. Template returns nil where it makes none: the file will do.
//
// What the guest has run since its restore shows in copies as little as what a prewarmed one has run.
// One that runs a command first, unless that is "", has copies for which the code for that is translated, which takes
// longer than all else that they would do; what it has run is seen by the numbers of processes.
func (i *Instance) Template(ctx context.Context, exercise string) *qemu.Template {
	if c := i.cfg.QEMU; c.Restore.Template != nil || !c.MayHaveTemplate() {
		return nil
	}
	link, err := i.Client(ctx)
	if err != nil {
		return nil // the next operation says why
	}
	if exercise != "" {
		_ = link.Exercise(ctx, exercise) // as above
	}
	if i.Halt(ctx) != nil {
		return nil // as above; it goes on
	}
	t, _ := i.machine.Template(ctx)
	if err := i.Continue(ctx); err != nil {
		i.cfg.Hooks.Warn("vm `%s` does not go on: %v", i.cfg.VM, err)
	}
	return t
}
