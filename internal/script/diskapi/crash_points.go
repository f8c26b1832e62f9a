package diskapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
	"provium/internal/disk"
	"provium/internal/diskcheck"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const (
	defaultSample = 200 // points of an exploration
	maxSample     = 1_000_000
)

// exploration is one call of disk:crash_points.
type exploration struct {
	checkers
	check    *lua.Function
	workload *lua.Function // nil without one
	record   *disk.Recording
	load     string // path of a saved one, "" without
	save     string // path to save it to when points fail, "" without
	limit    int64
	options  crash.Options
	sample   int
	only     []int64

	x        *disk.Exploration
	queue    []int
	seen     map[disk.CrashKey]bool // points that were looked at
	checked  int                    // points, those counted that equal another one
	distinct int
	again    int // points that failed in a guest that had seen others, and passed in a fresh one
	failed   []failedPoint
}

type failedPoint struct {
	point *disk.CrashPoint
	err   string
}

// diskCrashPoints is disk:crash_points{check=, ...}.
func diskCrashPoints(env *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	x := &exploration{checkers: checkers{env: env, a: a, disk: d}, seen: map[disk.CrashKey]bool{}}
	if err := x.read(); err != nil {
		return nil, err
	}
	var err error
	if x.e, err = env.running(); err != nil {
		return nil, err
	}
	if err := x.run(); err != nil {
		return nil, err
	}
	report := x.report()
	if x.raise && len(x.failed) > 0 {
		return nil, x.e.Fail(a.Call, x.text())
	}
	return []lua.Value{report}, nil
}

// read reads the options.
func (x *exploration) read() (err error) {
	if x.a.Value(1) == nil {
		return x.a.TypeError(1, "opts", "a table")
	}
	o, err := x.a.Options(1)
	if err != nil {
		return err
	}
	if err := x.checkers.read(o); err != nil {
		return err
	}
	if x.check, err = o.Function("check"); err != nil {
		return err
	}
	if x.check == nil {
		return o.Errorf("check",
			"is missing: a function(vm, disk, point) that raises, or returns false, where the content is not good")
	}
	if x.workload, err = o.Function("workload"); err != nil {
		return err
	}
	if x.save, err = o.Path("save"); err != nil {
		return err
	}
	if o.Has("recording") && x.workload != nil {
		return o.Errorf("recording", "and opts.workload exclude each other")
	}
	switch r := o.Get("recording").(type) {
	case nil:
	case string:
		if x.load, err = o.Path("recording"); err != nil {
			return err
		}
	case *lua.Userdata:
		var ok bool
		if x.record, ok = r.Object().(*disk.Recording); !ok {
			return o.TypeError("recording", "a recording, or the path of a saved one")
		}
		if of := x.record.Disk(); of != x.disk {
			return o.Errorf("recording", "is of disk `%s` of vm `%s`", of.ID(), of.Owner().Name())
		}
	default:
		return o.TypeError("recording", "a recording, or the path of a saved one")
	}
	if x.limit, err = o.Size("limit", blockdev.RecordLimit); err != nil {
		return err
	}
	if x.options.Torn, err = o.Bool("torn", false); err != nil {
		return err
	}
	if x.options.Reorder, err = o.Bool("reorder", true); err != nil {
		return err
	}
	seed, err := seed(x.env, o)
	if err != nil {
		return err
	}
	x.options.Seed = uint64(seed)
	if x.options.Unit, err = o.IntegerWithin("unit", 1, 1, 1<<20); err != nil {
		return err
	}
	sample, err := o.IntegerWithin("sample", defaultSample, 1, maxSample)
	if err != nil {
		return err
	}
	x.sample = int(sample)
	x.only, err = o.Integers("only")
	return err
}

// run records the workload, if there is one, and checks the points.
func (x *exploration) run() (err error) {
	if x.workload != nil {
		if err := x.block(func(context.Context) (err error) {
			x.record, err = x.disk.Record(x.limit)
			return err
		}); err != nil {
			return err
		}
		_, err := x.a.Call.Call(x.workload, x.env.VM(lab.VMOf(x.disk)), x.env.Disk(x.disk))
		x.record.Stop()
		if err != nil {
			return err
		}
	}
	if x.load != "" {
		if err := x.block(func(context.Context) (err error) {
			x.record, err = x.disk.LoadRecording(x.env.InProject(x.load))
			return err
		}); err != nil {
			return err
		}
	}
	if x.record == nil {
		if x.record = x.disk.LastRecording(); x.record == nil {
			return x.a.Errorf("disk `%s` has no recording: give a workload, or call disk:record() before it",
				x.disk.ID())
		}
	}
	if err := x.block(func(context.Context) (err error) {
		x.x, err = x.record.Explore(x.options)
		return err
	}); err != nil {
		return err
	}
	if err := x.choose(); err != nil {
		return err
	}
	defer x.close(&err)
	if err := x.open(len(x.queue), x.x.End()); err != nil {
		return err
	}
	if err := x.each(x.work); err != nil || x.save == "" || len(x.failed) == 0 {
		return err
	}
	return x.block(func(context.Context) error { return x.record.Save(x.env.InProject(x.save)) })
}

