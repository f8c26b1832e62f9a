package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/lab"
	"provium/internal/lua"
)

const (
	defaultSample = 200 // points of an exploration
	maxSample     = 1_000_000
	defaultGuests = 2
	maxGuests     = 64
)

// exploration is one call of disk:crash_points.
type exploration struct {
	f        *file
	a        args
	disk     *lab.Disk
	check    *lua.Function
	prepare  *lua.Function // nil without one
	workload *lua.Function // nil without one
	record   *lab.Recording
	limit    int64
	options  lab.CrashOptions
	sample   int
	only     []int64
	guests   int
	reuse    bool
	stop     int
	raise    bool

	x        *lab.Exploration
	queue    []int
	seen     map[lab.CrashKey]bool // passed points
	checked  int                   // points, those counted that equal another one
	distinct int
	again    int // points that failed in a guest that had seen others, and passed in a fresh one
	failed   []failedPoint
}

type failedPoint struct {
	point *lab.CrashPoint
	err   string
}

// diskCrashPoints is disk:crash_points{check=, ...}.
func (f *file) diskCrashPoints(a args, d *lab.Disk) ([]lua.Value, error) {
	x := &exploration{f: f, a: a, disk: d, seen: map[lab.CrashKey]bool{}}
	if err := x.read(); err != nil {
		return nil, err
	}
	e := f.current
	if e == nil {
		return nil, errIdle
	}
	if err := x.run(e); err != nil {
		return nil, err
	}
	report := x.report()
	if x.raise && len(x.failed) > 0 {
		return nil, e.failed(a.c, x.text(), "")
	}
	return []lua.Value{report}, nil
}

// read reads the options.
func (x *exploration) read() (err error) {
	if x.a.value(1) == nil {
		return x.a.wrong(1, "opts", "a table")
	}
	o, err := x.a.options(1, "check", "prepare", "workload", "recording", "limit", "sample", "seed", "torn", "reorder", "unit",
		"only", "guests", "guest", "stop_after", "raise")
	if err != nil {
		return err
	}
	if x.check, err = o.function("check"); err != nil {
		return err
	}
	if x.check == nil {
		return o.errorf("check", "is missing: a function(vm, disk, point) that raises, or returns false, where the content is not good")
	}
	if x.prepare, err = o.function("prepare"); err != nil {
		return err
	}
	if x.workload, err = o.function("workload"); err != nil {
		return err
	}
	if o.has("recording") {
		u, ok := o.get("recording").(*lua.Userdata)
		if ok {
			x.record, ok = u.Object().(*lab.Recording)
		}
		switch {
		case !ok:
			return o.wrong("recording", "a recording, as disk:record() gives")
		case x.workload != nil:
			return o.errorf("recording", "and opts.workload exclude each other")
		case x.record.Disk() != x.disk:
			return o.errorf("recording", "is of disk `%s` of vm `%s`", x.record.Disk().ID(), x.record.Disk().VM().Name())
		}
	}
	if x.limit, err = o.recordLimit("limit"); err != nil {
		return err
	}
	if x.options.Torn, err = o.boolean("torn", false); err != nil {
		return err
	}
	if x.options.Reorder, err = o.boolean("reorder", true); err != nil {
		return err
	}
	if x.raise, err = o.boolean("raise", true); err != nil {
		return err
	}
	seed, _, err := o.integer("seed")
	if err != nil {
		return err
	}
	x.options.Seed = uint64(seed)
	if x.options.Unit, err = o.within("unit", 1, 1, 1<<20); err != nil {
		return err
	}
	for key, n := range map[string]struct {
		to             *int
		absent, lo, hi int64
	}{
		"sample":     {&x.sample, defaultSample, 1, maxSample},
		"guests":     {&x.guests, defaultGuests, 1, maxGuests},
		"stop_after": {&x.stop, 1, 1, maxSample},
	} {
		v, err := o.within(key, n.absent, n.lo, n.hi)
		if err != nil {
			return err
		}
		*n.to = int(v)
	}
	guest, err := o.choice("guest", "fresh", "fresh", "reuse")
	if err != nil {
		return err
	}
	x.reuse = guest == "reuse"
	x.only, err = o.numbers("only")
	return err
}

// function reads an optional function.
func (o options) function(key string) (*lua.Function, error) {
	if !o.has(key) {
		return nil, nil
	}
	fn, ok := o.get(key).(*lua.Function)
	if !ok {
		return nil, o.wrong(key, "a function")
	}
	return fn, nil
}

