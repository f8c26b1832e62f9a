package script

import (
	"context"
	"fmt"
	"math"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// expectWait is how long console:expect waits by default.
const expectWait = 30 * time.Second

func (f *file) newConsoleType() *lua.Type {
	return &lua.Type{
		Name:     "console",
		ToString: func(_ *lua.Call, obj any) string { return "console(" + obj.(lab.Console).VM().Name() + ")" },
		Methods: methodTable(f, "console", map[string]func(*file, value.Args, lab.Console) ([]lua.Value, error){
			"read_log": (*file).consoleReadLog,
			"expect":   (*file).consoleExpect,
			"read":     (*file).consoleRead,
			"write":    (*file).consoleWrite,
			"close":    func(*file, value.Args, lab.Console) ([]lua.Value, error) { return nil, nil },
		}),
	}
}

func (f *file) consoleReadLog(_ value.Args, console lab.Console) ([]lua.Value, error) {
	log, err := console.ReadLog()
	return value.Results(err, log)
}

func (f *file) consoleExpect(a value.Args, console lab.Console) ([]lua.Value, error) {
	pattern, err := a.Str(1, "pattern")
	if err != nil {
		return nil, err
	}
	limit, err := a.Duration(2, "timeout", expectWait)
	if err != nil {
		return nil, err
	}
	err = f.op(a, console.VM(), func(ctx context.Context) error { return console.Expect(ctx, pattern, limit) })
	return value.Results(err, pattern)
}

type clockMethod = func(f *file, a value.Args, clock lab.Clock) ([]lua.Value, error)

func (f *file) newClockType() *lua.Type {
	return &lua.Type{
		Name:     "clock",
		ToString: func(_ *lua.Call, obj any) string { return "clock(" + obj.(lab.Clock).VM().Name() + ")" },
		Methods: methodTable(f, "clock", map[string]clockMethod{
			"get":     (*file).clockGet,
			"get_ns":  (*file).clockGetNS,
			"set":     (*file).clockSet,
			"set_ns":  (*file).clockSetNS,
			"advance": (*file).clockAdvance,
			"sleep":   (*file).clockSleep,
			"sync": func(f *file, a value.Args, clock lab.Clock) ([]lua.Value, error) {
				return nil, f.op(a, clock.VM(), clock.Sync)
			},
		}),
	}
}

func (f *file) readClock(a value.Args, clock lab.Clock) (ns int64, err error) {
	err = f.op(a, clock.VM(), func(ctx context.Context) (err error) {
		ns, err = clock.GetNS(ctx)
		return err
	})
	return ns, err
}

func (f *file) clockGet(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	ns, err := f.readClock(a, clock)
	return value.Results(err, float64(ns)/1e9)
}

func (f *file) clockGetNS(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	ns, err := f.readClock(a, clock)
	return value.Results(err, ns)
}

// clockRange is the largest number of whole seconds whose nanoseconds fit 64 bits.
const clockRange = math.MaxInt64 / int64(time.Second)

func (f *file) clockSet(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	var whole, rest int64
	switch v := a.Value(1).(type) {
	case int64:
		whole = v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, a.Errorf("value must be a finite number (got NaN/inf)")
		}
		if math.Abs(v) >= float64(clockRange) {
			return nil, a.Errorf("%s seconds are out of range", value.FormatFloat(v))
		}
		seconds, fraction := math.Modf(v)
		whole, rest = int64(seconds), int64(math.Round(fraction*1e9))
	default:
		return nil, a.TypeError(1, "seconds", "a number")
	}
	if whole >= clockRange || whole <= -clockRange {
		return nil, a.Errorf("%d seconds are out of range", whole)
	}
	return nil, f.setClock(a, clock, whole*int64(time.Second)+rest)
}

func (f *file) clockSetNS(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	switch v := a.Value(1).(type) {
	case int64, float64:
		ns, ok := value.ToInteger(v)
		if !ok {
			return nil, a.Errorf("value must be a finite integer of nanoseconds, got %s", value.Format(v))
		}
		return nil, f.setClock(a, clock, ns)
	}
	return nil, a.TypeError(1, "nanoseconds", "an integer")
}

func (f *file) setClock(a value.Args, clock lab.Clock, ns int64) error {
	return f.op(a, clock.VM(), func(ctx context.Context) error { return clock.SetNS(ctx, ns) })
}

func (f *file) clockAdvance(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	if v, ok := a.Value(1).(float64); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
		return nil, a.Errorf("duration: must be a finite number (got NaN/inf)")
	}
	d, err := value.ParseSignedDuration(a.Value(1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	return nil, f.op(a, clock.VM(), func(ctx context.Context) error { return clock.AdvanceNS(ctx, int64(d)) })
}

func (f *file) clockSleep(a value.Args, clock lab.Clock) ([]lua.Value, error) {
	d, err := value.ParseDuration(a.Value(1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	if d == 0 {
		return nil, nil
	}
	return nil, f.op(a, clock.VM(), func(ctx context.Context) error { return clock.SleepNS(ctx, int64(d)) })
}
