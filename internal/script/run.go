package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/failure"
	"provium/internal/script/scene"
)

// testRun runs the tests of one file in its session.
type testRun struct {
	*session
	cfg    Config
	t      *assertions
	tests  []*testCase
	byName map[string]*testCase

	before, after []*lua.Function // hooks of every test

	todo   *string // reason of todo()
	base   baseline
	result Result
}

type testCase struct {
	name  string
	group string // name given to test.each
	fn    *lua.Function
	meta  Meta
	raw   lua.Value // the author's table
	lines []Lines

	values []lua.Value // arguments of fn behind t
}

func (t *testCase) registered() Registered {
	return Registered{Name: t.name, Group: t.group, Meta: t.meta, Lines: t.lines}
}

// Run runs one test file: its chunk, then its tests. It returns when everything the file
// owned is closed. When ctx ends, the running test fails with its cause and the rest is
// skipped.
func Run(ctx context.Context, cfg Config) Result {
	w := newWorld(cfg.Env, cfg.Path)
	r := &testRun{session: w.newSession(ctx, cfg.Path, cfg.AbsPath, w.fileLab, nil), cfg: cfg,
		byName: map[string]*testCase{}}
	r.pauses = cfg.Pauses
	defer r.watchHost()()
	err := r.open(map[string]lua.GoFunc{
		"todo": r.luaTodo, "before_each": r.luaHook(&r.before), "after_each": r.luaHook(&r.after),
	})
	if err != nil {
		return Result{ChunkError: err.Error(), Poisoned: true}
	}
	defer r.close("file scope")
	if r.t, err = newAssertions(ctx, r.state); err == nil {
		err = r.state.SetGlobal("test", r.newTestGlobal())
	}
	if err != nil {
		return Result{ChunkError: "lua globals: " + err.Error(), Poisoned: true}
	}
	if !r.runFile() {
		return r.result
	}
	if cfg.Collect != nil {
		all := make([]Registered, len(r.tests))
		for i, t := range r.tests {
			all[i] = t.registered()
		}
		cfg.Collect(all)
		return r.result
	}
	if !r.takeBaseline() {
		return r.result
	}
	defer r.dropBaseline()
	if cfg.Registered != nil {
		names := make([]string, len(r.tests))
		for i, t := range r.tests {
			names[i] = t.name
		}
		cfg.Registered(names)
	}
	for i, t := range r.tests {
		r.runTest(t, i+1 < len(r.tests))
	}
	return r.result
}

// where returns the file and line of a test, "" if they are not known.
func (t *testCase) where(path string) string {
	if len(t.lines) == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", path, t.lines[0].First)
}

// runFile runs the chunk and reports whether its tests may run.
func (r *testRun) runFile() bool {
	_, err := r.runChunk()
	if crash := crashIn(err); crash != nil {
		r.crashed(crash)
		err = fmt.Errorf("%w\n%s", err, crash.Stack)
	} else if crash := r.firstCrash(); crash != nil && err == nil {
		err = fmt.Errorf("internal error: %w\n%s", crash, crash.Stack)
	}
	r.result.Poisoned = r.firstCrash() != nil
	if err != nil {
		r.result.ChunkError = err.Error()
	}
	return err == nil
}

// skipReason returns why a test does not run. skip is false for one that runs.
func (r *testRun) skipReason(t *testCase) (reason string, skip bool) {
	switch {
	case r.todo != nil:
		return *r.todo, true
	case r.ctx.Err() != nil:
		return "not run: " + context.Cause(r.ctx).Error(), true
	case t.meta.Skip && t.meta.SkipReason != "":
		return "skipped: " + t.meta.SkipReason, true
	case t.meta.Skip:
		return "skipped (meta.skip)", true
	case r.cfg.Filter != nil:
		skip, reason = r.cfg.Filter(t.registered())
		return reason, skip
	}
	return "", false
}

const poisonedReason = "failed-due-to-poisoned-state: Provium itself failed in an earlier test of this file"

// runTest runs one test, or reports why it does not run. more says whether other tests
// follow.
func (r *testRun) runTest(t *testCase, more bool) {
	path, meta := r.cfg.Path, t.meta.Values
	r.Emit(event.TestStarted{Path: path, Name: t.name, Meta: meta, Where: t.where(path)})
	if r.result.Poisoned {
		r.result.Failed++
		r.Emit(event.TestFailed{Path: path, Name: t.name, Meta: meta, Log: []string{}, Reason: poisonedReason})
		return
	}
	if reason, skip := r.skipReason(t); skip {
		r.result.Skipped++
		r.Emit(event.TestSkipped{Path: path, Name: t.name, Reason: reason, Meta: meta})
		return
	}
	for number := 1; !r.attempt(t, more, number); number++ {
	}
}

