package proc

import (
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process that was started by Launch. Kill and Dir are safe for
// concurrent use, also while Wait is under way.
type Process interface {
	// PID returns the process id on the host.
	PID() int
	// Dir returns the directory in /proc that shows the memory of the process.
	Dir() string
	// Kill sends SIGKILL to the process group. It does nothing once the process
	// was reaped, since its number may then belong to another process.
	Kill()
	// Wait waits for the end of the process and of its output, and returns how it
	// ended: nil for exit code 0. It must be called exactly once.
	Wait() error
}

// Child is the Process of a Starter.
type Child struct {
	cmd  *exec.Cmd
	tree bool // cmd is a keeper

	mu     sync.Mutex
	reaped bool // the process id may belong to another process
}

// PID returns the process id on the host; of a tree, its keeper's.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Dir returns the directory in /proc that shows the memory of the process.
func (c *Child) Dir() string { return fmt.Sprintf("/proc/%d", c.PID()) }

// CPUTime returns the CPU time of the process and of those descendants that it has waited
// for. It must not be called before a wait has returned.
func (c *Child) CPUTime() time.Duration {
	if s := c.cmd.ProcessState; s != nil {
		return s.UserTime() + s.SystemTime()
	}
	return 0
}

// Kill sends SIGKILL to the process group, or has the keeper end the tree, unless the
// process was reaped.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.reaped:
	case c.tree:
		_ = syscall.Kill(c.PID(), syscall.SIGTERM) // it may have ended
	default:
		_ = syscall.Kill(-c.PID(), syscall.SIGKILL) // the process may have ended
	}
}

// Interrupt sends SIGINT to the process, or to the program of the tree, unless it was
// reaped.
func (c *Child) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(c.PID(), syscall.SIGINT) // it may have ended
	}
}

// Wait waits for the end of the process, or of the tree, and of its output.
func (c *Child) Wait() error {
	// A process that has ended keeps its number until it is reaped.
	for {
		err := unix.Waitid(unix.P_PID, c.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break // anything else is for cmd.Wait to report
		}
	}
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	return c.cmd.Wait()
}
