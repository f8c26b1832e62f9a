package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

var emptyRun wire.Run

// executors are those of an agent: the VM's, with handle 0, and its workers'.
type executors struct {
	mu    sync.Mutex
	byID  map[uint64]*executor
	calls map[uint64]*asyncCall
}

// asyncCall is a system call under way, or its answer until that is asked for.
type asyncCall struct {
	x      *executor
	answer chan execAnswer
	id     uint64 // of its request
}

// executor gives the executor of a handle. That of the VM is started when it
// is needed, and again when it has died; a worker that has died stays so.
func (a *Agent) executor(id uint64) (*executor, error) {
	s := &a.execs
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byID[id]
	switch {
	case x == nil && id != 0:
		return nil, &wireError{Text: fmt.Sprintf("the agent has no worker %d", id)}
	case x != nil && (id != 0 || !x.isDead()):
		return x, nil
	}
	x, err := a.startExecutor(id)
	if err != nil {
		return nil, err
	}
	s.put(x)
	return x, nil
}

func (s *executors) put(x *executor) {
	if s.byID == nil {
		s.byID = make(map[uint64]*executor)
	}
	s.byID[x.id] = x
}

func (x *executor) isDead() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone != nil
}

// syscall makes a call. The answer's bytes are streamed as far as they are
// many.
func (o *op) syscall(r *wire.Syscall, body *body) (wire.Value, error) {
	if c := o.begun; c != nil {
		a, err := c.x.await(o.ctx, c.answer)
		if err != nil {
			return nil, err
		}
		return o.callValue(c.x, a)
	}
	data, err := body.all(execMaxAnswer)
	if err != nil {
		return nil, err
	}
	req, err := callRequest(r, data)
	if err != nil {
		return nil, err
	}
	x, err := o.agent.executor(r.Executor)
	if err != nil {
		return nil, err
	}
	if err := x.isMeant(r); err != nil {
		return nil, err
	}
	if r.Async {
		req.flags = execAsync
		_, ch, err := x.exchange(req, false)
		if err != nil {
			return nil, err
		}
		handle := o.agent.handles.Add(1)
		s := &o.agent.execs
		s.mu.Lock()
		if s.calls == nil {
			s.calls = make(map[uint64]*asyncCall)
		}
		s.calls[handle] = &asyncCall{x, ch, req.id}
		s.mu.Unlock()
		return wire.CountValue(handle), nil
	}
	a, err := x.do(o.ctx, req)
	if err != nil {
		return nil, err
	}
	return o.callValue(x, a)
}

// callRequest is what the executor is asked for.
func callRequest(r *wire.Syscall, data []byte) (*execRequest, error) {
	req := &execRequest{kind: execCall, nr: r.Nr, data: data, lens: r.Lens, nested: r.Nested}
	copy(req.args[:], r.Args)
	var sum uint64
	for _, n := range r.Lens {
		sum += n
	}
	if sum != uint64(len(data)) {
		return nil, &wireError{Text: fmt.Sprintf("%d bytes for buffers of %d", len(data), sum)}
	}
	for _, n := range r.Ptrs {
		req.ptrs = append(req.ptrs, uint32(n))
	}
	return req, nil
}

// isMeant fails when the caller knew another executor.
func (x *executor) isMeant(r *wire.Syscall) error {
	if r.Life != 0 && r.Life != x.life {
		return &wireError{Text: "the executor that had it open has died"}
	}
	return nil
}

