package diskapi

import (
	"context"
	"time"

	"provium/internal/blockdev/fault"
	"provium/internal/disk"
	"provium/internal/lua"
	"provium/internal/script/value"
)

func diskRuleMethods() map[string]diskMethod {
	return map[string]diskMethod{
		"inject":      diskInject,
		"rules":       diskRules,
		"clear_rule":  diskClearRule,
		"clear_rules": diskCall((*disk.Disk).RemoveRules),
		"resize":      diskResize,
		"export":      diskExport,
	}
}

// diskInject is disk:inject{op=, sectors=, errno=, effect=, probability=, count=,
// delay=, seed=}.
func diskInject(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	if a.Value(1) == nil {
		return nil, a.TypeError(1, "opts", "a table")
	}
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var r fault.Rule
	op, err := o.Str("op", "any")
	if err != nil {
		return nil, err
	}
	r.Op = fault.Op(op)
	if r.Sectors, err = sectorsOption(o); err != nil {
		return nil, err
	}
	if r.Errno, err = o.Str("errno", ""); err != nil {
		return nil, err
	}
	effect, err := o.Str("effect", "")
	if err != nil {
		return nil, err
	}
	if r.Effect = fault.Effect(effect); o.Has("effect") && effect == "" || o.Has("errno") && r.Errno == "" {
		return nil, a.Errorf("errno and effect must not be empty")
	}
	if r.Probability, err = probabilityOption(o); err != nil {
		return nil, err
	}
	n, given, err := o.Integer("count")
	if err != nil {
		return nil, err
	}
	if given && n < 1 {
		return nil, o.Errorf("count", "must be at least 1, got %d", n)
	}
	r.Count = n
	if r.Delay, err = o.Duration("delay", 0); err != nil {
		return nil, err
	}
	if o.Has("delay") && r.Delay == 0 || r.Delay > disk.MaxDelay {
		return nil, o.Errorf("delay", "must be more than 0 and at most %s, got %s",
			value.FormatSeconds(disk.MaxDelay), value.Format(o.Get("delay")))
	}
	seed, seeded, err := o.Integer("seed")
	if err != nil {
		return nil, err
	}
	r.Seed = uint64(seed)
	var id int64
	err = diskOp(x, a, d, func(context.Context) (err error) {
		id, err = d.AddRule(r, seeded)
		return err
	})
	return value.Results(err, id)
}

// sectorsOption reads a sector, or {first, count}.
func sectorsOption(o value.Options) (r fault.Range, err error) {
	t, isTable := o.Get("sectors").(*lua.Table)
	switch {
	case !o.Has("sectors"):
		return r, nil
	case !isTable:
		first, ok := value.ToInteger(o.Get("sectors"))
		if !ok {
			return r, o.TypeError("sectors", "a sector or {first, count}")
		}
		return fault.Range{First: first, Count: 1}, nil
	}
	list, err := value.Sequence(t)
	if err != nil || len(list) != 2 {
		return r, o.Errorf("sectors", "must be a sector or {first, count}")
	}
	first, okFirst := value.ToInteger(list[0])
	count, okCount := value.ToInteger(list[1])
	if !okFirst || !okCount {
		return r, o.Errorf("sectors", "must be a sector or {first, count}, got {%s, %s}", value.Format(list[0]),
			value.Format(list[1]))
	}
	if count < 1 {
		return r, o.Errorf("sectors", "must have a count of at least 1, got %d", count)
	}
	return fault.Range{First: first, Count: count}, nil
}

func probabilityOption(o value.Options) (float64, error) {
	p := 1.0
	switch v := o.Get("probability").(type) {
	case nil:
	case int64:
		p = float64(v)
	case float64:
		p = v
	default:
		return 0, o.TypeError("probability", "a number")
	}
	if !(p > 0 && p <= 1) {
		return 0, o.Errorf("probability", "must be more than 0 and at most 1, got %s",
			value.Format(o.Get("probability")))
	}
	return p, nil
}

// diskRules is disk:rules(): the rules in force, each as disk:inject takes it.
func diskRules(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	rules, err := d.Rules()
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return []lua.Value{value.Array(x.State, rules, func(r fault.Rule) lua.Value {
		t := x.State.NewTable()
		value.MustSet(t, "id", r.ID)
		value.MustSet(t, "op", string(r.Op))
		value.MustSet(t, "hits", r.Hits)
		value.MustSet(t, "probability", r.Probability)
		value.MustSet(t, "seed", int64(r.Seed))
		if r.Sectors != (fault.Range{}) {
			value.MustSet(t, "sectors", value.Array(x.State, []int64{r.Sectors.First, r.Sectors.Count},
				func(n int64) lua.Value { return n }))
		}
		if r.Errno != "" {
			value.MustSet(t, "errno", r.Errno)
		}
		if r.Effect != "" {
			value.MustSet(t, "effect", string(r.Effect))
		}
		if r.Count > 0 {
			value.MustSet(t, "count", r.Count)
		}
		if r.Delay > 0 {
			value.MustSet(t, "delay", float64(r.Delay)/float64(time.Second))
		}
		return t
	})}, nil
}

// diskClearRule is disk:clear_rule(id).
func diskClearRule(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	id, err := sectorArg(a, 1, "id")
	if err != nil {
		return nil, err
	}
	return nil, diskOp(x, a, d, func(context.Context) error { return d.RemoveRule(id) })
}

// diskResize is disk:resize(size).
func diskResize(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	n, err := value.ParseSize(a.Value(1))
	if err != nil {
		return nil, a.Errorf("argument 1 (size): %w", err)
	}
	if n%disk.SectorSize != 0 {
		return nil, a.Errorf("argument 1 (size) must be a multiple of %d, got %d", disk.SectorSize, n)
	}
	return nil, diskOp(x, a, d, func(ctx context.Context) error { return d.Resize(ctx, n) })
}

// diskExport is disk:export(path, {pending=}?).
func diskExport(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	pending, err := o.Bool("pending", false)
	if err != nil {
		return nil, err
	}
	return nil, diskOp(x, a, d, func(ctx context.Context) error { return d.Export(ctx, x.InProject(path), pending) })
}
