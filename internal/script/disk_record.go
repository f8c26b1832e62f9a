package script

import (
	"context"
	"fmt"
	"strings"

	"provium/internal/lab"
	"provium/internal/lua"
)

// diskCrashMethods are those about what a power cut leaves.
func diskCrashMethods() map[string]diskMethod {
	return map[string]diskMethod{
		"power_cut": (*file).diskPowerCut,
		"power_on":  diskCall((*lab.Disk).PowerOn),
		"record":    (*file).diskRecord,
		"mark":      (*file).diskMark,

		"load_recording": (*file).diskLoadRecording,

		"crash_points": (*file).diskCrashPoints,
		"sweep":        (*file).diskSweep,
	}
}

// diskPowerCut is disk:power_cut({keep=, seed=, count=, torn=}?).
func (f *file) diskPowerCut(a args, d *lab.Disk) ([]lua.Value, error) {
	o, err := a.options(1, "keep", "seed", "count", "torn")
	if err != nil {
		return nil, err
	}
	c := lab.DiskCut{Count: -1}
	var names []string
	for _, k := range lab.DiskKeeps() {
		names = append(names, string(k))
	}
	keep, err := o.choice("keep", string(lab.KeepNone), names...)
	if err != nil {
		return nil, err
	}
	c.Keep = lab.DiskKeep(keep)
	seed, err := f.seed(o)
	if err != nil {
		return nil, err
	}
	c.Seed = uint64(seed)
	count, given, err := o.integer("count")
	switch {
	case err != nil:
		return nil, err
	case given && c.Keep != lab.KeepPrefix:
		return nil, o.errorf("count", "is for keep = \"prefix\"")
	case given && count < 0:
		return nil, o.errorf("count", "must not be negative, got %d", count)
	case given:
		c.Count = count
	}
	if c.Torn, err = o.boolean("torn", false); err != nil {
		return nil, err
	}
	var r lab.DiskCutResult
	err = f.diskOp(a, d, func(context.Context) (err error) {
		r, err = d.PowerCut(c)
		return err
	})
	if err != nil {
		return nil, err
	}
	t := f.state.NewTable()
	set(t, "keep", keep)
	set(t, "seed", seed)
	set(t, "unflushed", int64(r.Unflushed))
	set(t, "kept", int64(r.Kept))
	set(t, "torn", int64(r.Torn))
	set(t, "sectors", r.KeptSectors)
	return []lua.Value{t}, nil
}

// seed reads the seed of what chance decides in a call. Without one it is that of the
// run, so that `--seed` makes another run of it.
func (f *file) seed(o options) (int64, error) {
	seed, given, err := o.integer("seed")
	if err == nil && !given {
		seed = int64(f.Host.Seed)
	}
	return seed, err
}

// choice reads a string that is one of some.
func (o options) choice(key, absent string, valid ...string) (string, error) {
	s, err := o.str(key, absent)
	if err != nil {
		return "", err
	}
	for _, v := range valid {
		if s == v {
			return s, nil
		}
	}
	return "", o.errorf(key, "`%s` is unknown (valid: %s)", clip(printable(s), 60), strings.Join(valid, ", "))
}

