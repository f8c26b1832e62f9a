package script

import (
	"context"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
)

func diskRuleMethods() map[string]diskMethod {
	return map[string]diskMethod{
		"inject":      (*file).diskInject,
		"rules":       (*file).diskRules,
		"clear_rule":  (*file).diskClearRule,
		"clear_rules": diskCall((*lab.Disk).RemoveRules),
		"resize":      (*file).diskResize,
		"export":      (*file).diskExport,
	}
}

// diskInject is disk:inject{op=, sectors=, errno=, effect=, probability=, count=,
// delay=, seed=}.
func (f *file) diskInject(a args, d *lab.Disk) ([]lua.Value, error) {
	if a.value(1) == nil {
		return nil, a.wrong(1, "opts", "a table")
	}
	o, err := a.options(1, "op", "sectors", "errno", "effect", "probability", "count", "delay", "seed")
	if err != nil {
		return nil, err
	}
	var r lab.DiskRule
	op, err := o.str("op", "any")
	if err != nil {
		return nil, err
	}
	r.Op = lab.DiskRequest(op)
	if r.Sectors, err = sectorsOption(o); err != nil {
		return nil, err
	}
	if r.Errno, err = o.str("errno", ""); err != nil {
		return nil, err
	}
	effect, err := o.str("effect", "")
	if err != nil {
		return nil, err
	}
	if r.Effect = lab.DiskEffect(effect); o.has("effect") && effect == "" || o.has("errno") && r.Errno == "" {
		return nil, a.errorf("errno and effect must not be empty")
	}
	if r.Probability, err = probabilityOption(o); err != nil {
		return nil, err
	}
	n, given, err := o.integer("count")
	if err != nil {
		return nil, err
	}
	if given && n < 1 {
		return nil, o.errorf("count", "must be at least 1, got %d", n)
	}
	r.Count = n
	if r.Delay, err = o.duration("delay", 0); err != nil {
		return nil, err
	}
	if o.has("delay") && r.Delay == 0 || r.Delay > lab.MaxDiskDelay {
		return nil, o.errorf("delay", "must be more than 0 and at most %s, got %s", seconds(lab.MaxDiskDelay), show(o.get("delay")))
	}
	seed, seeded, err := o.integer("seed")
	if err != nil {
		return nil, err
	}
	r.Seed = uint64(seed)
	var id int64
	err = f.diskOp(a, d, func(context.Context) (err error) {
		id, err = d.AddRule(r, seeded)
		return err
	})
	return result(err, id)
}

// sectorsOption reads a sector, or {first, count}.
func sectorsOption(o options) (r lab.DiskRange, err error) {
	t, isTable := o.get("sectors").(*lua.Table)
	switch {
	case !o.has("sectors"):
		return r, nil
	case !isTable:
		first, ok := toInteger(o.get("sectors"))
		if !ok {
			return r, o.wrong("sectors", "a sector or {first, count}")
		}
		return lab.DiskRange{First: first, Count: 1}, nil
	}
	list, err := sequence(t)
	if err != nil || len(list) != 2 {
		return r, o.errorf("sectors", "must be a sector or {first, count}")
	}
	first, okFirst := toInteger(list[0])
	count, okCount := toInteger(list[1])
	if !okFirst || !okCount {
		return r, o.errorf("sectors", "must be a sector or {first, count}, got {%s, %s}", show(list[0]), show(list[1]))
	}
	if count < 1 {
		return r, o.errorf("sectors", "must have a count of at least 1, got %d", count)
	}
	return lab.DiskRange{First: first, Count: count}, nil
}

func probabilityOption(o options) (float64, error) {
	p := 1.0
	switch v := o.get("probability").(type) {
	case nil:
	case int64:
		p = float64(v)
	case float64:
		p = v
	default:
		return 0, o.wrong("probability", "a number")
	}
	if !(p > 0 && p <= 1) {
		return 0, o.errorf("probability", "must be more than 0 and at most 1, got %s", show(o.get("probability")))
	}
	return p, nil
}

// diskRules is disk:rules(): the rules in force, each as disk:inject takes it.
func (f *file) diskRules(a args, d *lab.Disk) ([]lua.Value, error) {
	rules, err := d.Rules()
	if err != nil {
		return nil, a.errorf("%w", err)
	}
	return []lua.Value{array(f.state, rules, func(r lab.DiskRule) lua.Value {
		t := f.state.NewTable()
		set(t, "id", r.ID)
		set(t, "op", string(r.Op))
		set(t, "hits", r.Hits)
		set(t, "probability", r.Probability)
		set(t, "seed", int64(r.Seed))
		if r.Sectors != (lab.DiskRange{}) {
			set(t, "sectors", array(f.state, []int64{r.Sectors.First, r.Sectors.Count}, func(n int64) lua.Value { return n }))
		}
		if r.Errno != "" {
			set(t, "errno", r.Errno)
		}
		if r.Effect != "" {
			set(t, "effect", string(r.Effect))
		}
		if r.Count > 0 {
			set(t, "count", r.Count)
		}
		if r.Delay > 0 {
			set(t, "delay", float64(r.Delay)/float64(time.Second))
		}
		return t
	})}, nil
}

// diskClearRule is disk:clear_rule(id).
func (f *file) diskClearRule(a args, d *lab.Disk) ([]lua.Value, error) {
	id, err := sectorArg(a, 1, "id")
	if err != nil {
		return nil, err
	}
	return nil, f.diskOp(a, d, func(context.Context) error { return d.RemoveRule(id) })
}

// diskResize is disk:resize(size).
func (f *file) diskResize(a args, d *lab.Disk) ([]lua.Value, error) {
	n, err := parseSize(a.value(1))
	if err != nil {
		return nil, a.errorf("argument 1 (size): %w", err)
	}
	if n%lab.SectorSize != 0 {
		return nil, a.errorf("argument 1 (size) must be a multiple of %d, got %d", lab.SectorSize, n)
	}
	return nil, f.diskOp(a, d, func(ctx context.Context) error { return d.Resize(ctx, n) })
}

// diskExport is disk:export(path, {pending=}?).
func (f *file) diskExport(a args, d *lab.Disk) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.options(2, "pending")
	if err != nil {
		return nil, err
	}
	pending, err := o.boolean("pending", false)
	if err != nil {
		return nil, err
	}
	return nil, f.diskOp(a, d, func(ctx context.Context) error { return d.Export(ctx, path, pending) })
}
