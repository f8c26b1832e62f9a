package script

import (
	"context"
	"errors"

	"provium/internal/kernelreport"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/failure"
	"provium/internal/script/value"
)

// This file is the execution as explorations of disks see it: it implements
// diskapi.Execution.

// Parallel implements diskapi.Execution.
func (e *execution) Parallel(c *lua.Call, what string, n int, work func(c *lua.Call, i int) error) error {
	tasks := make([]*task, n)
	for i := range tasks {
		tasks[i] = e.spawn(c.Context(), c, e.s.state.NewFunction(what, func(inner *lua.Call) ([]lua.Value, error) {
			return nil, work(inner, i)
		}))
	}
	_, err := e.join(c, tasks)
	return err
}

// Try implements diskapi.Execution.
func (e *execution) Try(c *lua.Call, text, where string, vm *lab.VM, fn *lua.Function,
	values ...lua.Value) ([]lua.Value, string, error) {
	thread, skipped := c.Thread(), e.skipped
	traced := e.trace.Begin(failure.Operation{Text: text, VM: vm.Name(), Where: where})
	e.isolating[thread]++
	results, err := c.Call(fn, values...)
	e.isolating[thread]--
	traced.Forget()
	var raised *lua.Error
	switch {
	case err == nil:
		return results, "", nil
	case thread.Interrupted() != nil, e.skipped != skipped, c.Context().Err() != nil, !errors.As(err, &raised):
		return nil, "", err
	}
	return nil, value.ErrorText(raised), nil
}

// Findings implements diskapi.Execution.
func (e *execution) Findings(c *lua.Call, vm *lab.VM) ([]string, error) {
	var found []kernelreport.Finding
	err := c.Block(func(context.Context) error {
		found = vm.TakeFindings()
		return nil
	})
	return e.failures(vm, found), err
}

// Fail implements diskapi.Execution.
func (e *execution) Fail(c *lua.Call, text string) error { return e.failed(c, text, "") }

// CheckSyntax returns the error of Lua for a text that is not Lua, with the name and the line
// before it.
func CheckSyntax(text, name string) error {
	state, err := lua.New(lua.Config{})
	if err != nil {
		return err
	}
	defer state.Close()
	_, err = state.LoadString(text, name)
	return err
}
