package executor

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// What the agent and an executor send each other; program/protocol.h has the
// other side.
const (
	execCall = 1 + iota
	execReadMem
	execSendFD
	execSpawn
	execBatch
	execCancel
	execFork
	execAdopt
	execFollow

	// Flags of execCall.
	execAsync   = 1
	execNoUmask = 2
	execShared  = 4
	// Flags of execSpawn.
	execSetsid   = 1
	execUser     = 2
	execKeeper   = 4
	execAtOnce   = 8
	execNull     = 16
	execTerminal = 32

	answerSize = 32
	// execMaxAnswer bounds an answer's bytes: the buffers of a call, or the
	// memory that was asked for.
	// execMaxTexts bounds a command's bytes: a request, the default environment, and
	// the groups of a user.
	execMaxTexts  = wire.MaxRequest + 1<<20
	execMaxAnswer = max(wire.MaxCallData, wire.MaxReadMem)
	// execFirst is how much of it is believed before bytes come.
	execFirst = 1 << 20
)

// An answer that comes within execPatience is taken on the spot, by a system call
// that blocks without the Go scheduler's knowledge. To tell the scheduler wakes the
// runtime's monitor, whose wake-ups (every 20 us) cost an emulated guest ten times
// what a call does. The agent does nothing else meanwhile. So after a call that
// took longer, a goroutine waits for the next ones, up to one that was quick.
const execPatience = 5 * time.Millisecond // more than a tick of 4 ms: the first one may come at once

// execStall is how many times execPatience an executor may take in the middle
// of an answer.
const execStall = 1000

// request is what an executor is asked for.
type request struct {
	kind, flags uint32
	nr          int64
	args        [6]int64
	lens        []uint64
	ptrs        []uint32 // slot, buffer
	nested      []uint64 // parent, child, offset
	into        []uint64 // for each of nested, an offset into the child; none: 0
	data        []byte   // of the buffers
	fds         []int

	enters   bool   // it may change the namespaces of children
	confines bool   // it may install a filter of system calls
	id       uint64 // set when it is sent
	// use is called with an answer that comes on the spot, whose data are valid up to its
	// return; nil: the data are the caller's.
	use func(*execAnswer)
}

// execAnswer is what came back: errno, or how the executor died.
type execAnswer struct {
	ret   int64
	errno uint32
	kind  uint32 // of a report whose value is errno; 0 for none
	data  []byte
	fd    int // that came with it, -1 when none
	err   error
}

// pendingAnswer is an answer that an operation waits for.
type pendingAnswer struct {
	answer chan execAnswer // has room for it
	begun  time.Time
	call   bool // a single call on the main thread
	main   bool // calls on the main thread, which may take any time
}

// encode appends the request without its buffers' bytes.
func (r *request) encode(b []byte, id uint64) []byte {
	e := binary.NativeEndian
	b = e.AppendUint64(b, id)
	b = e.AppendUint32(b, r.kind)
	b = e.AppendUint32(b, r.flags)
	b = e.AppendUint64(b, uint64(r.nr))
	for _, a := range r.args {
		b = e.AppendUint64(b, uint64(a))
	}
	b = e.AppendUint32(b, uint32(len(r.lens)))
	b = e.AppendUint32(b, uint32(len(r.ptrs)/2))
	b = e.AppendUint32(b, uint32(len(r.nested)/3))
	b = e.AppendUint32(b, 0)
	for _, n := range r.lens {
		b = e.AppendUint64(b, n)
	}
	for _, n := range r.ptrs {
		b = e.AppendUint32(b, n)
	}
	for i := 0; i+2 < len(r.nested); i += 3 {
		b = e.AppendUint32(b, uint32(r.nested[i]))
		b = e.AppendUint32(b, uint32(r.nested[i+1]))
		b = e.AppendUint64(b, r.nested[i+2])
		var into uint64
		if k := i / 3; k < len(r.into) {
			into = r.into[k]
		}
		b = e.AppendUint64(b, into)
	}
	return b
}