// callNow makes a call for the reader of the session if it is a small one. It
// gives the value if the call returned at once, or else the call that is under
// way; neither when the call is one to be made by an operation.
func (a *Agent) callNow(r *wire.Syscall) (*wire.SyscallValue, *asyncCall) {
	if r.Async || r.Data.Streamed() {
		return nil, nil
	}
	req, err := callRequest(r, r.Data.Inline)
	if err != nil {
		return nil, nil
	}
	s := &a.execs
	s.mu.Lock()
	x := s.byID[r.Executor]
	s.mu.Unlock()
	if x == nil || x.isMeant(r) != nil || !x.isIdle() {
		return nil, nil
	}
	answer, ch, err := x.exchange(req, true)
	switch {
	case err != nil: // it has just died
		return nil, nil
	case answer == nil:
		return nil, &asyncCall{x, ch, req.id}
	case len(answer.data) != len(req.data):
		// Something else has answered in the executor's place: no frame may be
		// made of that.
		ch = make(chan execAnswer, 1)
		ch <- execAnswer{fd: -1, err: &wireError{Text: fmt.Sprintf("the executor answered with %d bytes for buffers of %d", len(answer.data), len(req.data))}}
		answer.drop()
		x.cmd.kill(false)
		return nil, &asyncCall{x, ch, req.id}
	}
	return &wire.SyscallValue{Ret: answer.ret, Errno: answer.errno, Life: x.life, Data: answer.data}, nil
}

// isIdle tells whether a call that is made now may be waited for on the spot.
func (x *executor) isIdle() bool {
	if !x.sending.TryLock() {
		return false
	}
	defer x.sending.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone == nil && x.idle()
}

