package script

import (
	"context"
	"fmt"
	"time"

	"provium/internal/lab"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// barrierKey names a barrier: names are private to their lab, and with it to
// the scope.
type barrierKey struct {
	lab  *lab.Lab
	name string
}

// barrier is where tasks wait for each other. Fields are used with the Lua
// baton held, but for open, which is closed once.
type barrier struct {
	count   int
	arrived int
	open    chan struct{}
	err     error // why it opened, nil when all came
}

// Barrier implements api.Session.
func (s *session) Barrier(a value.Args, l *lab.Lab, name string, count int, limit time.Duration) error {
	e := s.current
	if e == nil {
		return binding.ErrIdle
	}
	key := barrierKey{l, name}
	b := e.tasks.barriers[key]
	if b == nil {
		b = &barrier{count: count, open: make(chan struct{})}
		if e.tasks.barriers == nil {
			e.tasks.barriers = map[barrierKey]*barrier{}
		}
		e.tasks.barriers[key] = b
	}
	if b.count != count {
		return a.Errorf("`%s`: callers disagree on count: %d here, %d where others wait", name, count, b.count)
	}
	b.arrived++
	if b.arrived == b.count {
		delete(e.tasks.barriers, key)
		e.tasks.waiting -= b.arrived - 1
		close(b.open)
		return nil
	}
	e.tasks.waiting++
	e.checkBarriers()
	timedOut := false
	err := s.Op(a, nil, func(ctx context.Context) error {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-b.open:
			return nil
		case <-timer.C:
			timedOut = true
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	select {
	case <-b.open: // it opened, be it while the timer ran out
		return b.err
	default:
	}
	arrived := b.arrived
	b.arrived--
	e.tasks.waiting--
	if b.arrived == 0 && e.tasks.barriers[key] == b {
		delete(e.tasks.barriers, key)
	}
	if timedOut {
		return a.Errorf("`%s`: timed out after %s: %d of %d tasks have arrived", name, value.FormatSeconds(limit),
			arrived, count)
	}
	return err
}

// checkBarriers opens all barriers with an error when every task that is left
// waits at one: no other task could arrive.
func (e *execution) checkBarriers() {
	if e.tasks.waiting == 0 || e.tasks.waiting < e.tasks.live {
		return
	}
	for key, b := range e.tasks.barriers {
		b.err = fmt.Errorf("lab:barrier: `%s`: %d of %d tasks have arrived, and no task is left that could arrive",
			key.name, b.arrived, b.count)
		e.tasks.waiting -= b.arrived
		delete(e.tasks.barriers, key)
		close(b.open)
	}
}