// attempt runs a test once, for the number-th time, and reports its result. If it fails and
// is to run again, it reports that, and returns false.
func (r *testRun) attempt(t *testCase, more bool, number int) (over bool) {
	again := number <= r.cfg.Retries
	path, meta := r.cfg.Path, t.meta.Values
	if err := r.resetLab(more || again); err != nil {
		r.failReset(t, err)
		return true
	}
	e := newExecution(r.session, t.name, &t.meta)
	e.rules = scene.RulesOf(r.liveVMs())
	e.before, e.after = r.before, slices.Clone(r.after)
	r.scope = r.root.OpenScope()
	paused := false
	if r.cfg.Rewind || r.pauses != nil && r.cfg.PauseOnFailure {
		r.points.Limit = r.cfg.RewindLimit
		r.points.Start()
	}
	if r.pauses != nil && r.cfg.PauseOnFailure {
		e.onFailure = func(err error) {
			paused = true
			r.pauseFailed(t, strings.Join(append(e.reasons(err), e.found...), "\n"))
		}
	}
	err := e.run(t.fn, append([]lua.Value{r.t.newObject(e, t)}, t.values...)...)
	spent := uint64(max(0, r.Now().Sub(e.started)))
	reason, failed := r.judge(e, err)
	excerpt := ""
	if failed {
		e.salvage(true)
		excerpt = scene.Consoles(e.vms())
		if !paused {
			r.pauseFailed(t, reason)
		}
	}
	r.dropStates()
	var stop *stopError
	var doubtful []*lab.VM
	if errors.As(err, &stop) {
		doubtful = r.liveVMs()
	}
	r.closeScope("test `"+t.name+"`", r.scope, doubtful...)
	r.scope = r.root
	log := append([]string{}, e.log...)
	switch {
	case failed && again && !r.result.Poisoned && r.ctx.Err() == nil:
		r.Emit(event.TestRetried{Path: path, Name: t.name, Attempt: uint32(number), DurationNS: spent, Reason: reason,
			ConsoleExcerpt: excerpt, Log: log})
		return false
	case failed:
		r.result.Failed++
		r.Emit(event.TestFailed{Path: path, Name: t.name, DurationNS: spent, Reason: reason,
			ConsoleExcerpt: excerpt, Meta: meta, Log: log})
	case e.skipped != nil:
		r.result.Skipped++
		r.Emit(event.TestSkipped{Path: path, Name: t.name, Reason: *e.skipped, Meta: meta})
	default:
		r.result.Passed++
		r.Emit(event.TestPassed{Path: path, Name: t.name, DurationNS: spent, Meta: meta, Log: log})
	}
	return true
}

// judge reports whether a test that ended with err has failed, and why.
func (r *testRun) judge(e *execution, err error) (reason string, failed bool) {
	var reasons []string
	if crash := crashIn(err); crash != nil {
		r.crashed(crash)
	}
	switch crash := r.firstCrash(); {
	case crash != nil && crashIn(err) != nil:
		r.result.Poisoned = true
		reasons = append(reasons, "internal error: "+e.explain(err).String(), crash.Stack)
	case crash != nil: // in the build of a fixture, below a pcall
		r.result.Poisoned = true
		reasons = append(reasons, "internal error: "+crash.Error(), crash.Stack)
	default:
		reasons = e.reasons(err)
	}
	reasons = append(reasons, e.cleanupReasons(len(reasons) == 0)...)
	reasons = failure.WithReports(reasons, append(e.found, e.takeFindings(r.liveVMs())...))
	if e.skipped == nil {
		missing, notes := e.verdict.End(len(reasons) > 0)
		reasons = append(reasons, missing...)
		for _, n := range append(notes, e.idle...) {
			e.addLog("note: " + n)
		}
	}
	return strings.Join(reasons, "\n"), len(reasons) > 0
}

// reasons returns why a body failed that ended with err, and what it has left behind; nothing
// for one that has not failed.
func (e *execution) reasons(err error) []string {
	if !e.hasFailed(err) {
		return nil
	}
	var out []string
	var stop *stopError
	if e.failure == nil && e.explained != nil {
		out = append(out, e.explained.String())
	} else if e.failure == nil {
		out = append(out, e.explain(err).String())
	} else if out = append(out, e.failure.String()); errors.As(err, &stop) {
		out = append(out, "later: "+stop.Error())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(out, e.evidence.parts()...)
}
