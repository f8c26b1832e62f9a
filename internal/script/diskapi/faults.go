package diskapi

import (
	"context"
	"time"

	"provium/internal/blockdev/fault"
	"provium/internal/disk"
	"provium/internal/lua"
	"provium/internal/script/value"
)

func diskFaultMethods() map[string]diskMethod {
	return map[string]diskMethod{
		"fault_inject":  diskFaultInject,
		"clear_faults":  diskCall((*disk.Disk).ClearModes),
		"active_faults": diskActiveFaults,
		"fail_reads":    diskRule(func(p *fault.Policy) { p.FailReads = true }),
		"fail_writes":   diskRule(func(p *fault.Policy) { p.FailWrites = true }),
		"clear_policy":  diskRule(func(p *fault.Policy) { *p = fault.Policy{} }),
		"fail_after":    diskFailAfter,
		"fail_range":    diskFailRange,
		"delay":         diskDelay,
		"fault_policy":  diskFaultPolicy,
	}
}

// diskCall is a method without arguments or value.
func diskCall(do func(*disk.Disk) error) diskMethod {
	return func(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
		return nil, diskOp(x, a, d, func(context.Context) error { return do(d) })
	}
}

// diskRule is a method without arguments that changes the rules.
func diskRule(change func(*fault.Policy)) diskMethod {
	return func(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
		return nil, changePolicy(x, a, d, change)
	}
}

func changePolicy(x *env, a value.Args, d *disk.Disk, change func(*fault.Policy)) error {
	return diskOp(x, a, d, func(context.Context) error { return d.ChangePolicy(change) })
}

func diskFaultInject(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	mode, err := a.Str(1, "mode")
	if err != nil {
		return nil, err
	}
	return nil, diskOp(x, a, d, func(context.Context) error { return d.Inject(mode) })
}

func diskActiveFaults(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	modes, err := d.ActiveModes()
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	t := x.State.NewTable()
	for i, mode := range modes {
		t.Set(int64(i+1), mode)
	}
	return []lua.Value{t}, nil
}

// diskFailAfter is disk:fail_after(n): n requests pass, those after them fail.
func diskFailAfter(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	n, err := sectorArg(a, 1, "n")
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, a.Errorf("n must be at least 1, got %d", n)
	}
	return nil, changePolicy(x, a, d, func(p *fault.Policy) { p.FailAfter = n })
}

// diskFailRange is disk:fail_range(sector, count); ranges add up.
func diskFailRange(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	first, err := sectorArg(a, 1, "sector")
	if err != nil {
		return nil, err
	}
	count, err := sectorArg(a, 2, "count")
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, a.Errorf("count must be at least 1, got %d", count)
	}
	return nil, changePolicy(x, a, d, func(p *fault.Policy) {
		p.FailRanges = append(p.FailRanges, fault.Range{First: first, Count: count})
	})
}

// diskDelay is disk:delay(ms).
func diskDelay(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	var ms float64
	switch v := a.Value(1).(type) {
	case int64:
		ms = float64(v)
	case float64:
		ms = v
	default:
		return nil, a.TypeError(1, "ms", "a number of milliseconds")
	}
	most := float64(disk.MaxDelay / time.Millisecond)
	if !(ms >= 0 && ms <= most) { // also NaN
		return nil, a.Errorf("ms must be between 0 and %s, got %s", value.FormatFloat(most), value.Format(a.Value(1)))
	}
	hold := time.Duration(ms * float64(time.Millisecond))
	return nil, changePolicy(x, a, d, func(p *fault.Policy) { p.Delay = hold })
}

// diskFaultPolicy is disk:fault_policy(): the rules that are set, by the name of
// the method that sets them.
func diskFaultPolicy(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	p, err := d.Policy()
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	t := x.State.NewTable()
	if p.FailReads {
		t.Set("fail_reads", true)
	}
	if p.FailWrites {
		t.Set("fail_writes", true)
	}
	if p.FailAfter > 0 {
		t.Set("fail_after", p.FailAfter)
	}
	if p.Delay > 0 {
		t.Set("delay", float64(p.Delay)/float64(time.Millisecond))
	}
	if len(p.FailRanges) > 0 {
		list := x.State.NewTable()
		for i, r := range p.FailRanges {
			entry := x.State.NewTable()
			entry.Set("sector", r.First)
			entry.Set("count", r.Count)
			list.Set(int64(i+1), entry)
		}
		t.Set("fail_range", list)
	}
	return []lua.Value{t}, nil
}
