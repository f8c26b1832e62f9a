package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"provium/internal/event"
	"provium/internal/lua"
	"provium/internal/script/attachment"
	"provium/internal/script/value"
)

const (
	// cleanupLimit is how long hooks and deferred functions may take after a test that was
	// stopped, in all.
	cleanupLimit = 10 * time.Second
	// cleanupLastLimit is the same for a file that is stopped: it is killed soon.
	cleanupLastLimit = 3 * time.Second
)

// luaHook returns before_each or after_each, which add a function to hooks.
func (r *testRun) luaHook(hooks *[]*lua.Function) lua.GoFunc {
	return func(c *lua.Call) ([]lua.Value, error) {
		a := value.FunctionArgs(c, c.Name())
		if r.inTest() {
			return nil, a.Errorf("cannot be called inside a test body (call it at file scope)")
		}
		fn, err := a.Function(1, "fn")
		if err == nil {
			err = a.AtMost(1, c.Name()+"(fn)")
		}
		if err != nil {
			return nil, err
		}
		*hooks = append(*hooks, fn)
		return nil, nil
	}
}

// tDefer is t:defer(fn).
func (s *assertions) tDefer(a value.Args, e *execution) ([]lua.Value, error) {
	fn, err := a.Function(1, "fn")
	if err == nil {
		err = a.AtMost(1, "t:defer(fn)")
	}
	if err != nil {
		return nil, err
	}
	e.deferred = append(e.deferred, fn)
	return nil, nil
}

// nextCleanup takes the next function to run after the body, nil if none is left: the
// deferred ones, the last first, then the hooks, the last first. hook says that it is one.
func (e *execution) nextCleanup() (fn *lua.Function, hook bool) {
	take := func(list *[]*lua.Function) *lua.Function {
		n := len(*list)
		fn := (*list)[n-1]
		*list = (*list)[:n-1]
		return fn
	}
	switch {
	case len(e.deferred) > 0:
		return take(&e.deferred), false
	case len(e.after) > 0:
		return take(&e.after), true
	}
	return nil, false
}

// cleanUp runs what is to run after the body, which has ended with err, and returns the error
// of the execution. All of it runs, whatever fails. After ctx has ended, it has a little time
// left.
func (e *execution) cleanUp(ctx context.Context, err error, arguments []lua.Value) error {
	values := e.values
	defer func() { e.values = values }()
	e.cleaning = true
	extended := false
	for {
		fn, hook := e.nextCleanup()
		if fn == nil {
			return err
		}
		if ctx.Err() != nil && !extended {
			var cancel context.CancelFunc
			ctx, cancel = e.lastContext()
			defer cancel()
			extended = true
		}
		var passed []lua.Value
		if hook {
			passed = arguments
		}
		noticed := e.failure
		failed := e.call(ctx, []*lua.Function{fn}, passed)
		var stop *stopError
		switch {
		case failed == nil, e.failure != noticed:
		case err == nil && errors.As(failed, &stop), crashIn(failed) != nil && crashIn(err) == nil:
			err = failed
		default:
			e.cleanup = append(e.cleanup, failed)
		}
	}
}

// lastContext returns what functions run in after a test was stopped.
func (e *execution) lastContext() (context.Context, context.CancelFunc) {
	parent, limit := e.s.ctx, cleanupLimit
	if parent.Err() != nil {
		parent, limit = context.WithoutCancel(parent), cleanupLastLimit
	}
	return context.WithTimeoutCause(parent, limit, &stopError{
		text: "stopped after " + value.FormatSeconds(limit) + ", which is what remains after a test was stopped"})
}

// cleanupReasons returns why functions failed that ran after the body. first says that
// nothing else has failed.
func (e *execution) cleanupReasons(first bool) []string {
	var out []string
	for i, err := range e.cleanup {
		if first && i == 0 {
			out = append(out, e.explain(err).String())
			continue
		}
		out = append(out, "later, after the body: "+e.explain(err).Message)
	}
	return out
}

// brokenStep is the innermost step that an error has left.
type brokenStep struct {
	message string // of the error
	path    string
}

// of returns the step that an error comes from, "" if it comes from none.
func (b brokenStep) of(err *lua.Error) string {
	if b.path == "" || err.Message != b.message {
		return ""
	}
	return b.path
}

// stepPath names the steps that a thread is in, "" outside of steps.
func (e *execution) stepPath(thread *lua.Thread) string {
	steps := e.steps[thread]
	if len(steps) == 0 {
		return ""
	}
	text := "in step"
	for i, name := range steps {
		if i > 0 {
			text += " >"
		}
		text += " `" + name + "`"
	}
	return text
}

// maxStepName bounds the name of a step, in bytes.
const maxStepName = 1024

// tStep is t:step(name, fn), which returns what fn returns.
func (s *assertions) tStep(a value.Args, e *execution) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	if name == "" || len(name) > maxStepName {
		return nil, a.Errorf("argument 1 (name) must have 1 to %d bytes, got %d", maxStepName, len(name))
	}
	fn, err := a.Function(2, "fn")
	if err == nil {
		err = a.AtMost(2, "t:step(name, fn)")
	}
	if err != nil {
		return nil, err
	}
	thread := a.Call.Thread()
	if e.steps == nil {
		e.steps = map[*lua.Thread][]string{}
	}
	around := e.steps[thread]
	e.steps[thread] = append(slices.Clone(around), name)
	path := e.stepPath(thread)
	began := e.s.Now()
	e.s.Emit(event.StepStarted{Path: e.s.Host.File, Name: e.name, Step: name, Where: a.Call.CallerFile().String()})
	values, err := a.Call.Call(fn)
	e.s.Emit(event.StepEnded{Path: e.s.Host.File, Name: e.name, Step: name,
		DurationNS: uint64(max(0, e.s.Now().Sub(began))), Failed: err != nil})
	if e.steps[thread] = around; len(around) == 0 {
		delete(e.steps, thread)
	}
	var raised *lua.Error
	if errors.As(err, &raised) && raised.Message != e.broken.message {
		e.broken = brokenStep{raised.Message, path}
	}
	return values, err
}

// inheritSteps hands a task the steps of the thread that starts it.
func (e *execution) inheritSteps(from, to *lua.Thread) {
	if steps := e.steps[from]; len(steps) > 0 {
		e.steps[to] = steps
	}
}

// maxAttachments is how many files a test may attach.
const maxAttachments = 100

// tAttach is t:attach(name, what).
func (s *assertions) tAttach(a value.Args, e *execution) ([]lua.Value, error) {
	if e.attached == maxAttachments {
		return nil, a.Errorf("a test can have %d attachments", maxAttachments)
	}
	made, err := attachment.Read(a, e.s.BesideFile)
	if err != nil {
		return nil, err
	}
	e.attached++
	made.Path, made.Name = e.s.Host.File, e.name
	e.s.Emit(made)
	e.addLog(fmt.Sprintf("attached %s (%d bytes)", made.Attachment, made.Size))
	return nil, nil
}
