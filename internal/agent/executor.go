package agent

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNoExecutor is the answer where the image has none.
var errNoExecutor = &wireError{Text: "this guest has no executor for system calls (/.provium/executor is missing)"}

// executor is the agent's side of one. It is safe for concurrent use; how it is
// talked to is in exchange.go.
type executor struct {
	agent *Agent
	id    uint64
	life  uint64 // never given twice
	cmd   *command
	sock  int           // blocks, with execPatience as limit of a read
	dead  chan struct{} // closed when it was reaped

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

// executorPath names the executor's program, which is a file in memory: it loads
// at once.
func (a *Agent) executorPath() string { return descriptorPath(a.cfg.Executor) }

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
	pair, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer closeNow(pair[1])
	err = setReceiveLimit(pair[0], execPatience)
	var cmd *command
	if err == nil {
		cmd, err = a.start(a.executorPath(), []string{"@provium-executor"}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   environment(&emptyRun, nil),
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pair[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	}
	if err != nil {
		closeNow(pair[0])
		return nil, fmt.Errorf("executor: %w", err)
	}
	x := &executor{agent: a, patient: true, id: id, life: a.handles.Add(1), cmd: cmd, sock: pair[0], dead: make(chan struct{}), pending: map[uint64]pendingAnswer{}}
	a.children.Add(1)
	go func() {
		defer a.children.Done()
		x.reap()
	}()
	return x, nil
}

// reap waits for the executor's end and takes it off the kernel's table.
func (x *executor) reap() {
	awaitExit(x.cmd.pidfd)
	ws, _ := x.cmd.wait()
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
	closeNow(x.sock)
	close(x.dead)
}

// awaitExit waits for the end of a pidfd's process without holding a thread,
// and closes the pidfd.
func awaitExit(pidfd int) {
	f, raw, err := pollable(pidfd, "pidfd")
	if err != nil {
		return // the reaping waits then, on a thread
	}
	defer f.Close()
	_ = raw.Read(func(fd uintptr) bool {
		n, err := pollNow([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}})
		return n > 0 || err != nil
	})
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
