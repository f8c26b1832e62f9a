package script

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// taskSet counts the threads that run Lua code for one execution and those of
// them that wait at a barrier, and keeps the background tasks of co.wrap.
// Fields are used with the Lua baton held.
type taskSet struct {
	live       int // threads of the execution, the body itself included
	waiting    int // of them, those that only other tasks can free
	failed     int // tasks that have failed so far
	background []*task
	barriers   map[barrierKey]*barrier
}

var (
	errTaskStopped = errors.New("task stopped: another task of its parallel failed")
	errBodyEnded   = errors.New("background task stopped: the body that started it has failed")
)

// task is one thread of an execution beside its body.
type task struct {
	e  *execution
	th *lua.Thread
	// began is closed when it begins to run.
	began chan struct{}
	// left is set once the task counts no longer: it has ended, or will never
	// begin.
	left bool
	// failed is its place among the tasks that failed, 0 if it did not.
	failed int
}

// spawn starts fn as a task of the execution. It has the isolation of the task
// that starts it: what fails below an assert_raises there is wanted here too.
func (e *execution) spawn(ctx context.Context, c *lua.Call, fn lua.Value, values ...lua.Value) *task {
	e.tasks.live++
	t := &task{e: e, th: e.s.state.NewThread(ctx, fn, values...), began: make(chan struct{})}
	t.th.Notify(func() { close(t.began) }, func(err error) {
		if err != nil {
			e.tasks.failed++
			t.failed = e.tasks.failed
		}
		t.leave()
	})
	if n := e.isolating[c.Thread()]; n > 0 {
		e.isolating[t.th] = n
	}
	e.inheritSteps(c.Thread(), t.th)
	t.th.Start()
	return t
}

// maxTasks is how many tasks an execution may have at a time: each takes about 15 KiB.
const maxTasks = 100_000

// room returns an error if the execution cannot have n more tasks.
func (e *execution) room(n int) error {
	if e.tasks.live+n > maxTasks {
		return fmt.Errorf("too many tasks: %d more beside %d that run, and at most %d can", n, e.tasks.live, maxTasks)
	}
	return nil
}

// leave takes the task off the count.
func (t *task) leave() {
	if t.left {
		return
	}
	t.left = true
	t.e.tasks.live--
	delete(t.e.isolating, t.th)
	delete(t.e.steps, t.th)
	t.e.tasks.checkBarriers()
}

// taskAPI has the global functions that concern tasks and time: parallel, co and wait_until.
type taskAPI struct{ *session }

// luaParallel is parallel{f, g, ...}.
func (s taskAPI) luaParallel(c *lua.Call) ([]lua.Value, error) {
	a := value.FunctionArgs(c, "parallel")
	t, ok := a.Value(1).(*lua.Table)
	if !ok || a.Len() != 1 {
		if ok {
			return nil, a.Errorf("takes one argument, an array of functions, got %d", a.Len())
		}
		return nil, a.TypeError(1, "functions", "an array of functions")
	}
	fns, err := value.Sequence(t)
	if err != nil {
		return nil, a.Errorf("argument 1 (functions) %w", err)
	}
	for i, fn := range fns {
		if _, ok := fn.(*lua.Function); !ok {
			return nil, a.Errorf("entry %d must be a function, got %s", i+1, lua.TypeName(fn))
		}
	}
	e := s.current
	if e == nil {
		return nil, binding.ErrIdle
	}
	if err := e.room(len(fns)); err != nil {
		return nil, a.Errorf("%w", err)
	}
	tasks := make([]*task, len(fns))
	for i, fn := range fns {
		tasks[i] = e.spawn(c.Context(), c, fn)
	}
	results, err := e.join(c, tasks)
	if err != nil {
		return nil, err
	}
	out := make([]lua.Value, len(tasks))
	for i, values := range results {
		if len(values) > 0 {
			out[i] = values[0]
		}
	}
	return out, nil
}

