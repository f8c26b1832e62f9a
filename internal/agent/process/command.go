package process

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// Command is a started process, leader of its own session and process group.
type Command struct {
	PID   int
	Pidfd int // hangs up when the process ends; closed by its user

	mu      sync.Mutex
	reaped  bool
	expired bool
}

// Kill kills the whole group; expired says that this is for a limit of time. It
// is safe at any time: before the process is reaped its number cannot be another
// one's.
func (c *Command) Kill(expired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		c.expired = c.expired || expired
		_ = unix.Kill(-c.PID, unix.SIGKILL)
	}
}

// Wait reaps the ended process.
func (c *Command) Wait() (unix.WaitStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ws unix.WaitStatus
	err := sys.Retry(func() error { return sys.WaitNow(c.PID, &ws) })
	c.reaped = true
	return ws, err
}

// SignalMain sends a signal to the main thread alone.
func (c *Command) SignalMain(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Tgkill(c.PID, c.PID, sig)
	}
}

var errHasExited = wire.ErrnoText(uint32(unix.ESRCH), "the process has exited")

// signal sends a signal to the whole group.
func (c *Command) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return errHasExited
	}
	return unix.Kill(-c.PID, sig)
}

// result says how the process ended.
func (c *Command) result(ws unix.WaitStatus) (wire.RunStatus, uint32) {
	switch {
	case c.expired && ws.Signaled() && ws.Signal() == unix.SIGKILL:
		return wire.TimedOut, 0
	case ws.Signaled():
		return wire.Signalled, uint32(ws.Signal())
	}
	return wire.Exited, uint32(ws.ExitStatus())
}

// watch stands in for a pidfd: the descriptor hangs up when the process ends.
func (c *Command) watch() (int, error) {
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
