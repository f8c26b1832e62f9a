package diskapi

import (
	"context"
	"fmt"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
	"provium/internal/disk"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// diskCrashMethods are those about what a power cut leaves.
func diskCrashMethods() map[string]diskMethod {
	return map[string]diskMethod{
		"power_cut": diskPowerCut,
		"power_on":  diskCall((*disk.Disk).PowerOn),
		"record":    diskRecord,
		"mark":      diskMark,

		"load_recording": diskLoadRecording,

		"crash_points": diskCrashPoints,
		"sweep":        diskSweep,
	}
}

// diskPowerCut is disk:power_cut({keep=, seed=, count=, torn=, off=}?).
func diskPowerCut(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	c := blockdev.Cut{Count: -1}
	var names []string
	for _, k := range blockdev.Keeps() {
		names = append(names, string(k))
	}
	keep, err := o.Choice("keep", string(blockdev.KeepNone), names...)
	if err != nil {
		return nil, err
	}
	c.Keep = blockdev.Keep(keep)
	seed, err := seed(x, o)
	if err != nil {
		return nil, err
	}
	c.Seed = uint64(seed)
	count, given, err := o.Integer("count")
	switch {
	case err != nil:
		return nil, err
	case given && c.Keep != blockdev.KeepPrefix:
		return nil, o.Errorf("count", "is for keep = \"prefix\"")
	case given && count < 0:
		return nil, o.Errorf("count", "must not be negative, got %d", count)
	case given:
		c.Count = count
	}
	if c.Torn, err = o.Bool("torn", false); err != nil {
		return nil, err
	}
	if c.Off, err = o.Bool("off", false); err != nil {
		return nil, err
	}
	var r blockdev.CutResult
	err = diskOp(x, a, d, func(context.Context) (err error) {
		r, err = d.PowerCut(c)
		return err
	})
	if err != nil {
		return nil, err
	}
	t := x.State.NewTable()
	value.MustSet(t, "keep", keep)
	value.MustSet(t, "seed", seed)
	value.MustSet(t, "unflushed", int64(r.Unflushed))
	value.MustSet(t, "kept", int64(r.Kept))
	value.MustSet(t, "torn", int64(r.Torn))
	value.MustSet(t, "sectors", r.KeptSectors)
	return []lua.Value{t}, nil
}

// seed reads the seed of what chance decides in a call. Without one it is that of the
// run, so that `--seed` makes another run of it.
func seed(x *env, o value.Options) (int64, error) {
	seed, given, err := o.Integer("seed")
	if err == nil && !given {
		seed = int64(x.Seed())
	}
	return seed, err
}

// diskRecord is disk:record({limit=}?).
func diskRecord(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	limit, err := o.Size("limit", blockdev.RecordLimit)
	if err != nil {
		return nil, err
	}
	var r *disk.Recording
	err = diskOp(x, a, d, func(context.Context) (err error) {
		r, err = d.Record(limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{x.State.NewUserdata(x.Types.Recording, r)}, nil
}

// diskLoadRecording is disk:load_recording(path).
func diskLoadRecording(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	var r *disk.Recording
	err = diskOp(x, a, d, func(context.Context) (err error) {
		r, err = d.LoadRecording(x.InProject(path))
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{x.State.NewUserdata(x.Types.Recording, r)}, nil
}

// maxLabel is how long a mark's label can be, in bytes.
const maxLabel = 200

// labelArg is the label of a mark: a string or a number.
func labelArg(a value.Args) (string, error) {
	switch v := a.Value(1).(type) {
	case string:
		if len(v) > maxLabel {
			return "", a.Errorf("the label has %d bytes (at most %d)", len(v), maxLabel)
		}
		return v, nil
	case int64, float64:
		return value.Format(v), nil
	}
	return "", a.TypeError(1, "label", "a string or a number")
}

// diskMark is disk:mark(label).
func diskMark(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	label, err := labelArg(a)
	if err != nil {
		return nil, err
	}
	if err := d.Mark(label); err != nil {
		return nil, a.Errorf("disk `%s`: %w", d.ID(), err)
	}
	return nil, nil
}

type recordingMethod = binding.Method[*env, *disk.Recording]

func newRecordingType(x *env) *lua.Type {
	return &lua.Type{
		Name: "recording",
		ToString: func(_ *lua.Call, obj any) string {
			r := obj.(*disk.Recording)
			return fmt.Sprintf("recording(%s of vm %s, %d entries)", r.Disk().ID(), r.Disk().Owner().Name(), r.Len())
		},
		Methods: binding.MethodTable(x, "recording", map[string]recordingMethod{
			"stop": func(_ *env, _ value.Args, r *disk.Recording) ([]lua.Value, error) {
				r.Stop()
				return nil, nil
			},
			"save": recordingSave,
			"close": func(_ *env, a value.Args, r *disk.Recording) ([]lua.Value, error) {
				if err := r.Close(); err != nil {
					return nil, a.Errorf("%w", err)
				}
				return nil, nil
			},
			"mark": func(_ *env, a value.Args, r *disk.Recording) ([]lua.Value, error) {
				label, err := labelArg(a)
				if err != nil {
					return nil, err
				}
				if err := r.Mark(label); err != nil {
					return nil, a.Errorf("%w", err)
				}
				return nil, nil
			},
			"count": func(_ *env, _ value.Args, r *disk.Recording) ([]lua.Value, error) {
				return []lua.Value{int64(r.Len())}, nil
			},
			"bytes": func(_ *env, _ value.Args, r *disk.Recording) ([]lua.Value,
				error) {
				return []lua.Value{r.Bytes()}, nil
			},
			"ended":   recordingEnded,
			"entries": recordingEntries,
		}),
	}
}

// recordingEnded is rec:ended(): why the recording ended, nil while it goes on.
func recordingEnded(x *env, _ value.Args, r *disk.Recording) ([]lua.Value, error) {
	why, err := r.Ended()
	switch {
	case err != nil:
		return []lua.Value{err.Error()}, nil
	case why == "":
		return []lua.Value{nil}, nil
	}
	return []lua.Value{why}, nil
}

// recordingSave is rec:save(path).
func recordingSave(x *env, a value.Args, r *disk.Recording) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	err = x.Op(a, lab.VMOf(r.Disk()), func(context.Context) error { return r.Save(x.InProject(path)) })
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}

// recordingEntries is rec:entries(): an array of what was noted, in order.
func recordingEntries(x *env, _ value.Args, r *disk.Recording) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, r.Log(), func(op crash.Op) lua.Value {
		t := x.State.NewTable()
		switch op.Kind {
		case crash.Flush:
			value.MustSet(t, "kind", "flush")
		case crash.Mark:
			value.MustSet(t, "kind", "mark")
			value.MustSet(t, "label", op.Label)
		default:
			value.MustSet(t, "kind", "write")
			value.MustSet(t, "sector", op.First)
			value.MustSet(t, "count", op.Count)
			if op.FUA {
				value.MustSet(t, "fua", true)
			}
		}
		return t
	})}, nil
}
