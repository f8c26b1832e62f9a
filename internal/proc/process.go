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
	cmd *exec.Cmd

	mu     sync.Mutex
	reaped bool // the process id may belong to another process
}

// Launch is StartChild for callers that need no more than a Process.
func (s *Starter) Launch(cmd *exec.Cmd) (Process, error) {
	c, err := s.StartChild(cmd)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// StartChild starts cmd in a process group of its own, as Start does. The caller
// must call the child's Wait or WaitGroup, and must not use cmd's own Wait.
func (s *Starter) StartChild(cmd *exec.Cmd) (*Child, error) {
	if err := s.Start(cmd); err != nil {
		return nil, err
	}
	return &Child{cmd: cmd}, nil
}

// PID returns the process id on the host.
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

// Kill sends SIGKILL to the process group, unless the process was reaped.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(-c.PID(), syscall.SIGKILL) // the process may have ended
	}
}

// Wait waits for the end of the process and of its output.
func (c *Child) Wait() error { return c.wait(false) }

// WaitGroup is Wait, and ends what the process has left in its process group.
func (c *Child) WaitGroup() error { return c.wait(true) }

func (c *Child) wait(group bool) error {
	// A process that has ended keeps its number until it is reaped.
	for {
		err := unix.Waitid(unix.P_PID, c.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break // anything else is for cmd.Wait to report
		}
	}
	c.mu.Lock()
	if group {
		_ = syscall.Kill(-c.PID(), syscall.SIGKILL) // mostly nobody is left
	}
	c.reaped = true
	c.mu.Unlock()
	return c.cmd.Wait()
}
