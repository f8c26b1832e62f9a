package process

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// Starter starts the agent's own programs. Use NewStarter.
type Starter struct {
	// DevNull is a descriptor of /dev/null; 0 makes each program open its own.
	DevNull int
	// Proc is a descriptor of the root of procfs; 0 makes the agent use /proc.
	Proc int
	// Waiters are for what is waited for.
	Waiters *sys.Waiters

	shield func() (restore func())
	mu     sync.Mutex // one fork at a time
}

// NewStarter returns a Starter. shield is called before every fork and returns
// what to call after it.
func NewStarter(devNull, proc int, w *sys.Waiters, shield func() (restore func())) *Starter {
	return &Starter{DevNull: devNull, Proc: proc, Waiters: w, shield: shield}
}

// Start forks and executes. The fork is serialised: between the shield and its
// restore the agent stands unprotected, and that should be short.
func (s *Starter) Start(path string, argv []string, attr *syscall.ProcAttr) (*Child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	restore := s.shield()
	pidfd := -1
	if attr.Sys == nil {
		attr.Sys = &syscall.SysProcAttr{}
	}
	attr.Sys.PidFD = &pidfd
	pid, err := syscall.ForkExec(path, argv, attr)
	restore()
	if err != nil {
		return nil, err
	}
	return NewChild(pid, pidfd)
}

// Computes reports whether the main thread of a process wants a processor.
func (s *Starter) Computes(pid int) bool {
	e, err := table(s.Proc).entry(pid)
	return err == nil && e.state == 'R'
}

// NewChild returns a child of the agent. Without a pidfd, which is -1 then, it gets
// another descriptor that ends with it.
func NewChild(pid, pidfd int) (*Child, error) {
	c := &Child{PID: pid, Pidfd: pidfd}
	if pidfd >= 0 {
		return c, nil
	}
	// A kernel before 5.2. A goroutine waits for the end and closes a pipe.
	var err error
	if c.Pidfd, err = c.watch(); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = c.Wait()
		return nil, err
	}
	return c, nil
}
