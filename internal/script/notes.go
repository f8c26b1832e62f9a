package script

import (
	"errors"
	"slices"

	"provium/internal/lua"
	"provium/internal/script/value"
)

// This file has what a test says about itself while it runs: its steps.

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
	values, err := a.Call.Call(fn)
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
