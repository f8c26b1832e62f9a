package executor

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/process"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// errNoExecutor is the answer where the image has none.
var errNoExecutor = &wire.Error{Text: "this guest has no executor for system calls (/.provium/executor is missing)"}

// Executor is the agent's side of one. It is safe for concurrent use; how it is
// talked to is in exchange.go.
type Executor struct {
	pool *Pool
	id   uint64
	life uint64 // never given twice
	cmd  *process.Command
	sock int           // blocks, with execPatience as limit of a read
	dead chan struct{} // closed when it was reaped

	// sending is held for a request, and for its answer where that comes at
	// once.
	sending sync.Mutex
	in      answerReader // of who holds sending, unless there is a reader
	out     []byte       // a request; of who holds sending
	message struct {     // of the system call that sends it
		head unix.Msghdr
		iov  [2]unix.Iovec
	}

	mu      sync.Mutex
	last    uint64
	pending map[uint64]pendingAnswer
	reader  chan struct{} // closed when the goroutine has ended that takes pending answers; nil without one
	patient bool          // the last call took long, or this is the first: it is not waited for on the spot
	gone    error         // why it is no more
	closing bool
}

// start starts an executor. Its program is a file in memory, which loads at once.
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
	pair, err := sys.SocketPair()
	if err != nil {
		return nil, err
	}
	defer sys.CloseNow(pair[1])
	err = sys.SetReceiveLimit(pair[0], execPatience)
	var cmd *process.Command
	if err == nil {
		cmd, err = s.starter.Start(sys.DescriptorPath(s.program), []string{"@provium-executor"}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   process.DefaultEnvironment(),
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pair[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		}, true)
	}
	if err != nil {
		sys.CloseNow(pair[0])
		return nil, fmt.Errorf("executor: %w", err)
	}
	x := &Executor{
		pool: s, patient: true, id: id, life: s.newHandle(), cmd: cmd, sock: pair[0],
		dead: make(chan struct{}), pending: map[uint64]pendingAnswer{},
	}
	s.reaping.Go(x.reap)
	return x, nil
}

// reap waits for the executor's end and takes it off the kernel's table.
func (x *Executor) reap() {
	sys.AwaitExit(x.cmd.Pidfd)
	ws, _ := x.cmd.Wait()
	// Answers that came before are still read. A child that a test has forked
	// may hold the other end open: this one is at its end all the same.
	_ = unix.Shutdown(x.sock, unix.SHUT_RDWR)
	x.mu.Lock()
	x.gone = x.epitaph(ws)
	x.mu.Unlock()
	// Nobody begins any more, and who has begun is done soon.
	x.sending.Lock()
	x.mu.Lock()
	reader := x.reader
	x.mu.Unlock()
	x.sending.Unlock()
	if reader != nil {
		<-reader
	}
	x.mu.Lock()
	pending := x.pending
	x.pending = nil
	x.mu.Unlock()
	for _, p := range pending {
		p.answer <- execAnswer{fd: -1, err: x.gone}
	}
	sys.CloseNow(x.sock)
	close(x.dead)
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
		return &wire.Error{Text: fmt.Sprintf("%s was killed by signal %d (%s)", who, ws.Signal(), unix.SignalName(ws.Signal()))}
	}
	return &wire.Error{Text: fmt.Sprintf("%s exited with code %d", who, ws.ExitStatus())}
}

// stop ends the executor.
func (x *Executor) stop() {
	x.mu.Lock()
	x.closing = true
	x.mu.Unlock()
	x.cmd.Kill(false)
	<-x.dead
}

func (x *Executor) isDead() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone != nil
}