// exchange sends a request. Its answer is returned if it comes at once and the
// caller can wait for that; else it comes on the channel.
func (x *Executor) exchange(r *request, wait bool) (*execAnswer, chan execAnswer, error) {
	x.sending.Lock()
	defer x.sending.Unlock()
	x.mu.Lock()
	if x.gone != nil {
		defer x.mu.Unlock()
		return nil, nil, &lostError{x.gone}
	}
	x.last++
	id := x.last
	r.id = id
	x.touched = x.touched || r.kind == execCall || r.kind == execBatch
	x.entered = x.entered || r.enters
	x.confined = x.confined || r.confines
	if r.births() && x.isBusy() {
		defer x.mu.Unlock()
		return nil, nil, errBusy
	}
	// A reader would take the answer.
	if wait = wait && (x.idle() || r.births() && len(x.pending) == 0); !wait {
		defer x.read()
	}
	var ch chan execAnswer
	if !wait {
		ch = x.expect(id, r, time.Now())
	}
	x.mu.Unlock()

	if wait {
		if a := x.onTheSpot(r); a != nil {
			return a, nil, nil
		}
		x.mu.Lock()
		x.patient = x.patient || r.single()
		ch = x.expect(id, r, time.Now().Add(-execPatience))
		x.mu.Unlock()
		x.read()
		return nil, ch, nil
	}
	x.out = r.encode(x.out[:0], id)
	_ = x.post(r) // the executor is killed, and with it what waits for it ends
	return nil, ch, nil
}

// post sends the request that is in x.out over the socket. After a failure the executor
// has died or is about to, which ends all that wait for it. The caller must hold
// x.sending.
func (x *Executor) post(r *request) error {
	err := x.postQuietly(r)
	if err == nil {
		x.memory.recall()
	}
	return err
}

// postQuietly is post, but an executor that waits for a call in shared memory may not notice.
func (x *Executor) postQuietly(r *request) error {
	err := x.send(x.out, r.data, r.fds)
	if err != nil {
		x.noteLoss(err)
		x.cmd.Kill()
	}
	return err
}

// onTheSpot makes a request and waits for its answer for execPatience, also where that is
// the end of the executor. It returns nil without one. The caller must hold x.sending.
func (x *Executor) onTheSpot(r *request) *execAnswer {
	if r.single() && !x.confined { // which only a holder of x.sending changes
		x.out = r.encode(x.out[:0], r.id)
		if x.memory.put(x.out, r.data) {
			return x.takeShared(r)
		}
		r.flags |= execShared
		if fd := x.memory.create(); fd >= 0 {
			defer sys.CloseNow(fd)
			r.fds = []int{fd}
		}
	}
	x.out = r.encode(x.out[:0], r.id)
	if x.postQuietly(r) != nil {
		return nil
	}
	a, err := answer{}, error(unix.EAGAIN)
	if r.single() {
		// An executor that was run at once has answered, and waits for the next call in shared memory: to recall it
		// from there would have that go by the socket as well, and all that follow.
		a, err = x.in.read(x.sock, unix.MSG_DONTWAIT)
	}
	if err == unix.EAGAIN {
		x.memory.recall()
		a, err = x.in.read(x.sock, 0)
	}
	switch {
	case err == nil && a.id == r.id:
		if r.use != nil {
			r.use(&a.execAnswer)
		}
		return &a.execAnswer
	case err == nil: // an answer to nothing
		a.drop()
		x.cmd.Kill()
	case err != unix.EAGAIN && err != io.EOF:
		x.noteLoss(err)
		x.cmd.Kill()
	}
	return nil
}

// takeShared takes the answer to a request in shared memory.
func (x *Executor) takeShared(r *request) (out *execAnswer) {
	x.memory.take(len(r.data), execPatience, func(head [answerSize]byte, data []byte) {
		a, length := parseAnswer(&head)
		if a.id != r.id || length != uint64(len(data)) { // an answer to nothing
			x.cmd.Kill()
			return
		}
		if a.data = data; r.use != nil {
			r.use(&a.execAnswer)
			a.data = nil
		} else {
			a.data = bytes.Clone(data)
		}
		out = &a.execAnswer
	})
	return out
}

// idle reports whether an answer may be waited for on the spot. The caller must
// hold x.mu.
func (x *Executor) idle() bool { return !x.patient && len(x.pending) == 0 }

// expect registers a request whose answer comes on the returned channel. The caller
// must hold x.mu.
func (x *Executor) expect(id uint64, r *request, begun time.Time) chan execAnswer {
	ch := make(chan execAnswer, 1)
	x.pending[id] = pendingAnswer{ch, begun, r.single(), r.single() || r.kind == execBatch}
	return ch
}

// single reports whether it is a single call on the main thread.
func (r *request) single() bool { return r.kind == execCall && r.flags&execAsync == 0 }

