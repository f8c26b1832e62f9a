package executor

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/portable"
	"provium/internal/agent/session"
	"provium/internal/wire"
)

// Call makes a system call, or waits for the one that Now has begun. The answer's
// bytes are streamed where they are many.
func (s *Pool) Call(o *session.Op, r *wire.Syscall, body *session.Body) (wire.Value, error) {
	if c, ok := o.Begun().(*Call); ok {
		a, err := c.x.await(o.Context(), c.answer)
		if err != nil {
			return nil, err
		}
		return callValue(o, c.x, a)
	}
	data, err := body.All(wire.MaxCallData)
	if err != nil {
		return nil, err
	}
	req, err := callRequest(r, data)
	if err != nil {
		return nil, err
	}
	x, err := s.Get(r.Executor)
	if err != nil {
		return nil, err
	}
	if err := x.isMeant(r); err != nil {
		return nil, err
	}
	if r.Async {
		req.flags = execAsync // beside other calls, which share the umask
		_, ch, err := x.exchange(req, false)
		if err != nil {
			return nil, err
		}
		handle := s.newHandle()
		s.mu.Lock()
		s.calls[handle] = &Call{x, ch, req.id}
		s.mu.Unlock()
		return wire.CountValue(handle), nil
	}
	a, err := x.do(o.Context(), req)
	if err != nil {
		return nil, err
	}
	return callValue(o, x, a)
}

// callRequest returns the request for the executor.
func callRequest(r *wire.Syscall, data []byte) (*request, error) {
	if err := portable.Call(r); err != nil {
		return nil, err
	}
	req := &request{kind: execCall, nr: r.Nr, data: data, lens: r.Lens, nested: r.Nested, into: r.ChildOffsets,
		enters: enters(r.Nr), confines: confines(r.Nr)}
	if err := r.Check(); err != nil {
		return nil, &wire.Error{Text: err.Error()}
	}
	if r.ExactMode {
		req.flags = execNoUmask
	}
	copy(req.args[:], r.Args)
	var sum uint64
	for _, n := range r.Lens {
		sum += n
	}
	if sum != uint64(len(data)) {
		return nil, &wire.Error{Text: fmt.Sprintf("%d bytes for buffers of %d", len(data), sum)}
	}
	for _, n := range r.Ptrs {
		req.ptrs = append(req.ptrs, uint32(n))
	}
	return req, nil
}

// enters reports whether a call may change the namespaces of children.
func enters(nr int64) bool {
	nr &^= x32
	return nr == unix.SYS_UNSHARE || nr == unix.SYS_SETNS
}

// confines reports whether a call may install a filter of system calls, which need not
// allow those that shared memory takes.
func confines(nr int64) bool {
	nr &^= x32
	return nr == unix.SYS_SECCOMP || nr == unix.SYS_PRCTL
}

const x32 = 1 << 30 // the bit of that way of calling in a call's number

// isMeant returns an error when the caller means an executor that has died.
func (x *Executor) isMeant(r *wire.Syscall) error {
	if r.Life != 0 && r.Life != x.life {
		return &wire.Error{Text: "the executor that had it open has died"}
	}
	return nil
}

// Now makes a small call for the goroutine that reads the link. If the call returned at
// once, use is called with its value, whose data are valid up to the return of use, and
// done is true. Otherwise Now returns the call that is under way, or nil when the call
// must be made by an operation.
func (s *Pool) Now(r *wire.Syscall, use func(*wire.SyscallValue)) (call *Call, done bool) {
	if r.Async || r.Data.Streamed() {
		return nil, false
	}
	req, err := callRequest(r, r.Data.Inline)
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	x := s.byID[r.Executor]
	s.mu.Unlock()
	if x == nil || x.isMeant(r) != nil || !x.isIdle() {
		return nil, false
	}
	came := 0
	req.use = func(a *execAnswer) {
		if came = len(a.data); came == len(req.data) {
			use(&wire.SyscallValue{Ret: a.ret, Errno: a.errno, Life: x.life, Data: a.data})
			done = true
		}
	}
	answer, ch, err := x.exchange(req, true)
	switch {
	case err != nil: // it has just died
		return nil, false
	case answer == nil:
		return &Call{x, ch, req.id}, false
	case !done:
		// Something else has answered in the executor's place: no frame may be
		// made of that.
		ch = make(chan execAnswer, 1)
		ch <- execAnswer{fd: -1, err: &wire.Error{
			Text: fmt.Sprintf("the executor answered with %d bytes for buffers of %d", came, len(req.data)),
		}}
		answer.drop()
		x.cmd.Kill()
		return &Call{x, ch, req.id}, false
	}
	return nil, true
}