// within reads an integer of a range.
func (o options) within(key string, absent, lo, hi int64) (int64, error) {
	n, given, err := o.integer(key)
	switch {
	case err != nil:
		return 0, err
	case !given:
		return absent, nil
	case n < lo || n > hi:
		return 0, o.errorf(key, "must be between %d and %d, got %d", lo, hi, n)
	}
	return n, nil
}

// numbers reads an integer, or an array of some; nil when the option is absent.
func (o options) numbers(key string) ([]int64, error) {
	t, ok := o.get(key).(*lua.Table)
	if !ok {
		n, given, err := o.integer(key)
		if err != nil || !given {
			return nil, err
		}
		return []int64{n}, nil
	}
	items, err := sequence(t)
	if err != nil {
		return nil, o.errorf(key, "%w", err)
	}
	if len(items) == 0 {
		return nil, o.errorf(key, "must not be empty")
	}
	var out []int64
	for i, v := range items {
		n, ok := toInteger(v)
		if !ok {
			return nil, o.errorf(key, "must hold integers, entry %d is %s", i+1, typeName(v))
		}
		out = append(out, n)
	}
	return out, nil
}

// run records, if that is to be done, and looks at the points.
func (x *exploration) run(e *execution) error {
	if x.workload != nil {
		if err := x.do(func(context.Context) (err error) {
			x.record, err = x.disk.Record(x.limit)
			return err
		}); err != nil {
			return err
		}
		_, err := x.a.c.Call(x.workload, x.f.vmHandle(x.disk.VM()), x.f.diskHandle(x.disk))
		x.record.Stop()
		if err != nil {
			return err
		}
	}
	if x.record == nil {
		if x.record = x.disk.LastRecording(); x.record == nil {
			return x.a.errorf("disk `%s` has no recording: give a workload, or call disk:record() before it", x.disk.ID())
		}
	}
	if err := x.do(func(context.Context) (err error) {
		x.x, err = x.record.Explore(x.options)
		return err
	}); err != nil {
		return err
	}
	if err := x.choose(); err != nil {
		return err
	}
	return x.checkAll(e)
}

// do carries out a blocking part of the work.
func (x *exploration) do(do func(context.Context) error) error {
	if err := x.a.c.Block(do); err != nil {
		return x.a.errorf("%w", err)
	}
	return nil
}

// choose fills the queue.
func (x *exploration) choose() error {
	for _, n := range x.only {
		if n < 1 || n > int64(x.x.Points()) {
			return x.a.errorf("opts.only: there is no point %d, the recording has %d", n, x.x.Points())
		}
		x.queue = append(x.queue, int(n))
	}
	if x.only == nil {
		x.queue = x.x.Sample(x.sample, x.options.Seed)
	}
	x.guests = min(x.guests, len(x.queue))
	return nil
}

// checkAll looks at the points of the queue in several guests.
func (x *exploration) checkAll(e *execution) (err error) {
	x.f.current.touch(x.disk.VM())
	var checkers []*lab.Checker
	defer func() {
		closing := x.f.state.Block(func() error {
			var errs []error
			for _, c := range checkers {
				errs = append(errs, c.Close(context.WithoutCancel(x.f.ctx)))
			}
			return errors.Join(errs...)
		})
		if err == nil {
			err = closing
		}
	}()
	for range x.guests {
		c, err := x.f.scope.NewChecker(x.disk, x.reuse)
		if err != nil {
			return x.a.errorf("%w", err)
		}
		checkers = append(checkers, c)
	}
	if err := x.makeReady(checkers); err != nil {
		return err
	}
	tasks := make([]*task, len(checkers))
	for i, c := range checkers {
		tasks[i] = e.spawn(x.a.c.Context(), x.a.c, x.f.state.NewFunction("crash_points", func(inner *lua.Call) ([]lua.Value, error) {
			return nil, x.work(inner, e, c)
		}))
	}
	_, err = x.f.join(x.a.c, e, tasks)
	return err
}

