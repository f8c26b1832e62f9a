package lua

// #include "glue.h"
import "C"

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Thread is one run of a Lua function on a Lua stack and a goroutine of its
// own. It runs once.
type Thread struct {
	st     *State
	fn     Value
	args   []Value
	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	depth  int // threads run inside one another on this goroutine
	id     C.int
	done   chan struct{}
	vals   []Value
	err    error

	began func()      // called when it begins to run; may be nil
	ended func(error) // called when it has run; may be nil

	stop atomic.Pointer[error] // cause of the interruption

	mu      sync.Mutex // guards the fields below
	started bool
	task    *C.gl_task // nil once ended
}

// nestMax limits threads that run inside one another: each has a limit of its
// own for C calls, and they share one C stack.
const nestMax = 16

// NewThread creates a thread for a call of fn, a function or callable value,
// with args. When ctx ends the thread is interrupted with its cause. A thread
// that never runs is freed with the State.
func (s *State) NewThread(ctx context.Context, fn Value, args ...Value) *Thread {
	c := s.use()
	t := &Thread{st: s, fn: fn, args: args, parent: ctx, done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	t.task = C.gl_task_new(c, &t.id)
	if t.task == nil {
		panic(errLimit)
	}
	s.mu.Lock()
	s.threads[t] = struct{}{}
	s.mu.Unlock()
	return t
}

// Call runs fn in a new thread on the caller's goroutine.
func (s *State) Call(ctx context.Context, fn Value, args ...Value) ([]Value, error) {
	return s.NewThread(ctx, fn, args...).Run()
}

// Run runs the thread to its end on the caller's goroutine, which must hold the
// baton. If the caller is a thread itself, the new one is not interrupted with
// it unless it has its context. The error is an *Error, or one about arguments
// that have no Lua form.
func (t *Thread) Run() ([]Value, error) {
	t.begin()
	t.run()
	return t.vals, t.err
}

// Notify has began called when the thread begins to run, and ended when it has run, before
// Done is closed. Both hold the baton; either may be nil. Notify must be called before the
// thread is started.
func (t *Thread) Notify(began func(), ended func(err error)) { t.began, t.ended = began, ended }

// Start starts the thread on a goroutine of its own.
func (t *Thread) Start() {
	t.begin()
	t.st.running.Add(1)
	go func() {
		defer t.st.running.Done()
		t.st.baton.acquire()
		defer t.st.baton.release()
		c := t.st.c
		c.cur, c.task = c.L, &c.host
		t.st.thread = nil
		t.st.drain()
		t.run()
	}()
}

func (t *Thread) begin() {
	t.st.use()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		panic("lua: thread started twice")
	}
	t.started = true
}

func (t *Thread) run() {
	s := t.st
	c := s.use()
	if s.thread != nil {
		t.depth = s.thread.depth + 1
	}
	if t.depth > nestMax {
		t.err = &Error{Value: errNested.Error(), Message: errNested.Error(), cause: errNested}
		if t.ended != nil {
			t.ended(t.err)
		}
		t.drop()
		return
	}
	cur, task, thread := c.cur, c.task, s.thread
	c.cur, c.task, s.thread = t.task.L, t.task, t
	if t.parent.Err() != nil {
		t.Interrupt(context.Cause(t.parent))
	}
	unwatch := context.AfterFunc(t.parent, func() { t.Interrupt(context.Cause(t.parent)) })
	if t.began != nil {
		t.began()
	}
	t.vals, t.err = s.enter(t.fn, t.args)
	unwatch()
	if t.stopped() {
		t.vals, t.err = nil, t.stopError()
	}
	c.cur, c.task, s.thread = cur, task, thread
	if t.ended != nil {
		t.ended(t.err)
	}
	t.fn, t.args = nil, nil
	t.drop()
}

// drop frees the Lua side. The caller must hold the baton.
func (t *Thread) drop() {
	t.mu.Lock()
	task := t.task
	t.task = nil
	t.mu.Unlock()
	t.st.mu.Lock()
	delete(t.st.threads, t)
	t.st.mu.Unlock()
	C.gl_task_free(t.st.c, task, t.id)
	t.cancel(nil)
	close(t.done)
}

// Interrupt stops the thread: the operation it blocks on is cancelled, and its
// Lua code does not continue. Its run ends with an *Error for which
// errors.Is(err, cause) holds, and whose traceback shows where it was. The first
// cause counts; nil stands for context.Canceled. Interrupting a thread that has
// ended does nothing. Interrupt is safe for concurrent use, without the baton.
func (t *Thread) Interrupt(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	t.mu.Lock()
	if t.task == nil || !t.stop.CompareAndSwap(nil, &cause) {
		t.mu.Unlock()
		return
	}
	atomic.StoreInt32((*int32)(unsafe.Pointer(&t.task.stop)), 1)
	t.mu.Unlock()
	t.cancel(cause)
	t.st.expectStop()
}

// expectStop begins to watch whether interrupted threads stop.
func (s *State) expectStop() {
	if s.cfg.Stuck != nil && s.watched.CompareAndSwap(false, true) {
		go s.watchStop()
	}
}

// watchStop calls Config.Stuck while a thread keeps the baton, until all that were interrupted have ended.
func (s *State) watchStop() {
	for s.isStopping() || s.restStops() {
		turns := s.baton.turns.Load()
		time.Sleep(StuckAfter)
		if s.baton.held.Load() && s.baton.turns.Load() == turns && s.isStopping() {
			s.cfg.Stuck()
		}
	}
}

// isStopping reports whether a thread that was interrupted has not ended.
func (s *State) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.threads {
		if t.stopped() {
			return true
		}
	}
	return false
}

// restStops ends the watch, unless another thread was interrupted meanwhile, which relies on it.
func (s *State) restStops() (goesOn bool) {
	s.watched.Store(false)
	return s.isStopping() && s.watched.CompareAndSwap(false, true)
}

// Interrupted returns the cause of the interruption, or nil. It is safe for
// concurrent use, without the baton.
func (t *Thread) Interrupted() error {
	if p := t.stop.Load(); p != nil {
		return *p
	}
	return nil
}

// Done returns a channel which is closed when the thread has ended. It does not
// need the baton.
func (t *Thread) Done() <-chan struct{} { return t.done }

// Wait waits for the end of the thread or of ctx. It returns the results of Run,
// or the cause of ctx's end. It must be called without the baton, as in Block.
func (t *Thread) Wait(ctx context.Context) ([]Value, error) {
	select {
	case <-t.done:
		return t.vals, t.err
	case <-ctx.Done():
		return nil, fmt.Errorf("thread wait: %w", context.Cause(ctx))
	}
}

func (t *Thread) stopped() bool { return t.stop.Load() != nil }

// stopError returns the error with which the thread ends. The caller must hold
// the baton, before the thread is dropped.
func (t *Thread) stopError() error {
	cause := t.Interrupted()
	e := &Error{Value: cause.Error(), Message: cause.Error(), cause: cause}
	if t.task != nil && t.task.stopped.text != nil {
		e.Traceback = C.GoString(t.task.stopped.text)
		e.At = position(&t.task.stopped)
	}
	return e
}