// isIdle reports whether a call that is made now may be waited for on the spot.
func (x *Executor) isIdle() bool {
	if !x.sending.TryLock() {
		return false
	}
	defer x.sending.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone == nil && x.idle()
}

// callValue returns the value of an answer. It streams the bytes that the result
// cannot carry itself.
func callValue(o *session.Op, x *Executor, a execAnswer) (wire.Value, error) {
	v := &wire.SyscallValue{Ret: a.ret, Errno: a.errno, Life: x.life}
	if o.Inline(len(a.data)) {
		v.Data = a.data
		return v, nil
	}
	b := o.Buffer()
	defer o.Release(b)
	for p := a.data; len(p) > 0; {
		n := copy(b.Payload()[:wire.ChunkSize], p)
		p = p[n:]
		if err := o.Stream(wire.StreamData, b, n); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Await waits for a call that is under way. It returns the answer once.
func (s *Pool) Await(o *session.Op, r *wire.SyscallAwait) (wire.Value, error) {
	s.mu.Lock()
	c := s.calls[r.Handle]
	s.mu.Unlock()
	if c == nil {
		return nil, &wire.Error{Text: fmt.Sprintf("the agent has no system call %d", r.Handle)}
	}
	var limit <-chan time.Time
	if r.TimeoutNS > 0 {
		t := time.NewTimer(time.Duration(min(r.TimeoutNS, 1<<62)))
		defer t.Stop()
		limit = t.C
	}
	select {
	case a := <-c.answer:
		s.mu.Lock()
		delete(s.calls, r.Handle)
		s.mu.Unlock()
		if a.err != nil {
			return nil, a.err
		}
		return callValue(o, c.x, a)
	case <-limit:
		return nil, wire.ErrnoText(uint32(unix.ETIMEDOUT), "the system call has not returned")
	case <-o.Context().Done():
		return nil, context.Canceled
	}
}

// Drop forgets a call. One under way is interrupted; one that goes on all the
// same is left alone.
func (s *Pool) Drop(ctx context.Context, r *wire.SyscallDrop) error {
	s.mu.Lock()
	c := s.calls[r.Handle]
	delete(s.calls, r.Handle)
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	tick := time.NewTicker(interruptStep)
	defer tick.Stop()
	limit := time.NewTimer(interruptLimit)
	defer limit.Stop()
	for {
		select {
		case <-c.answer:
			return nil
		default:
		}
		// A failure is that of the executor, and the answer says how it ended.
		_, _ = c.x.do(ctx, &request{kind: execCancel, args: [6]int64{int64(c.id)}})
		select {
		case <-c.answer:
			return nil
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return context.Canceled
		case <-tick.C:
		}
	}
}

// ReadMem returns bytes of an executor's memory.
func (s *Pool) ReadMem(o *session.Op, r *wire.ReadMem) (wire.Value, error) {
	if r.Length > wire.MaxReadMem {
		text := fmt.Sprintf("%d bytes of memory: at most %d are possible", r.Length, wire.MaxReadMem)
		return nil, &wire.Error{Text: text}
	}
	x, err := s.Get(r.Executor)
	if err != nil {
		return nil, err
	}
	a, err := x.do(o.Context(), &request{kind: execReadMem, args: [6]int64{int64(r.Address)}, lens: []uint64{r.Length}})
	if err != nil {
		return nil, err
	}
	return callValue(o, x, a)
}
