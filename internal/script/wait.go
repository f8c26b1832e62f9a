package script

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/lua"
	"provium/internal/script/failure"
	"provium/internal/script/journal"
	"provium/internal/script/value"
)

// luaWaitUntil is wait_until(predicate, opts?).
func (s taskAPI) luaWaitUntil(c *lua.Call) (out []lua.Value, err error) {
	a := value.FunctionArgs(c, "wait_until")
	predicate, err := a.Function(1, "predicate")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	timeout, err := waitDuration(o, "timeout", 10*time.Second)
	if err != nil {
		return nil, err
	}
	interval, err := waitDuration(o, "interval", 100*time.Millisecond)
	if err != nil {
		return nil, err
	}
	desc, err := o.Str("desc", "condition")
	if err != nil {
		return nil, err
	}
	began := s.Now()
	call := journal.Call{Test: s.testName(), Text: describe("wait_until", desc), Where: c.CallerFile().String()}
	op := s.journal.Begin(call, began)
	defer func() { op.Returned(s.Now(), out, err) }()
	for {
		values, err := c.Call(predicate)
		if err != nil {
			return nil, err
		}
		if len(values) > 0 && values[0] != nil && values[0] != false {
			return values[:1], nil
		}
		left := timeout - s.Now().Sub(began)
		if left <= 0 {
			return nil, fmt.Errorf("wait_until: %s not met within %s", desc, value.FormatSeconds(timeout))
		}
		if err := s.nap(c, call, min(interval, left)); err != nil {
			return nil, err
		}
	}
}

// waitDuration reads a duration option; the error of a string names the option.
func waitDuration(o value.Options, key string, absent time.Duration) (time.Duration, error) {
	d, err := o.Duration(key, absent)
	if text, ok := o.Get(key).(string); ok && err != nil {
		return 0, fmt.Errorf("wait_until: bad %s string `%s`: %w", key, value.Clip(text, 80), errors.Unwrap(err))
	}
	return d, err
}

// nap lets time pass between two looks. It shows as operation in flight, but is not worth a
// line among the last operations.
func (s taskAPI) nap(c *lua.Call, call journal.Call, d time.Duration) error {
	if s.current != nil {
		defer s.current.trace.Begin(failure.Operation{Text: call.Text, Where: call.Where}).Forget()
	}
	return c.Block(func(ctx context.Context) error {
		wait, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		<-wait.Done()
		return context.Cause(ctx)
	})
}
