package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/kernelreport"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/api"
	"provium/internal/script/failure"
	"provium/internal/script/scene"
	"provium/internal/script/value"
	"provium/internal/script/verdict"
)

// execution is the chunk of a file, or the body of one test, while it runs. Fields are used
// with the Lua baton held, except for those mu guards.
type execution struct {
	s         *session
	name      string // of the test, empty for the chunk
	meta      *Meta
	trace     *failure.Trace
	started   time.Time
	waited    time.Duration // what the file's wait clock showed at the start
	cancel    context.CancelCauseFunc
	log       []string
	failure   *failure.Failure    // the first one an assertion noticed; pcall does not undo it
	skipped   *string             // reason given to t:skip
	verdict   *verdict.Verdict    // of the reports of kernels
	rules     scene.DiskRules     // that were there before
	idle      []string            // notes of rules that have struck nothing
	isolating map[*lua.Thread]int // assert_raises under way: what fails in them is wanted
	ended     bool
	ctx       context.Context // of the body and of its background tasks
	tasks     taskSet
	values    []lua.Value // what the chunk or body returned

	steps  map[*lua.Thread][]string // names of the steps under way, outermost first
	broken brokenStep

	attached int // files

	before, after, deferred []*lua.Function // hooks, and functions of t:defer
	cleaning                bool            // they run after the body
	cleanup                 []error         // why some of them failed, beside failure

	limitChanged chan struct{} // has a token when the limit may have changed
	stalled      chan string   // has the reason when a guest stands still
	bodyOver     chan struct{} // closed when the body has ended
	// onFailure is called when the body has failed with an error, before anything else runs.
	onFailure func(err error)
	explained *failure.Failure // why the body has failed, if no assertion has noticed it
	found     []string         // reports of kernels up to the end of the body, if onFailure is set

	mu       sync.Mutex
	touched  []*lab.VM // VMs that operations concerned, in order of first use
	stopped  *stopError
	evidence evidence
}

// stopError is why an execution was stopped from outside.
type stopError struct {
	text   string // "timed out after 5s"
	flight string // the operations in flight with their places, empty when none was
	cause  error  // the end of the file's context, if that is it
	raised error  // what the body had returned by then
}

func (e *stopError) Error() string {
	if e.flight == "" {
		return e.text
	}
	return e.text + " in " + e.flight
}

// Unwrap returns the causes there are.
func (e *stopError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.cause, e.raised}, func(err error) bool { return err == nil })
}

// newExecution prepares a run; meta is nil for the chunk.
func newExecution(s *session, name string, meta *Meta) *execution {
	e := &execution{s: s, name: name, meta: meta, trace: failure.NewTrace(s.Now), started: s.Now(),
		stalled: make(chan string, 1), limitChanged: make(chan struct{}, 1), bodyOver: make(chan struct{}),
		isolating: map[*lua.Thread]int{}}
	e.waited, _, _ = s.clock.read()
	var allowed verdict.Allowed
	if meta != nil {
		allowed = meta.Allowed
	}
	e.verdict = verdict.New(s.Reports, allowed)
	return e
}

// run calls the hooks before, fn, and what is to run after it, with a time limit. It returns
// the error of the first that failed up to the end of fn: nil, an error of Lua, or one that
// wraps a *stopError.
func (e *execution) run(fn *lua.Function, arguments ...lua.Value) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.s.ctx))
	defer cancel(nil)
	e.cancel = cancel
	e.s.setCurrent(e)
	defer e.s.setCurrent(nil)

	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Add(1)
	go func() {
		defer watching.Done()
		e.watch(done)
	}()
	err := e.endBody(ctx, e.call(ctx, append(slices.Clone(e.before), fn), arguments))
	err = e.cleanUp(ctx, err, arguments)
	e.s.endReturning()
	close(done)
	watching.Wait()
	e.ended = true
	return err
}

// call calls functions one after the other until one fails, and waits for the background
// tasks that they have started.
func (e *execution) call(ctx context.Context, fns []*lua.Function, arguments []lua.Value) (err error) {
	e.ctx = ctx
	e.tasks.live++
	for _, fn := range fns {
		if e.values, err = e.s.state.Call(ctx, fn, arguments...); err != nil {
			break
		}
	}
	return e.awaitBackground(err)
}

// endBody ends the body, which has returned err, and returns its error. Its limit counts, too,
// when it came to its end while its guests were asked what they do.
func (e *execution) endBody(ctx context.Context, err error) error {
	e.s.endReturning()
	close(e.bodyOver)
	e.mu.Lock()
	stopped := e.stopped
	e.mu.Unlock()
	if stopped != nil {
		_ = e.s.state.Block(func() error { <-ctx.Done(); return nil })
		var other *stopError
		if crashIn(err) == nil && !errors.As(err, &other) {
			late := *stopped
			late.raised = err
			err = &late
		}
	}
	if e.onFailure != nil { // what kernels have reported is a failure, too
		e.found = e.takeFindings(e.s.liveVMs())
	}
	if e.rules != nil {
		e.idle = e.rules.Idle(e.s.liveVMs())
	}
	if e.hasFailed(err) || len(e.found) > 0 {
		if e.failure == nil && err != nil {
			e.explained = e.explain(err)
		}
		e.takeEvidence()
		if e.onFailure != nil {
			e.onFailure(err)
		}
	}
	return err
}

// stop ends the execution from another goroutine.
func (e *execution) stop(text string, cause error) { e.stopAfter(text, cause, func() {}) }