// diskRecord is disk:record({limit=}?).
func (f *file) diskRecord(a args, d *lab.Disk) ([]lua.Value, error) {
	o, err := a.options(1, "limit")
	if err != nil {
		return nil, err
	}
	limit, err := o.recordLimit("limit")
	if err != nil {
		return nil, err
	}
	var r *lab.Recording
	err = f.diskOp(a, d, func(context.Context) (err error) {
		r, err = d.Record(limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.state.NewUserdata(f.types.recording, r)}, nil
}

// diskLoadRecording is disk:load_recording(path).
func (f *file) diskLoadRecording(a args, d *lab.Disk) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	var r *lab.Recording
	err = f.diskOp(a, d, func(context.Context) (err error) {
		r, err = d.LoadRecording(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.state.NewUserdata(f.types.recording, r)}, nil
}

// recordLimit reads how much a recording may hold, in bytes.
func (o options) recordLimit(key string) (int64, error) {
	if !o.has(key) {
		return lab.DiskRecordLimit, nil
	}
	n, err := parseSize(o.get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.what, key, err)
	}
	return n, nil
}

// maxLabel is how long a mark's label can be, in bytes.
const maxLabel = 200

// labelArg is the label of a mark: a string or a number.
func labelArg(a args) (string, error) {
	switch v := a.value(1).(type) {
	case string:
		if len(v) > maxLabel {
			return "", a.errorf("the label has %d bytes (at most %d)", len(v), maxLabel)
		}
		return v, nil
	case int64, float64:
		return show(v), nil
	}
	return "", a.wrong(1, "label", "a string or a number")
}

// diskMark is disk:mark(label).
func (f *file) diskMark(a args, d *lab.Disk) ([]lua.Value, error) {
	label, err := labelArg(a)
	if err != nil {
		return nil, err
	}
	if err := d.Mark(label); err != nil {
		return nil, a.errorf("disk `%s`: %w", d.ID(), err)
	}
	return nil, nil
}

type recordingMethod = func(f *file, a args, r *lab.Recording) ([]lua.Value, error)

func (f *file) newRecordingType() *lua.Type {
	return &lua.Type{
		Name: "recording",
		ToString: func(_ *lua.Call, obj any) string {
			r := obj.(*lab.Recording)
			return fmt.Sprintf("recording(%s of vm %s, %d entries)", r.Disk().ID(), r.Disk().VM().Name(), r.Len())
		},
		Methods: methodTable(f, "recording", map[string]recordingMethod{
			"stop": func(_ *file, _ args, r *lab.Recording) ([]lua.Value, error) {
				r.Stop()
				return nil, nil
			},
			"save": (*file).recordingSave,
			"close": func(_ *file, a args, r *lab.Recording) ([]lua.Value, error) {
				if err := r.Close(); err != nil {
					return nil, a.errorf("%w", err)
				}
				return nil, nil
			},
			"mark": func(_ *file, a args, r *lab.Recording) ([]lua.Value, error) {
				label, err := labelArg(a)
				if err != nil {
					return nil, err
				}
				if err := r.Mark(label); err != nil {
					return nil, a.errorf("%w", err)
				}
				return nil, nil
			},
			"count":   func(_ *file, _ args, r *lab.Recording) ([]lua.Value, error) { return []lua.Value{int64(r.Len())}, nil },
			"bytes":   func(_ *file, _ args, r *lab.Recording) ([]lua.Value, error) { return []lua.Value{r.Bytes()}, nil },
			"ended":   (*file).recordingEnded,
			"entries": (*file).recordingEntries,
		}),
	}
}

// recordingEnded is rec:ended(): why the recording ended, nil while it goes on.
func (f *file) recordingEnded(_ args, r *lab.Recording) ([]lua.Value, error) {
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
func (f *file) recordingSave(a args, r *lab.Recording) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	if err := f.op(a, r.Disk().VM(), func(context.Context) error { return r.Save(path) }); err != nil {
		return nil, a.errorf("%w", err)
	}
	return nil, nil
}

// recordingEntries is rec:entries(): an array of what was noted, in order.
func (f *file) recordingEntries(_ args, r *lab.Recording) ([]lua.Value, error) {
	return []lua.Value{array(f.state, r.Log(), func(op lab.DiskOp) lua.Value {
		t := f.state.NewTable()
		switch op.Kind {
		case lab.DiskFlush:
			set(t, "kind", "flush")
		case lab.DiskMark:
			set(t, "kind", "mark")
			set(t, "label", op.Label)
		default:
			set(t, "kind", "write")
			set(t, "sector", op.First)
			set(t, "count", op.Count)
			if op.FUA {
				set(t, "fua", true)
			}
		}
		return t
	})}, nil
}
