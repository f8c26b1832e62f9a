package api

import (
	"context"
	"fmt"
	"math"
	"time"

	"provium/internal/console"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/pattern"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// expectWait is how long console:expect waits by default.
const expectWait = 30 * time.Second

func newConsoleType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "console",
		ToString: func(_ *lua.Call, obj any) string { return "console(" + obj.(lab.Console).VM().Name() + ")" },
		Methods: binding.MethodTable(x, "console", map[string]func(*env, value.Args, lab.Console) ([]lua.Value, error){
			"read_log": consoleReadLog,
			"lines":    consoleLines,
			"expect":   consoleExpect,
			"read":     consoleRead,
			"write":    consoleWrite,
			"close":    func(*env, value.Args, lab.Console) ([]lua.Value, error) { return nil, nil },
		}),
	}
}

func consoleReadLog(x *env, _ value.Args, console lab.Console) ([]lua.Value, error) {
	log, err := console.ReadLog()
	return value.Results(err, log)
}

// consoleLines is console:lines().
func consoleLines(x *env, _ value.Args, from lab.Console) ([]lua.Value, error) {
	log, err := from.ReadLog()
	if err != nil {
		return nil, err
	}
	return []lua.Value{value.Array(x.State, console.Lines(log), func(line string) lua.Value { return line })}, nil
}

func consoleExpect(x *env, a value.Args, console lab.Console) ([]lua.Value, error) {
	p, err := a.SearchPattern()
	if err != nil {
		return nil, err
	}
	limit, err := a.Duration(2, "timeout", expectWait)
	if err != nil {
		return nil, err
	}
	var m *pattern.Match
	err = x.Op(a, console.VM(), func(ctx context.Context) (err error) {
		m, err = console.Expect(ctx, p, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append([]lua.Value{string(m.Text)}, captured(m)...), nil
}

type clockMethod = binding.Method[*env, handle.Clock]

func newClockType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "clock",
		ToString: func(_ *lua.Call, obj any) string { return "clock(" + obj.(handle.Clock).VM().Name() + ")" },
		Methods: binding.MethodTable(x, "clock", map[string]clockMethod{
			"get":     clockGet,
			"get_ns":  clockGetNS,
			"set":     clockSet,
			"set_ns":  clockSetNS,
			"advance": clockAdvance,
			"sleep":   clockWait(handle.Clock.SleepNS),
			"warp":    clockWait(handle.Clock.WarpNS),
			"sync": func(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
				return nil, x.Op(a, clock.VM(), clock.Sync)
			},
		}),
	}
}

func readClock(x *env, a value.Args, clock handle.Clock) (ns int64, err error) {
	err = x.Op(a, clock.VM(), func(ctx context.Context) (err error) {
		ns, err = clock.GetNS(ctx)
		return err
	})
	return ns, err
}

func clockGet(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
	ns, err := readClock(x, a, clock)
	return value.Results(err, float64(ns)/1e9)
}

func clockGetNS(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
	ns, err := readClock(x, a, clock)
	return value.Results(err, ns)
}

// clockRange is the largest number of whole seconds whose nanoseconds fit 64 bits.
const clockRange = math.MaxInt64 / int64(time.Second)

func clockSet(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
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
	return nil, setClock(x, a, clock, whole*int64(time.Second)+rest)
}

func clockSetNS(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
	switch v := a.Value(1).(type) {
	case int64, float64:
		ns, ok := value.ToInteger(v)
		if !ok {
			return nil, a.Errorf("value must be a finite integer of nanoseconds, got %s", value.Format(v))
		}
		return nil, setClock(x, a, clock, ns)
	}
	return nil, a.TypeError(1, "nanoseconds", "an integer")
}

func setClock(x *env, a value.Args, clock handle.Clock, ns int64) error {
	return x.Op(a, clock.VM(), func(ctx context.Context) error { return clock.SetNS(ctx, ns) })
}

func clockAdvance(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
	if v, ok := a.Value(1).(float64); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
		return nil, a.Errorf("duration: must be a finite number (got NaN/inf)")
	}
	d, err := value.ParseSignedDuration(a.Value(1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	return nil, x.Op(a, clock.VM(), func(ctx context.Context) error { return clock.AdvanceNS(ctx, int64(d)) })
}

// clockWait returns the method that waits by an operation of the clock.
func clockWait(wait func(handle.Clock, context.Context, int64) error) clockMethod {
	return func(x *env, a value.Args, clock handle.Clock) ([]lua.Value, error) {
		d, err := value.ParseDuration(a.Value(1))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Func, err)
		}
		if d == 0 {
			return nil, nil
		}
		return nil, x.Op(a, clock.VM(), func(ctx context.Context) error { return wait(clock, ctx, int64(d)) })
	}
}
