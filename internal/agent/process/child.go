package process

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// Child is a started process. It is safe for concurrent use.
type Child struct {
	PID   int
	Pidfd int // hangs up when the process ends; closed by its user
	// Adopted is one that another process reaps.
	Adopted bool

	mu     sync.Mutex
	reaped bool
}

// Kill kills the process alone. It is safe at any time: before the process is
// reaped its number cannot be another one's.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Kill(c.PID, unix.SIGKILL)
	}
}

// Wait reaps the ended process. The status of an adopted one is not known.
func (c *Child) Wait() (unix.WaitStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ws unix.WaitStatus
	var err error
	if !c.Adopted {
		err = sys.Retry(func() error { return sys.WaitNow(c.PID, &ws) })
	}
	c.reaped = true
	return ws, err
}

// SignalMain sends a signal to the main thread alone.
func (c *Child) SignalMain(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Tgkill(c.PID, c.PID, sig)
	}
}

// IsStopped reports whether the process is stopped by a signal. It costs one system
// call.
func (c *Child) IsStopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.reaped && sys.IsStopped(c.PID)
}

// watch stands in for a pidfd: the descriptor hangs up when the process ends.
func (c *Child) watch() (int, error) {
	var p [2]int
	if err := sys.Pipe(&p); err != nil {
		return -1, err
	}
	go func() {
		defer unix.Close(p[1])
		_ = sys.Retry(func() error {
			return unix.Waitid(unix.P_PID, c.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
		})
	}()
	return p[0], nil
}
