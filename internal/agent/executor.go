package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the agent and an executor send each other; executor/protocol.h has the
// other side.
const (
	execCall = 1 + iota
	execReadMem
	execSendFD
	execSpawn

	execAsync = 1

	execHeadSize   = 88
	execAnswerSize = 32
	// execMaxAnswer bounds an answer's bytes: 256 buffers of 1 MiB, and what
	// read_mem gives.
	execMaxAnswer = 256 << 20
)

// errNoExecutor is the answer where the image has none.
var errNoExecutor = &wireError{Text: "this guest has no executor for system calls (/.provium/executor is missing)"}

// executor is the agent's side of one. It is safe for concurrent use.
type executor struct {
	id   uint64
	life uint64 // never given twice
	cmd  *command
	sock *os.File
	raw  syscall.RawConn
	dead chan struct{} // closed when it was reaped

	sending sync.Mutex

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan execAnswer
	gone    error // why it is no more
	closing bool
}

// execRequest is what an executor is asked for.
type execRequest struct {
	kind, flags uint32
	nr          int64
	args        [6]int64
	lens        []uint64
	ptrs        []uint32 // slot, buffer
	nested      []uint64 // parent, child, offset
	data        []byte   // of the buffers
	fds         []int
}

// execAnswer is what came back: errno, or how the executor died.
type execAnswer struct {
	ret   int64
	errno uint32
	data  []byte
	fd    int // that came with it, -1 when none
	err   error
}

// startExecutor starts one.
func (a *Agent) startExecutor(id uint64) (*executor, error) {
	if a.cfg.Executor <= 0 {
		return nil, errNoExecutor
	}
	null := a.cfg.DevNull
	if null == 0 {
		fd, err := open("/dev/null", unix.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		null = fd
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	sock, raw, err := pollable(pair[0], "executor")
	if err != nil {
		return nil, err
	}
	cmd, err := a.start(descriptorPath(a.cfg.Executor), []string{"@provium-executor"}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   environment(&emptyRun, nil),
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("executor: %w", err)
	}
	x := &executor{id: id, life: a.handles.Add(1), cmd: cmd, sock: sock, raw: raw, dead: make(chan struct{}), pending: map[uint64]chan execAnswer{}}
	a.children.Add(1)
	go func() {
		defer a.children.Done()
		x.read()
	}()
	return x, nil
}

// read takes answers until the executor's end, and reaps it.
func (x *executor) read() {
	err := x.answers()
	if err != nil {
		x.cmd.kill(false) // it speaks in tongues
	}
	ws, _ := x.cmd.wait()
	closeNow(x.cmd.pidfd)
	x.sock.Close()
	x.mu.Lock()
	x.gone = x.epitaph(ws)
	pending := x.pending
	x.pending = nil
	x.mu.Unlock()
	for _, ch := range pending {
		ch <- execAnswer{fd: -1, err: x.gone}
	}
	close(x.dead)
}

// epitaph says how it died. Held: x.mu.
func (x *executor) epitaph(ws unix.WaitStatus) error {
	who := "the executor, the process that makes system calls,"
	if x.id != 0 {
		who = "the worker"
	}
	switch {
	case x.closing:
		return &wireError{Text: who + " was closed"}
	case ws.Signaled():
		return &wireError{Text: fmt.Sprintf("%s was killed by signal %d (%s)", who, ws.Signal(), unix.SignalName(ws.Signal()))}
	}
	return &wireError{Text: fmt.Sprintf("%s exited with code %d", who, ws.ExitStatus())}
}

func (x *executor) answers() error {
	head := make([]byte, execAnswerSize)
	for {
		fd := -1
		if err := x.receive(head, &fd); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF || err == unix.ECONNRESET {
				return nil
			}
			return err
		}
		a := execAnswer{
			ret:   int64(binary.NativeEndian.Uint64(head[8:])),
			errno: binary.NativeEndian.Uint32(head[24:]),
			fd:    fd,
		}
		n := binary.NativeEndian.Uint64(head[16:])
		if n > execMaxAnswer {
			return fmt.Errorf("answer of %d bytes", n)
		}
		a.data = make([]byte, n)
		if _, err := io.ReadFull(x.sock, a.data); err != nil {
			return nil
		}
		id := binary.NativeEndian.Uint64(head)
		x.mu.Lock()
		ch := x.pending[id]
		delete(x.pending, id)
		x.mu.Unlock()
		if ch == nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			continue
		}
		ch <- a
	}
}