// births reports whether it makes a process.
func (r *request) births() bool { return r.kind == execSpawn || r.kind == execFork }

// isBusy reports whether the main thread has calls to make. The caller must hold
// x.mu.
func (x *Executor) isBusy() bool {
	for _, p := range x.pending {
		if p.main {
			return true
		}
	}
	return false
}

// read starts a goroutine that takes answers while any is pending, unless there is
// one. The caller must hold x.sending.
func (x *Executor) read() {
	x.mu.Lock()
	defer x.mu.Unlock()
	// A reader that was there may have taken the answer by now.
	if x.reader != nil || len(x.pending) == 0 {
		return
	}
	// Only while there is a reader may the runtime's poller watch the socket:
	// each answer taken on the spot would wake it, too.
	w, err := x.pool.waiters.Get()
	if err == nil {
		if err = w.Watch(x.sock, 0); err != nil {
			w.Close()
		}
	}
	if err != nil {
		x.cmd.Kill() // its answers could not be read
		return
	}
	ended := make(chan struct{})
	x.reader = ended
	go func() {
		defer close(ended)
		// At the end of the link the executor ends by itself.
		if err := x.answers(w); err != nil && err != io.EOF {
			x.noteLoss(err)
			x.cmd.Kill()
		}
		if w.Unwatch(x.sock) != nil {
			w.Close()
			return
		}
		x.pool.waiters.Put(w)
	}()
}

// answers takes answers until none is pending. The end of the executor is an
// error.
func (x *Executor) answers(w *sys.Waiter) error {
	var in answerReader
	for {
		a, err := in.read(x.sock, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			var events [1]unix.EpollEvent
			if _, err = w.Await(events[:]); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		x.mu.Lock()
		p, known := x.pending[a.id]
		delete(x.pending, a.id)
		if p.call {
			x.patient = time.Since(p.begun) > execPatience
		}
		last := len(x.pending) == 0
		if last {
			x.reader = nil
		}
		x.mu.Unlock()
		if known {
			p.answer <- a.execAnswer
		} else {
			a.drop()
		}
		if last {
			return nil
		}
	}
}

// do makes a request and waits for the answer. When ctx ends before it, the
// main thread is interrupted.
func (x *Executor) do(ctx context.Context, r *request) (execAnswer, error) {
	a, ch, err := x.exchange(r, true)
	switch {
	case err != nil:
		return execAnswer{fd: -1}, err
	case a != nil:
		return *a, nil
	}
	return x.await(ctx, ch)
}

// Cancelling a call: it is interrupted every interruptStep, since a signal
// that comes before the call sleeps is lost, and after interruptLimit the
// executor is killed.
const (
	interruptStep  = 20 * time.Millisecond
	interruptLimit = 2 * time.Second
)

// await waits for an answer as do does.
func (x *Executor) await(ctx context.Context, ch chan execAnswer) (execAnswer, error) {
	select {
	case a := <-ch:
		return a, a.err
	case <-ctx.Done():
	}
	tick := time.NewTicker(interruptStep)
	defer tick.Stop()
	limit := time.After(interruptLimit)
	for {
		x.cmd.SignalMain(unix.SIGBUS)
		select {
		case a := <-ch:
			if a.err == nil && a.errno == 0 && a.fd < 0 {
				// It has happened. The host undoes it, for instance closes a
				// file that was opened.
				return a, nil
			}
			a.drop()
			return execAnswer{fd: -1}, context.Canceled
		case <-limit:
			x.cmd.Kill()
		case <-tick.C:
		}
	}
}

// answer is an execAnswer with the request it is for.
type answer struct {
	execAnswer
	id uint64
}

// drop closes the descriptor of an answer that is not used.
func (a *execAnswer) drop() {
	if a.fd >= 0 {
		sys.CloseNow(a.fd)
		a.fd = -1
	}
}

// answerReader reads answers. One that comes in pieces is put together over
// several calls.
type answerReader struct {
	head [answerSize]byte
	have int // bytes of the head
	data []byte
	got  int // bytes of data
	want int // that there will be; data grows as they come
	fd   int // that came with it

	message struct { // of the system call
		head    unix.Msghdr
		iov     unix.Iovec
		control [24]byte // CMSG_SPACE(sizeof(int))
	}
}

// read returns the next answer. Without one it returns EAGAIN after the socket's
// limit or, with MSG_DONTWAIT, at once. At the end it returns io.EOF.
func (r *answerReader) read(sock, flags int) (answer, error) {
	for stalled := 0; ; {
		if r.have == 0 {
			r.fd = -1
		}
		var p []byte
		if r.have < len(r.head) {
			p = r.head[r.have:]
		} else {
			if r.got == len(r.data) && r.got < r.want {
				r.data = append(make([]byte, 0, min(2*r.got, r.want)), r.data...)
				r.data = r.data[:cap(r.data)]
			}
			p = r.data[r.got:]
		}
		if len(p) > 0 {
			n, err := r.receive(sock, p, flags)
			switch {
			case err == unix.EAGAIN && r.have > 0 && flags == 0 && stalled < execStall:
				stalled++
				continue
			case err == unix.EAGAIN && r.have > 0 && flags == 0:
				return answer{}, fmt.Errorf("an answer that does not end")
			case err != nil:
				return answer{}, err
			case n == 0:
				return answer{}, io.EOF
			}
			if r.have < len(r.head) {
				if r.have += n; r.have < len(r.head) {
					continue
				}
				_, length := parseAnswer(&r.head)
				if length > execMaxAnswer {
					return answer{}, fmt.Errorf("answer of %d bytes, at most %d are possible", length, execMaxAnswer)
				}
				if r.data, r.got, r.want = nil, 0, int(length); length > 0 {
					r.data = make([]byte, min(length, execFirst))
				}
			} else {
				r.got += n
			}
		}
		if r.have == len(r.head) && r.got == r.want {
			a, _ := parseAnswer(&r.head)
			a.data, a.fd = r.data[:r.got:r.got], r.fd
			r.have, r.data, r.got, r.fd = 0, nil, 0, -1
			return a, nil
		}
	}
}

// receive reads once into p, and takes a descriptor that comes with the bytes.
func (r *answerReader) receive(sock int, p []byte, flags int) (int, error) {
	s := &r.message
	s.iov = unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}
	s.head = unix.Msghdr{Iov: &s.iov, Iovlen: 1, Control: &s.control[0], Controllen: uint64(len(s.control))}
	n, err := sys.Call(unix.SYS_RECVMSG, uintptr(sock),
		uintptr(unsafe.Pointer(&s.head)), uintptr(flags|unix.MSG_CMSG_CLOEXEC))
	if err != nil {
		return 0, err
	}
	if s.head.Controllen >= uint64(unix.CmsgLen(4)) {
		e := binary.NativeEndian
		if e.Uint32(s.control[8:]) == unix.SOL_SOCKET && e.Uint32(s.control[12:]) == unix.SCM_RIGHTS {
			r.fd = int(int32(e.Uint32(s.control[16:])))
		}
	}
	return int(n), nil
}