// stopAfter ends the execution from another goroutine, after look.
func (e *execution) stopAfter(text string, cause error, look func()) {
	stop := &stopError{text: text, flight: e.trace.InFlight(), cause: cause}
	select {
	case <-e.bodyOver: // what runs after it has its own time
	default:
		e.mu.Lock()
		e.stopped = stop
		e.mu.Unlock()
		look()
	}
	e.cancel(stop)
}

// limit is the time the execution may take; 0 is no limit.
func (e *execution) limit() time.Duration {
	switch {
	case e.meta == nil:
		return 0
	case e.meta.HasTimeout:
		return e.meta.Timeout
	}
	return e.s.timeout()
}

// opTimeout is how long guests may be silent during an operation, as a guest.Call has it.
func (e *execution) opTimeout() time.Duration {
	if e.meta == nil {
		return 0
	}
	return e.meta.OpTimeout
}

// watch stops the execution at its limit or with the file, until done is closed.
func (e *execution) watch(done <-chan struct{}) {
	for {
		waited, waiting, changed := e.s.clock.read()
		limit := e.limit()
		timer := time.NewTimer(0)
		timer.Stop()
		if limit > 0 && !waiting {
			timer.Reset(limit - (e.s.Now().Sub(e.started) - (waited - e.waited)))
		}
		select {
		case <-done:
			return
		case <-e.s.ctx.Done():
			cause := context.Cause(e.s.ctx)
			e.stopAfter(cause.Error(), cause, func() {
				var late interface{ IsTimeout() bool }
				if errors.As(cause, &late) && late.IsTimeout() {
					e.lookAtStuck(sceneLastLimit, e.bodyOver)
				}
			})
			return
		case text := <-e.stalled:
			e.stopAfter(text, nil, func() { e.lookAtStuck(sceneLimit, e.bodyOver) })
			return
		case <-timer.C:
			e.stopAfter("timed out after "+value.FormatSeconds(limit), nil, func() {
				e.lookAtStuck(sceneLimit, e.bodyOver)
			})
			return
		case <-changed:
		case <-e.limitChanged:
		}
		timer.Stop()
	}
}

// recheckLimit makes a change of the limit count at once.
func (e *execution) recheckLimit() {
	select {
	case e.limitChanged <- struct{}{}:
	default:
	}
}

// guestFailed stops the execution unless its test allows for the report. A guest that stands
// still is looked at.
func (e *execution) guestFailed(vm *lab.VM, found kernelreport.Finding) {
	if e.verdict.Excuses(found) {
		return
	}
	text := fmt.Sprintf("guest failure on vm `%s`: %s", vm.Name(), found.Title)
	if found.Panic {
		e.stop(text, nil)
		return
	}
	select {
	case e.stalled <- text:
	default: // another guest does, too
	}
}

// warn puts a warning into the test's log; those of the chunk go to stderr.
func (e *execution) warn(text string) {
	if e.meta == nil {
		e.s.warn("%s", text)
		return
	}
	e.addLog("warning: " + text)
}

// touch records that an operation concerns vm.
func (e *execution) touch(vm *lab.VM) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if vm != nil && !slices.Contains(e.touched, vm) {
		e.touched = append(e.touched, vm)
	}
}

// touchedVMs lists the VMs that operations concerned.
func (e *execution) touchedVMs() []*lab.VM {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.touched)
}

// vms lists the VMs the test used or declared.
func (e *execution) vms() []*lab.VM {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := slices.Clone(e.touched)
	for _, vm := range e.s.scope.AllVMs() {
		if !slices.Contains(all, vm) {
			all = append(all, vm)
		}
	}
	return all
}

// explain turns an error of run into a failure.
func (e *execution) explain(err error) *failure.Failure {
	out := &failure.Failure{Message: err.Error()}
	var raised *lua.Error
	if errors.As(err, &raised) {
		out.Message = value.ErrorText(raised)
		out.Stack = e.s.stack(raised.Traceback, raised.At)
		out.Step = e.broken.of(raised)
		out.Source = e.s.excerpt(raised.At)
	}
	var command *api.CommandError
	if errors.As(err, &command) {
		out.Message = strings.Replace(out.Message, command.Error(), command.Short(), 1)
		out.Output = outputs(command.Result)
	}
	var stop *stopError
	if errors.As(err, &stop) {
		out.Message, out.Output = stop.Error(), ""
		if stop.flight == "" && raised != nil {
			if where := raised.At.String(); where != "" {
				out.Message += " at " + where
			}
		}
	}
	out.Operations = e.trace.Report(out.Message)
	return out
}

// outputs shows both outputs of a command that were too long for its message.
func outputs(r *guest.RunResult) string {
	var shown []string
	for _, out := range []struct {
		name string
		text []byte
	}{{"stdout", r.Stdout}, {"stderr", r.Stderr}} {
		if api.IsLong(out.text) {
			shown = append(shown, failure.Block(out.name, out.text))
		}
	}
	return strings.Join(shown, "\n")
}

// excerpt returns the line of a file at a position with those around it, or "".
func (s *session) excerpt(at lua.Position) string {
	if !at.File {
		return ""
	}
	return failure.Excerpt(s.InProject(at.Source), at.Line)
}

// stack returns a traceback of Lua as it is shown below the message of a failure at a line.
func (s *session) stack(text string, at lua.Position) string {
	return failure.Stack(text, at.String(), failure.Hidden{operatorChunk + ":", "session:"})
}