// receive fills p, and takes the descriptor that comes with it.
func (x *executor) receive(p []byte, fd *int) error {
	oob := make([]byte, unix.CmsgSpace(4))
	for at := 0; at < len(p); {
		var n, oobn int
		var err error
		if e := x.raw.Read(func(s uintptr) bool {
			n, oobn, _, _, err = unix.Recvmsg(int(s), p[at:], oob, unix.MSG_CMSG_CLOEXEC)
			return err != unix.EAGAIN && err != unix.EINTR
		}); e != nil {
			return e
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		if oobn > 0 {
			if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) > 0 {
				if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
					*fd = fds[0]
				}
			}
		}
		at += n
	}
	return nil
}

// begin sends a request; its answer comes on the channel.
func (x *executor) begin(r *execRequest) (id uint64, answer chan execAnswer, err error) {
	ch := make(chan execAnswer, 1)
	x.sending.Lock()
	defer x.sending.Unlock()
	x.mu.Lock()
	if x.gone != nil {
		defer x.mu.Unlock()
		return 0, nil, x.gone
	}
	x.last++
	id = x.last
	x.pending[id] = ch
	x.mu.Unlock()
	head := r.encode(id)
	if len(r.fds) > 0 {
		err = x.raw.Write(func(s uintptr) bool {
			// The socket has room: requests go one at a time.
			err := unix.Sendmsg(int(s), head, unix.UnixRights(r.fds...), nil, unix.MSG_NOSIGNAL)
			return err != unix.EAGAIN && err != unix.EINTR
		})
	} else {
		_, err = x.sock.Write(head)
	}
	if err == nil && len(r.data) > 0 {
		_, err = x.sock.Write(r.data)
	}
	if err != nil {
		<-x.dead // it has died, or is about to: the reader gives the reason
	}
	return id, ch, nil
}

// encode gives the request without its buffers' bytes.
func (r *execRequest) encode(id uint64) []byte {
	b := make([]byte, 0, execHeadSize+8*len(r.lens)+4*len(r.ptrs)+16*len(r.nested)/3)
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
	}
	return b
}

// Cancelling a call: it is interrupted every interruptStep, since a signal
// that comes before the call sleeps is lost, and after interruptLimit the
// executor is killed.
const (
	interruptStep  = 20 * time.Millisecond
	interruptLimit = 2 * time.Second
)

// do makes a request and waits for the answer. When ctx ends before it, the
// main thread is interrupted.
func (x *executor) do(ctx context.Context, r *execRequest) (execAnswer, error) {
	_, ch, err := x.begin(r)
	if err != nil {
		return execAnswer{fd: -1}, err
	}
	select {
	case a := <-ch:
		return a, a.err
	case <-ctx.Done():
	}
	tick := time.NewTicker(interruptStep)
	defer tick.Stop()
	limit := time.After(interruptLimit)
	for {
		x.cmd.interrupt()
		select {
		case a := <-ch:
			if a.fd >= 0 {
				unix.Close(a.fd)
			}
			return execAnswer{fd: -1}, context.Canceled
		case <-limit:
			x.cmd.kill(false)
		case <-tick.C:
		}
	}
}

// interrupt signals the main thread.
func (c *command) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Tgkill(c.pid, c.pid, unix.SIGBUS)
	}
}

// stop ends the executor.
func (x *executor) stop() {
	x.mu.Lock()
	x.closing = true
	x.mu.Unlock()
	x.cmd.kill(false)
	<-x.dead
}