// callValue is the value of an answer.
func (o *op) callValue(x *executor, a execAnswer) (wire.Value, error) {
	v := &wire.SyscallValue{Ret: a.ret, Errno: a.errno, Life: x.life}
	if len(a.data) <= o.inline {
		o.inline -= len(a.data)
		v.Data = a.data
		return v, nil
	}
	b := o.agent.buffer()
	defer o.agent.release(b)
	for p := a.data; len(p) > 0; {
		n := copy(b.payload()[:wire.ChunkSize], p)
		p = p[n:]
		if err := o.stream(wire.StreamData, b, n); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// syscallAwait waits for a call that is under way; its answer is given once.
func (o *op) syscallAwait(r *wire.SyscallAwait) (wire.Value, error) {
	s := &o.agent.execs
	s.mu.Lock()
	c := s.calls[r.Handle]
	s.mu.Unlock()
	if c == nil {
		return nil, &wireError{Text: fmt.Sprintf("the agent has no system call %d", r.Handle)}
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
		return o.callValue(c.x, a)
	case <-limit:
		return nil, &wireError{Errno: uint32(unix.ETIMEDOUT), Name: "ETIMEDOUT", Text: "the system call has not returned (ETIMEDOUT)"}
	case <-o.ctx.Done():
		return nil, context.Canceled
	}
}

// syscallDrop forgets a call. One under way is interrupted; one that does not
// mind is left to itself.
func (o *op) syscallDrop(r *wire.SyscallDrop) error {
	s := &o.agent.execs
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
		// A failure is that of the executor, whose end the answer tells.
		_, _ = c.x.do(o.ctx, &execRequest{kind: execCancel, args: [6]int64{int64(c.id)}})
		select {
		case <-c.answer:
			return nil
		case <-limit.C:
			return nil
		case <-o.ctx.Done():
			return context.Canceled
		case <-tick.C:
		}
	}
}

func (o *op) readMem(r *wire.ReadMem) (wire.Value, error) {
	if r.Length > wire.MaxReadMem {
		return nil, &wireError{Text: fmt.Sprintf("%d bytes of memory: at most %d are possible", r.Length, wire.MaxReadMem)}
	}
	x, err := o.agent.executor(r.Executor)
	if err != nil {
		return nil, err
	}
	a, err := x.do(o.ctx, &execRequest{kind: execReadMem, args: [6]int64{int64(r.Address)}, lens: []uint64{r.Length}})
	if err != nil {
		return nil, err
	}
	return o.callValue(x, a)
}

// descriptor gives a copy of an executor's descriptor.
func (o *op) descriptor(id uint64, fd int64) (int, error) {
	x, err := o.agent.executor(id)
	if err != nil {
		return -1, err
	}
	a, err := x.do(o.ctx, &execRequest{kind: execSendFD, args: [6]int64{fd}})
	switch {
	case err != nil:
		return -1, err
	case a.errno != 0:
		return -1, syscall.Errno(a.errno)
	case a.fd < 0:
		return -1, errors.New("the executor sent no descriptor")
	}
	return a.fd, nil
}

// openAs opens a file as an executor does, with its credentials.
func (o *op) openAs(x *executor, path string, flags int) (int, error) {
	at := unix.AT_FDCWD
	a, err := x.do(o.ctx, &execRequest{kind: execCall, nr: unix.SYS_OPENAT, args: [6]int64{int64(at), 0, int64(flags | unix.O_CLOEXEC)},
		lens: []uint64{uint64(len(path) + 1)}, ptrs: []uint32{1, 0}, data: append([]byte(path), 0)})
	if err != nil {
		return -1, err
	}
	if a.errno != 0 {
		return -1, syscall.Errno(a.errno)
	}
	fd, err := o.descriptor(x.id, a.ret)
	if _, e := x.do(context.WithoutCancel(o.ctx), &execRequest{kind: execCall, nr: unix.SYS_CLOSE, args: [6]int64{a.ret}}); err == nil && e != nil {
		unix.Close(fd)
		err = e
	}
	return fd, err
}

// view is a path to what an executor finds under the given one.
func (x *executor) view(path string) string {
	if strings.HasPrefix(path, "/") {
		return fmt.Sprintf("/proc/%d/root%s", x.cmd.pid, path)
	}
	return fmt.Sprintf("/proc/%d/cwd/%s", x.cmd.pid, path)
}

// workerSpawn starts an executor of its own.
func (o *op) workerSpawn() (wire.Value, error) {
	id := o.agent.handles.Add(1)
	x, err := o.agent.startExecutor(id)
	if err != nil {
		return nil, err
	}
	o.agent.execs.mu.Lock()
	o.agent.execs.put(x)
	o.agent.execs.mu.Unlock()
	return wire.CountValue(id), nil
}

func (o *op) workerClose(r *wire.WorkerClose) error {
	s := &o.agent.execs
	s.mu.Lock()
	x := s.byID[r.Handle]
	delete(s.byID, r.Handle)
	s.mu.Unlock()
	if x != nil {
		x.stop()
	}
	return nil
}

// launcher starts programs with an executor's credentials and namespaces.
func (o *op) launcher(x *executor) launch {
	return func(name string, argv, env []string, dir string, files [3]int, _ *account) (*command, error) {
		var bufs [4][]byte
		bufs[0] = terminated([]string{name})
		bufs[1], bufs[2], bufs[3] = terminated(argv), terminated(env), terminated([]string{dir})
		r := &execRequest{kind: execSpawn, fds: files[:]}
		for _, b := range bufs {
			r.lens = append(r.lens, uint64(len(b)))
			r.data = append(r.data, b...)
		}
		a, err := x.do(o.ctx, r)
		if err != nil {
			return nil, err
		}
		if a.fd < 0 {
			return nil, syscall.Errno(a.errno)
		}
		c := &command{pidfd: a.fd}
		if c.pid, err = pidOf(a.fd); err != nil {
			unix.Close(a.fd)
			return nil, err
		}
		if a.errno != 0 {
			_, _ = c.wait()
			unix.Close(a.fd)
			return nil, syscall.Errno(a.errno)
		}
		return c, nil
	}
}

func terminated(texts []string) []byte {
	var b []byte
	for _, t := range texts {
		b = append(append(b, t...), 0)
	}
	return b
}

// pidOf reads the number a pidfd stands for, as this process sees it.
func pidOf(pidfd int) (int, error) {
	text, err := readSmall(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, errors.New("a pidfd without a process id")
}

func readSmall(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	p := make([]byte, 4096)
	n, err := read(fd, p)
	return string(p[:n]), err
}

// stop ends all executors.
func (s *executors) stop() {
	s.mu.Lock()
	all := s.byID
	s.byID = nil
	s.mu.Unlock()
	for _, x := range all {
		x.stop()
	}
}
