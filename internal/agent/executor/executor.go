package executor

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/process"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// errNoExecutor is returned by an agent that could not open its own file.
var errNoExecutor = &wire.Error{Text: "this guest has no executor for system calls: the agent cannot open its own file"}

// programName is what makes the program an executor (program/executor.h).
const programName = "@provium-executor"

// Executor is one process that makes system calls. It is safe for concurrent use;
// exchange.go has the protocol with it.
type Executor struct {
	pool   *Pool
	id     uint64
	life   uint64 // unique among all executors
	cmd    *process.Child
	nested bool          // in a PID namespace below the agent's
	sock   int           // blocks, with execPatience as limit of a read
	dead   chan struct{} // closed when it was reaped

	// sending is held for a request, and for its answer where that comes at
	// once.
	sending sync.Mutex
	in      answerReader // of the holder of sending, unless there is a reader
	out     []byte       // a request; of the holder of sending
	memory  shared
	message struct { // of the system call that sends it
		head unix.Msghdr
		iov  [2]unix.Iovec
	}

	mu       sync.Mutex
	last     uint64
	pending  map[uint64]pendingAnswer
	reader   chan struct{} // closed when the goroutine that takes pending answers has ended; nil without one
	entered  bool          // a call may have changed the PID namespace of its children
	confined bool          // a call may have installed a filter of system calls
	touched  bool          // it has made calls of a test, or is a copy of one that has
	patient  bool          // the last call took long, or this is the first: it is not waited for on the spot
	gone     error         // why it has ended
	lost     uint64        // the last request, where the executor ended without having taken it
	closing  bool
}

// start starts a fresh executor. Its program is a file in memory, which loads at once.
func (s *Pool) start(id uint64) (*Executor, error) {
	if s.program <= 0 {
		return nil, errNoExecutor
	}
	null := s.starter.DevNull
	if null == 0 {
		fd, err := sys.Open("/dev/null", unix.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		null = fd
	}
	ours, theirs, err := link()
	if err != nil {
		return nil, err
	}
	defer sys.CloseNow(theirs)
	cmd, err := s.starter.Start(sys.DescriptorPath(s.program), []string{programName}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   process.DefaultEnvironment(),
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(theirs)},
	})
	if err != nil {
		sys.CloseNow(ours)
		return nil, fmt.Errorf("executor: %w", err)
	}
	return s.newExecutor(id, cmd, ours), nil
}

// link returns the two ends of an executor's link.
func link() (ours, theirs int, err error) {
	pair, err := sys.SocketPair()
	if err != nil {
		return -1, -1, err
	}
	if err = sys.SetReceiveLimit(pair[0], execPatience); err != nil {
		sys.CloseNow(pair[0])
		sys.CloseNow(pair[1])
	}
	return pair[0], pair[1], err
}

// newExecutor returns the executor that was started as cmd.
func (s *Pool) newExecutor(id uint64, cmd *process.Child, sock int) *Executor {
	x := &Executor{
		pool: s, patient: true, id: id, life: s.newHandle(), cmd: cmd, sock: sock,
		dead: make(chan struct{}), pending: map[uint64]pendingAnswer{},
	}
	s.reaping.Go(x.reap)
	return x
}

// reap waits for the executor's end, and ends what waits for its answers.
func (x *Executor) reap() {
	sys.AwaitExit(x.cmd.Pidfd)
	ws, _ := x.cmd.Wait()
	// Answers that came before are still read. A child that a test has forked
	// may hold the other end open: this one is at its end all the same.
	_ = unix.Shutdown(x.sock, unix.SHUT_RDWR)
	x.mu.Lock()
	x.gone = x.epitaph(ws)
	x.mu.Unlock()
	// No exchange begins any more, and those that have begun end soon.
	x.sending.Lock()
	x.mu.Lock()
	reader := x.reader
	x.mu.Unlock()
	x.sending.Unlock()
	if reader != nil {
		<-reader
	}
	if errno, err := unix.GetsockoptInt(x.sock, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		x.noteLoss(syscall.Errno(errno))
	}
	x.mu.Lock()
	pending := x.pending
	x.pending = nil
	x.mu.Unlock()
	for id, p := range pending {
		err := x.gone
		if id == x.lost {
			err = &lostError{err}
		}
		p.answer <- execAnswer{fd: -1, err: err}
	}
	x.sending.Lock()
	x.memory.close()
	x.sending.Unlock()
	sys.CloseNow(x.sock)
	close(x.dead)
}

// lostError is the end of an executor that had not taken the request: nothing was done.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// isLost reports whether nothing was done because the executor had ended, or was about to.
func isLost(err error) bool {
	var lost *lostError
	return errors.As(err, &lost)
}

// noteLoss takes an error of the socket. Linux reports ECONNRESET where the other end was
// closed with bytes that nobody had read.
func (x *Executor) noteLoss(err error) {
	if err != unix.ECONNRESET && err != unix.EPIPE {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lost = x.last
}

// epitaph says how the executor died. The caller must hold x.mu.
func (x *Executor) epitaph(ws unix.WaitStatus) error {
	who := "the executor, the process that makes system calls,"
	if x.id != 0 {
		who = "the worker"
	}
	switch {
	case x.closing:
		return &wire.Error{Text: who + " was closed"}
	case ws.Signaled():
		sig := ws.Signal()
		return &wire.Error{Text: fmt.Sprintf("%s was killed by signal %d (%s)", who, sig, unix.SignalName(sig))}
	}
	return &wire.Error{Text: fmt.Sprintf("%s exited with code %d", who, ws.ExitStatus())}
}

// stop ends the executor.
func (x *Executor) stop() {
	x.mu.Lock()
	x.closing = true
	x.mu.Unlock()
	x.cmd.Kill()
	<-x.dead
}

func (x *Executor) isDead() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone != nil
}
