package script

import (
	"io"
	"slices"
	"strings"

	"provium/internal/event"
	"provium/internal/lua"
	"provium/internal/script/failure"
	"provium/internal/script/journal"
	"provium/internal/script/value"
)

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
	call   *lua.Call
	traced *failure.Running
	op     *journal.Operation // nil when nobody wants events of operations
	err    error
}

// end records what the operation returned.
func (r returning) end(o journal.Outcome) {
	r.traced.Returned(o)
	r.op.End(o)
}

// Returned implements binding.Runner.
func (s *session) Returned(a value.Args, object any, values []lua.Value, err error) {
	s.returning = slices.DeleteFunc(s.returning, func(r returning) bool {
		if r.call == a.Call {
			r.end(journal.OutcomeOf(values, err))
		}
		return r.call == a.Call
	})
	if s.Details && err == nil && journal.IsChange(a.Func) {
		call := journal.Call{Test: s.testName(), Text: describeWhole(a.Func, a.Values...),
			Where: a.Call.CallerFile().String()}
		s.journal.Changed(call, a.Func, object, values)
	}
}

// endReturning ends operations of functions that are not methods, at the end of an execution.
func (s *session) endReturning() {
	for _, r := range s.returning {
		r.end(journal.OutcomeOf(nil, r.err))
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
	o.s.Emit(event.TestOutput{Path: o.s.Host.File, Name: o.s.testName(), Stream: "stdout", Text: string(p)})
	if o.s.Capture && o.s.talking == 0 {
		return len(p), nil
	}
	return o.to.Write(p)
}