// choose fills the queue.
func (x *exploration) choose() error {
	for _, n := range x.only {
		if n < 1 || n > int64(x.x.Points()) {
			return x.a.Errorf("opts.only: there is no point %d, the recording has %d", n, x.x.Points())
		}
		x.queue = append(x.queue, int(n))
	}
	if x.only == nil {
		x.queue = x.x.Sample(x.sample, x.options.Seed)
	}
	return nil
}

// work takes points off the queue until it is empty or enough of them failed.
func (x *exploration) work(c *lua.Call, checker *diskcheck.Checker) error {
	spoiled := true
	for len(x.queue) > 0 && len(x.failed) < x.stop {
		p := x.x.Point(x.queue[0])
		x.queue = x.queue[1:]
		var key disk.CrashKey
		err := c.Block(func(ctx context.Context) error {
			key = x.x.Key(p)
			return nil
		})
		if err != nil {
			return err
		}
		if x.seen[key] {
			x.checked++
			continue
		}
		x.seen[key] = true
		wasFresh := spoiled || !x.reuse
		why, err := x.try(c, checker, p, spoiled)
		if err == nil && why != "" && !wasFresh {
			// What the points before left in the guest may be the cause.
			if why, err = x.try(c, checker, p, true); why == "" {
				x.again++
			}
		}
		if err != nil {
			return err
		}
		spoiled = why != ""
		x.checked++
		x.distinct++
		if why != "" {
			x.failed = append(x.failed, failedPoint{p, why})
		}
	}
	return nil
}

// try runs the check on one point and returns why it failed, "" if it did not.
func (x *exploration) try(c *lua.Call, checker *diskcheck.Checker,
	p *disk.CrashPoint, spoiled bool) (why string, err error) {
	err = c.Block(func(ctx context.Context) error { return checker.Load(ctx, x.x.Content(p), spoiled) })
	if err != nil {
		return "", fmt.Errorf("%s: point %d: %w", x.a.Func, p.Number, err)
	}
	return x.look(c, checker, x.check, fmt.Sprintf("point %d (%s)", p.Number, p.Text), x.pointTable(p))
}

// pointTable returns what a check gets about its point.
func (x *exploration) pointTable(p *disk.CrashPoint) *lua.Table {
	t := x.env.State.NewTable()
	value.MustSet(t, "number", int64(p.Number))
	value.MustSet(t, "text", p.Text)
	value.MustSet(t, "kind", string(p.How))
	value.MustSet(t, "at", int64(p.At))
	value.MustSet(t, "entries", int64(x.x.Entries()))
	value.MustSet(t, "unflushed", int64(p.Pending))
	value.MustSet(t, "kept", int64(p.Kept))
	value.MustSet(t, "marks", value.Array(x.env.State, p.Marks, func(s string) lua.Value { return s }))
	if n := len(p.Marks); n > 0 {
		value.MustSet(t, "mark", p.Marks[n-1])
	}
	return t
}

// report is the outcome as a table.
func (x *exploration) report() *lua.Table {
	slices.SortFunc(x.failed, func(a, b failedPoint) int { return a.point.Number - b.point.Number })
	t := x.env.State.NewTable()
	value.MustSet(t, "points", int64(x.x.Points()))
	value.MustSet(t, "checked", int64(x.checked))
	value.MustSet(t, "distinct", int64(x.distinct))
	value.MustSet(t, "rechecked", int64(x.again))
	value.MustSet(t, "entries", int64(x.x.Entries()))
	value.MustSet(t, "seed", int64(x.options.Seed))
	value.MustSet(t, "failed", value.Array(x.env.State, x.failed, func(p failedPoint) lua.Value {
		entry := x.pointTable(p.point)
		value.MustSet(entry, "error", p.err)
		return entry
	}))
	return t
}

// text is the outcome as an error.
func (x *exploration) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d checked points failed (the recording has %d points; seed %d)", x.a.Func,
		len(x.failed), x.checked,
		x.x.Points(), int64(x.options.Seed))
	for i, p := range x.failed {
		if i == shownFailures {
			fmt.Fprintf(&b, "\n  and %d more", len(x.failed)-shownFailures)
			break
		}
		fmt.Fprintf(&b, "\n  point %d: %s\n    %s", p.point.Number, p.point.Text,
			strings.ReplaceAll(value.Clip(p.err, 2000), "\n", "\n    "))
	}
	switch n := x.failed[0].point.Number; {
	case x.save != "":
		fmt.Fprintf(&b, "\n{recording = %q, only = %d} looks at the first one alone", x.save, n)
	case x.load != "":
		fmt.Fprintf(&b, "\n{only = %d} looks at the first one alone", n)
	default:
		fmt.Fprintf(&b, "\n{only = %d} looks at the first one alone, on the same recording, which {save = PATH} keeps",
			n)
	}
	return b.String()
}