// send writes all of head and data, with descriptors beside the first byte. The
// executor reads requests as it gets to them, so a long one may wait on a thread.
func (x *Executor) send(head, data []byte, fds []int) error {
	for len(head)+len(data) > 0 {
		n, err := x.transmit(head, data, fds)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			// Full: this waits, and the scheduler should know.
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(x.sock), Events: unix.POLLOUT}}, -1)
			if err == nil || err == unix.EINTR {
				continue
			}
		}
		if err != nil {
			return err
		}
		k := min(int(n), len(head))
		head, data, fds = head[k:], data[int(n)-k:], nil
	}
	return nil
}

// transmit writes once, without waiting: both pieces with one system call, since
// the first byte wakes the executor, which then had to wait for the rest. The
// caller must hold x.sending.
func (x *Executor) transmit(head, data []byte, fds []int) (uintptr, error) {
	const flags = unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	s := &x.message
	s.iov[0] = unix.Iovec{Base: unsafe.SliceData(head), Len: uint64(len(head))}
	s.iov[1] = unix.Iovec{Base: unsafe.SliceData(data), Len: uint64(len(data))}
	s.head = unix.Msghdr{Iov: &s.iov[0], Iovlen: uint64(len(s.iov))}
	if len(fds) > 0 {
		control := unix.UnixRights(fds...)
		s.head.Control, s.head.Controllen = unsafe.SliceData(control), uint64(len(control))
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(x.sock), uintptr(unsafe.Pointer(&s.head)), flags)
	s.head, s.iov = unix.Msghdr{}, [2]unix.Iovec{} // they keep no bytes from being freed
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}
