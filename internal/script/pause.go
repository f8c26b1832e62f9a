package script

import (
	"context"
	"fmt"

	"provium/internal/lua"
	"provium/internal/script/value"
	"provium/internal/script/variables"
)

// Pauses leads to a person who looks at a test that has stopped.
type Pauses interface {
	// Open asks the person to look at a test, and waits for a turn. done must be called when
	// the test goes on.
	Open(ctx context.Context, test, why string) (d Dialog, done func(), err error)
}

const noPerson = "there is nobody to ask: a pause needs a terminal, and a run that has one for its standard input " +
	"and output"

// tPause is t:pause(why?): a person looks at the guests, with the test's variables, until
// that ends. No time limit counts meanwhile.
func (s *assertions) tPause(a value.Args, e *execution) ([]lua.Value, error) {
	if err := a.AtMost(1, "t:pause(why?)"); err != nil {
		return nil, err
	}
	if e.s.pauses == nil {
		return nil, a.Errorf("%s", noPerson)
	}
	ctx := a.Call.Context()
	locals, upvalues, err := variables.Collectors(ctx, e.s.state)
	if err != nil {
		return nil, err
	}
	names := e.s.state.NewTable()
	if _, err := a.Call.Call(locals, names); err != nil {
		return nil, err
	}
	if err := e.s.addOuter(ctx, upvalues, names); err != nil {
		return nil, err
	}
	why := message(a, 1, "t:pause()")
	if at := a.Call.Caller().String(); at != "" {
		why = at + ": " + why
	}
	return nil, e.s.talk(ctx, e, why, names, func(do func() error) error {
		return a.Call.Block(func(context.Context) error { return do() })
	})
}

// pauseFailed has a person look at a test that has failed, before anything of it is closed.
func (r *testRun) pauseFailed(t *testCase, reason string) {
	if r.pauses == nil || !r.cfg.PauseOnFailure || r.ctx.Err() != nil {
		return
	}
	e := newExecution(r.session, t.name, &t.meta)
	var cancel context.CancelCauseFunc
	e.ctx, cancel = context.WithCancelCause(r.ctx)
	defer cancel(nil)
	e.cancel = cancel
	e.tasks.live++
	before := r.current
	r.setCurrent(e)
	defer r.setCurrent(before)
	names := r.state.NewTable()
	_, upvalues, err := variables.Collectors(e.ctx, r.state)
	if err == nil {
		_, err = r.state.Call(e.ctx, upvalues, t.fn, names)
	}
	if err == nil {
		err = r.addOuter(e.ctx, upvalues, names)
	}
	if err == nil {
		err = r.talk(e.ctx, e, reason, names, r.state.Block)
	}
	if err != nil && r.ctx.Err() == nil {
		r.warn("pause: %v", err)
	}
}

// addOuter adds the variables of the file that any of its tests uses: Lua keeps no others.
func (s *session) addOuter(ctx context.Context, upvalues *lua.Function, names *lua.Table) error {
	for _, fn := range s.bodies {
		if _, err := s.state.Call(ctx, upvalues, fn, names); err != nil {
			return err
		}
	}
	return nil
}

// talk lets a person type Lua in the state of an execution.
func (s *session) talk(ctx context.Context, e *execution, why string, names *lua.Table,
	block func(func() error) error) error {
	defer s.pause()()
	var d Dialog
	var done func()
	err := block(func() (err error) {
		d, done, err = s.pauses.Open(ctx, e.name, why)
		return err
	})
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	defer done()
	s.talking++
	defer func() { s.talking-- }()
	if s.points.Start() {
		defer s.dropStates()
	}
	p, err := s.newPrompt(ctx, names)
	if err != nil {
		return err
	}
	// A name for the machine that the test was about.
	vms := append(s.root.AllVMs(), e.vms()...)
	if len(vms) > 0 && names.Get("vm") == nil && s.state.Global("vm") == nil {
		if chunk, err := s.state.LoadString(`return provium:vm(...)`, "session"); err == nil {
			if values, err := s.state.Call(ctx, chunk, vms[len(vms)-1].Name()); err == nil && len(values) > 0 {
				value.MustSet(names, "vm", values[0])
			}
		}
	}
	return p.converse(ctx, d, block)
}

// dropStates removes the states of guests that are kept.
func (s *session) dropStates() {
	_ = s.state.Block(func() error {
		if err := s.points.Stop(); err != nil {
			s.warn("%v", err)
		}
		return nil
	})
}
