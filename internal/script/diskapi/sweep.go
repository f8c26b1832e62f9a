package diskapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"provium/internal/blockdev/fault"
	"provium/internal/disk"
	"provium/internal/diskcheck"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// sweep is one call of the function that disk:sweep{...} returns.
type sweep struct {
	checkers
	fn     *lua.Function
	op     fault.Op
	sample int // 0: all
	seed   int64
	only   []int64

	content  disk.Content
	requests int64 // of the run without a fault
	queue    []int64
	runs     int
	missed   int // runs that had fewer requests
	failed   []failedRun
}

type failedRun struct {
	n        int64
	hit, err string
}

// diskSweep is disk:sweep{op=, ...}: a function that takes the one to be run.
func diskSweep(env *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	var proto sweep
	proto.checkers = checkers{env: env, disk: d}
	if err := proto.read(a); err != nil {
		return nil, err
	}
	return []lua.Value{env.State.NewFunction("disk:sweep", func(c *lua.Call) ([]lua.Value, error) {
		x := proto
		x.a = value.FunctionArgs(c, "disk:sweep")
		var err error
		if x.fn, err = x.a.Function(1, "fn"); err != nil {
			return nil, err
		}
		if x.e, err = env.running(); err != nil {
			return nil, err
		}
		if err := x.run(); err != nil {
			return nil, err
		}
		report := x.report()
		if x.raise && len(x.failed) > 0 {
			return nil, x.e.Fail(c, x.text())
		}
		return []lua.Value{report}, nil
	})}, nil
}

func (x *sweep) read(a value.Args) error {
	o, err := a.Options(1)
	if err != nil {
		return err
	}
	if err := x.checkers.read(o); err != nil {
		return err
	}
	var valid []string
	for _, r := range fault.CountOps() {
		valid = append(valid, string(r))
	}
	op, err := o.Choice("op", string(fault.Write), valid...)
	if err != nil {
		return err
	}
	x.op = fault.Op(op)
	sample, err := o.IntegerWithin("sample", 0, 1, maxSample)
	if err != nil {
		return err
	}
	x.sample = int(sample)
	if x.seed, err = seed(x.env, o); err != nil {
		return err
	}
	if x.only, err = o.Integers("only"); err != nil {
		return err
	}
	for _, n := range x.only {
		if n < 1 {
			return o.Errorf("only", "must be at least 1, got %d", n)
		}
	}
	return nil
}

// run counts the requests of a run without a fault, then fails one after the
// other.
func (x *sweep) run() (err error) {
	if err := x.block(func(context.Context) (err error) {
		x.content, err = x.disk.Present()
		return err
	}); err != nil {
		return err
	}
	defer x.close(&err)
	if err := x.open(x.guests, x.content); err != nil {
		return err
	}
	why, count, _, err := x.try(x.a.Call, x.list[0], 0, true)
	switch {
	case err != nil:
		return err
	case why != "":
		return x.a.Errorf("the run without a fault failed: %s", why)
	}
	x.requests = count
	if err := x.choose(); err != nil {
		return err
	}
	return x.each(x.work)
}

// choose fills the queue.
func (x *sweep) choose() error {
	if x.only != nil {
		x.queue = slices.Clone(x.only)
		return nil
	}
	for n := range x.requests {
		x.queue = append(x.queue, n+1)
	}
	if x.sample > 0 && x.sample < len(x.queue) {
		r := rand.New(rand.NewPCG(uint64(x.seed), 0))
		r.Shuffle(len(x.queue), func(i, j int) { x.queue[i], x.queue[j] = x.queue[j], x.queue[i] })
		x.queue = x.queue[:x.sample]
		slices.Sort(x.queue)
	}
	return nil
}

// work takes numbers off the queue until it is empty or enough of them failed.
func (x *sweep) work(c *lua.Call, checker *diskcheck.Checker) error {
	spoiled := true
	for len(x.queue) > 0 && len(x.failed) < x.stop {
		n := x.queue[0]
		x.queue = x.queue[1:]
		wasFresh := spoiled || !x.reuse
		why, _, hit, err := x.try(c, checker, n, spoiled)
		if err == nil && why != "" && !wasFresh {
			// What the runs before left in the guest may be the cause.
			why, _, hit, err = x.try(c, checker, n, true)
		}
		if err != nil {
			return err
		}
		x.runs++
		if hit == "" {
			x.missed++
		}
		spoiled = why != ""
		if why != "" {
			x.failed = append(x.failed, failedRun{n, hit, why})
		}
	}
	return nil
}

// try runs the function with request n failing; with 0 none does. It returns why
// the run failed, how many requests there were, and which one failed.
func (x *sweep) try(c *lua.Call, checker *diskcheck.Checker, n int64, spoiled bool) (why string, seen int64, hit string,
	err error) {
	if err := c.Block(func(ctx context.Context) error { return checker.Load(ctx, x.content, spoiled) }); err != nil {
		return "", 0, "", fmt.Errorf("%s: request %d: %w", x.a.Func, n, err)
	}
	counter, err := checker.Disk().CountRequests(x.op, n)
	if err != nil {
		return "", 0, "", err
	}
	why, err = x.look(c, checker, x.fn, fmt.Sprintf("run with request %d failing", n), n)
	checker.Disk().StopCounting()
	return why, counter.Seen(), counter.Hit(), err
}

// report is the outcome as a table.
func (x *sweep) report() *lua.Table {
	slices.SortFunc(x.failed, func(a, b failedRun) int { return int(a.n - b.n) })
	t := x.env.State.NewTable()
	value.MustSet(t, "requests", x.requests)
	value.MustSet(t, "runs", int64(x.runs))
	value.MustSet(t, "missed", int64(x.missed))
	value.MustSet(t, "failed", value.Array(x.env.State, x.failed, func(r failedRun) lua.Value {
		entry := x.env.State.NewTable()
		value.MustSet(entry, "number", r.n)
		value.MustSet(entry, "error", r.err)
		if r.hit != "" {
			value.MustSet(entry, "request", r.hit)
		}
		return entry
	}))
	return t
}

// text is the outcome as an error.
func (x *sweep) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d runs failed, each with one of %d requests (%s) failing", x.a.Func, len(x.failed),
		x.runs, x.requests, x.op)
	for i, r := range x.failed {
		if i == shownFailures {
			fmt.Fprintf(&b, "\n  and %d more", len(x.failed)-shownFailures)
			break
		}
		what := r.hit
		if what == "" {
			what = "there were fewer requests, none failed"
		}
		fmt.Fprintf(&b, "\n  request %d (%s):\n    %s", r.n, what,
			strings.ReplaceAll(value.Clip(r.err, 2000), "\n", "\n    "))
	}
	fmt.Fprintf(&b, "\n{only = %d} has the first one fail alone", x.failed[0].n)
	return b.String()
}
