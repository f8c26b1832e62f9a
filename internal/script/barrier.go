package script

import (
	"context"
	"fmt"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const (
	barrierWait = 60 * time.Second
	barrierMax  = 1 << 16 // tasks that may be asked for
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

// labBarrier is lab:barrier(name, count, timeout?).
func (f *file) labBarrier(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, a.Errorf("argument 1 (name) must not be empty")
	}
	count, ok := value.ToInteger(a.Value(2))
	if !ok {
		return nil, a.TypeError(2, "count", "an integer")
	}
	if count < 1 || count > barrierMax {
		return nil, a.Errorf("argument 2 (count) must be between 1 and %d, got %d", barrierMax, count)
	}
	limit, err := a.Duration(3, "timeout", barrierWait)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		return nil, a.Errorf("argument 3 (timeout) must be above 0")
	}
	e := f.current
	if e == nil {
		return nil, errIdle
	}
	key := barrierKey{l, name}
	b := e.tasks.barriers[key]
	if b == nil {
		b = &barrier{count: int(count), open: make(chan struct{})}
		if e.tasks.barriers == nil {
			e.tasks.barriers = map[barrierKey]*barrier{}
		}
		e.tasks.barriers[key] = b
	}
	if b.count != int(count) {
		return nil, a.Errorf("`%s`: callers disagree on count: %d here, %d where others wait", name, count, b.count)
	}
	b.arrived++
	if b.arrived == b.count {
		delete(e.tasks.barriers, key)
		e.tasks.waiting -= b.arrived - 1
		close(b.open)
		return nil, nil
	}
	e.tasks.waiting++
	e.checkBarriers()
	timedOut := false
	err = f.op(a, nil, func(ctx context.Context) error {
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
		return nil, b.err
	default:
	}
	arrived := b.arrived
	b.arrived--
	e.tasks.waiting--
	if b.arrived == 0 && e.tasks.barriers[key] == b {
		delete(e.tasks.barriers, key)
	}
	if timedOut {
		return nil, a.Errorf("`%s`: timed out after %s: %d of %d tasks have arrived", name, value.FormatSeconds(limit), arrived, count)
	}
	return nil, err
}

// checkBarriers opens all barriers with an error when every task that is left
// waits at one: nobody could arrive any more.
func (e *execution) checkBarriers() {
	if e.tasks.waiting == 0 || e.tasks.waiting < e.tasks.live {
		return
	}
	for key, b := range e.tasks.barriers {
		b.err = fmt.Errorf("lab:barrier: `%s`: %d of %d tasks have arrived, and no task is left that could arrive", key.name, b.arrived, b.count)
		e.tasks.waiting -= b.arrived
		delete(e.tasks.barriers, key)
		close(b.open)
	}
}