// join waits for tasks and returns what they returned, or the error of the one that
// failed first.
func (e *execution) join(c *lua.Call, tasks []*task) ([][]lua.Value, error) {
	// While the others run this one waits for nothing but them.
	e.tasks.live--
	blockErr := c.Block(func(context.Context) error {
		awaitAll(tasks)
		return nil
	})
	e.tasks.live++
	for _, t := range tasks {
		t.leave()
	}
	if blockErr != nil {
		return nil, blockErr
	}
	out := make([][]lua.Value, len(tasks))
	var first *task
	var firstErr error
	for i, t := range tasks {
		values, err := t.th.Wait(context.Background())
		if err != nil && (first == nil || t.failed != 0 && (first.failed == 0 || t.failed < first.failed)) {
			first, firstErr = t, err
		}
		out[i] = values
	}
	return out, firstErr
}

// awaitAll waits for all tasks. When one fails the others are stopped.
func awaitAll(tasks []*task) {
	var watchers sync.WaitGroup
	var stop sync.Once
	for _, t := range tasks {
		watchers.Add(1)
		go func() {
			defer watchers.Done()
			if _, err := t.th.Wait(context.Background()); err == nil {
				return
			}
			stop.Do(func() {
				for _, other := range tasks {
					other.th.Interrupt(errTaskStopped)
				}
			})
		}()
	}
	watchers.Wait()
}

// coFunctions is the global co: the coroutine library with another wrap.
func (s taskAPI) coFunctions() (*lua.Table, error) {
	library, ok := s.state.Global("coroutine").(*lua.Table)
	if !ok {
		return nil, errors.New("the coroutine library is missing")
	}
	t := s.state.NewTable()
	for k, v := range library.All() {
		value.MustSet(t, k, v)
	}
	value.MustSet(t, "wrap", s.state.NewFunction("co.wrap", s.coWrap))
	return t, nil
}

// coWrap is co.wrap(fn): a function whose call runs fn as background task.
func (s taskAPI) coWrap(c *lua.Call) ([]lua.Value, error) {
	a := value.FunctionArgs(c, "co.wrap")
	fn, err := a.Function(1, "fn")
	if err != nil {
		return nil, err
	}
	var started *task
	return []lua.Value{s.state.NewBlockingFunction("co.wrap task", func(c *lua.Call) ([]lua.Value, error) {
		e := s.current
		switch {
		case e == nil:
			return nil, binding.ErrIdle
		case started != nil:
			select {
			case <-started.th.Done():
				return nil, errors.New("co.wrap: this task has ended; wrap the function again to run it again")
			default:
				return nil, errors.New("co.wrap: this task is running in the background already")
			}
		}
		if err := e.room(1); err != nil {
			return nil, fmt.Errorf("co.wrap: %w", err)
		}
		started = e.spawn(e.ctx, c, fn, c.Args()...)
		e.tasks.background = append(e.tasks.background, started)
		// Once it has begun it has the baton, and the wait for that ends at its
		// first blocking operation.
		err := c.Block(func(ctx context.Context) error {
			select {
			case <-started.began:
			case <-started.th.Done():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return nil
		})
		return nil, err
	})}, nil
}

// awaitBackground ends the execution's background tasks and returns the error of
// the body or else the first of theirs. They are stopped when the body failed.
func (e *execution) awaitBackground(err error) error {
	e.tasks.live--
	e.tasks.checkBarriers()
	for i := 0; i < len(e.tasks.background); i++ { // tasks may start tasks
		t := e.tasks.background[i]
		if err != nil {
			t.th.Interrupt(errBodyEnded)
		}
		_ = e.s.state.Block(func() error {
			_, taskErr := t.th.Wait(context.Background())
			if err == nil && taskErr != nil {
				err = fmt.Errorf("background task: %w", taskErr)
			}
			return nil
		})
		t.leave()
	}
	e.tasks.background = nil
	return err
}
