package script

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/event"
	"provium/internal/lua"
	"provium/internal/script/journal"
	"provium/internal/script/value"
)

// traceKeep is how many finished operations a failure shows.
const traceKeep = 10

// operation is one blocking call of a test: what it was, where it stands and how long it took.
type operation struct {
	text     string // vm:run("make")
	vm       string // name of the VM concerned, may be empty
	where    string // file:line of the call
	start    time.Time
	duration time.Duration
	failed   bool
}

// trace records the blocking operations of one test body or chunk. The zero value is not
// ready, see newTrace. It is safe for concurrent use: a timeout reads it from its own
// goroutine.
type trace struct {
	now func() time.Time

	mu      sync.Mutex
	running []*operation // in order of start
	last    []operation  // finished ones, oldest first
}

func newTrace(now func() time.Time) *trace { return &trace{now: now} }

// begin notes that an operation starts; the function it returns notes its end.
func (t *trace) begin(op operation) (end func(failed bool)) {
	running := t.start(op)
	return func(failed bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.remove(running)
		running.duration = t.now().Sub(running.start)
		running.failed = failed
		if len(t.last) == traceKeep {
			copy(t.last, t.last[1:])
			t.last = t.last[:traceKeep-1]
		}
		t.last = append(t.last, *running)
	}
}

// silent is begin for operations that are not listed once they ended.
func (t *trace) silent(op operation) (end func()) {
	running := t.start(op)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.remove(running)
	}
}

func (t *trace) start(op operation) *operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	op.start = t.now()
	t.running = append(t.running, &op)
	return &op
}

// remove takes an operation off those in flight. The caller must hold t.mu.
func (t *trace) remove(op *operation) {
	if i := slices.Index(t.running, op); i >= 0 {
		t.running = slices.Delete(t.running, i, i+1)
	}
}

// inFlight describes the operations that run now, each with its place:
// `vm:run("make") at tests/build.test.lua:31`. It is empty when nothing runs.
func (t *trace) inFlight() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, op := range t.running {
		text := op.text
		if op.where != "" {
			text += " at " + op.where
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// report lists the last finished operations with their durations, oldest first; empty when
// there was none.
func (t *trace) report() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("last operations:")
	for _, op := range t.last {
		fmt.Fprintf(&b, "\n  %9s  ", shortDuration(op.duration))
		if op.vm != "" {
			fmt.Fprintf(&b, "[%s] ", op.vm)
		}
		b.WriteString(op.text)
		if op.where != "" {
			b.WriteString("  " + op.where)
		}
		if op.failed {
			b.WriteString("  (failed)")
		}
	}
	return b.String()
}

// shortDuration renders a measured time with three digits or so.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}

// describe renders a call for traces: the method and its arguments, long ones abbreviated.
func describe(method string, args ...lua.Value) string {
	parts := make([]string, len(args))
	for i, a := range args {
		parts[i] = journal.Argument(a)
	}
	return method + "(" + strings.Join(parts, ", ") + ")"
}

// returning is an operation whose wait is over and whose method has not returned yet.
type returning struct {
	call *lua.Call
	op   *journal.Operation
	err  error
}

// Returned implements binding.Runner.
func (s *session) Returned(a value.Args, object any, values []lua.Value, err error) {
	if !s.journal.On {
		return
	}
	s.returning = slices.DeleteFunc(s.returning, func(r returning) bool {
		if r.call == a.Call {
			r.op.End(func() journal.Outcome { return journal.OutcomeOf(values, err) })
		}
		return r.call == a.Call
	})
	if err == nil && s.Details && journal.IsChange(a.Func) {
		call := journal.Call{Test: s.testName(), Text: describeWhole(a.Func, a.Values...),
			Where: a.Call.CallerFile().String()}
		s.journal.Changed(call, a.Func, object, values)
	}
}

// endReturning ends operations of functions that are not methods, at the end of an execution.
func (s *session) endReturning() {
	for _, r := range s.returning {
		r.op.End(func() journal.Outcome { return journal.OutcomeOf(nil, r.err) })
	}
	s.returning = nil
}

// testName returns the name of the running test, empty outside of one.
func (s *session) testName() string {
	if s.current == nil {
		return ""
	}
	return s.current.name
}

// describeWhole is describe with the fields of options.
func describeWhole(method string, args ...lua.Value) string {
	parts := make([]string, len(args))
	for i, a := range args {
		if t, ok := a.(*lua.Table); ok {
			parts[i] = value.Clip(journal.Fields(t), 200)
		} else {
			parts[i] = journal.Argument(a)
		}
	}
	return method + "(" + strings.Join(parts, ", ") + ")"
}

// addLog adds an entry to the test's log.
func (e *execution) addLog(text string) {
	e.log = append(e.log, text)
	e.s.Emit(event.TestLog{Path: e.s.Host.File, Name: e.name, Text: text})
}

// toldOutput is the standard output of Lua code, which is emitted as it is written.
type toldOutput struct {
	to io.Writer
	s  *session
}

// Write writes p. It is called with the baton held.
func (o *toldOutput) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	o.s.Emit(event.TestOutput{Path: o.s.Host.File, Name: o.s.testName(), Stream: "stdout", Text: string(p)})
	return n, err
}