// makeReady boots the first guest, has it prepared, and freezes it for all.
func (x *exploration) makeReady(checkers []*lab.Checker) error {
	c := checkers[0]
	last := x.x.Point(x.queue[len(x.queue)-1])
	if err := x.do(func(ctx context.Context) error { return c.Boot(ctx, x.x, last) }); err != nil {
		return err
	}
	if x.prepare != nil {
		if _, err := x.a.c.Call(x.prepare, x.f.vmHandle(c.VM()), x.f.diskHandle(c.Disk())); err != nil {
			return err
		}
	}
	if err := x.do(c.Freeze); err != nil {
		return err
	}
	for _, o := range checkers[1:] {
		o.From(c)
	}
	return nil
}

// work takes points off the queue until it is empty or enough of them failed.
func (x *exploration) work(c *lua.Call, e *execution, checker *lab.Checker) error {
	spoiled := true
	for len(x.queue) > 0 && len(x.failed) < x.stop {
		p := x.x.Point(x.queue[0])
		x.queue = x.queue[1:]
		var key lab.CrashKey
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
		why, err := x.look(c, e, checker, p, spoiled)
		if err == nil && why != "" && !wasFresh {
			// What the points before left in the guest may be the cause.
			if why, err = x.look(c, e, checker, p, true); why == "" {
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

// look runs the check on one point and tells why it failed, "" if it did not. An
// error ends the exploration.
func (x *exploration) look(c *lua.Call, e *execution, checker *lab.Checker, p *lab.CrashPoint, spoiled bool) (why string, err error) {
	if err := c.Block(func(ctx context.Context) error { return checker.Load(ctx, x.x, p, spoiled) }); err != nil {
		return "", fmt.Errorf("%s: point %d: %w", x.a.what, p.Number, err)
	}
	thread, skipped := c.Thread(), e.skipped
	e.isolating[thread]++
	values, err := c.Call(x.check, x.f.vmHandle(checker.VM()), x.f.diskHandle(checker.Disk()), x.pointTable(p))
	e.isolating[thread]--
	var raised *lua.Error
	switch {
	case err == nil && len(values) > 0 && values[0] == false:
		why = "the check returned false"
		if len(values) > 1 {
			why = tostring(c, values[1])
		}
		return why, nil
	case err == nil:
		return "", nil
	case thread.Interrupted() != nil, e.skipped != skipped, c.Context().Err() != nil, !errors.As(err, &raised):
		return "", err
	}
	return errorText(raised), nil
}

// pointTable is what a check is told of its point.
func (x *exploration) pointTable(p *lab.CrashPoint) *lua.Table {
	t := x.f.state.NewTable()
	set(t, "number", int64(p.Number))
	set(t, "text", p.Text)
	set(t, "kind", string(p.How))
	set(t, "at", int64(p.At))
	set(t, "entries", int64(x.x.Entries()))
	set(t, "unflushed", int64(p.Pending))
	set(t, "kept", int64(p.Kept))
	set(t, "marks", array(x.f.state, p.Marks, func(s string) lua.Value { return s }))
	if n := len(p.Marks); n > 0 {
		set(t, "mark", p.Marks[n-1])
	}
	return t
}

// report is the outcome as a table.
func (x *exploration) report() *lua.Table {
	slices.SortFunc(x.failed, func(a, b failedPoint) int { return a.point.Number - b.point.Number })
	t := x.f.state.NewTable()
	set(t, "points", int64(x.x.Points()))
	set(t, "checked", int64(x.checked))
	set(t, "distinct", int64(x.distinct))
	set(t, "rechecked", int64(x.again))
	set(t, "entries", int64(x.x.Entries()))
	set(t, "seed", int64(x.options.Seed))
	set(t, "failed", array(x.f.state, x.failed, func(p failedPoint) lua.Value {
		entry := x.pointTable(p.point)
		set(entry, "error", p.err)
		return entry
	}))
	return t
}

// text is the outcome as an error.
func (x *exploration) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d checked points failed (the recording has %d points; seed %d)", x.a.what, len(x.failed), x.checked,
		x.x.Points(), int64(x.options.Seed))
	const shown = 10
	for i, p := range x.failed {
		if i == shown {
			fmt.Fprintf(&b, "\n  and %d more", len(x.failed)-shown)
			break
		}
		fmt.Fprintf(&b, "\n  point %d: %s\n    %s", p.point.Number, p.point.Text, strings.ReplaceAll(clip(p.err, 2000), "\n", "\n    "))
	}
	fmt.Fprintf(&b, "\n{only = %d} looks at the first one alone, on the same recording", x.failed[0].point.Number)
	return b.String()
}
