package process

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// Command is a started command. What is done to it is done to its descendants, too.
// It is safe for concurrent use.
type Command struct {
	*Child       // the command, or its keeper
	pid     int  // of the command
	kept    bool // a keeper stands between the agent and the command
	report  *report
	table   table
	expired bool
}

// Kill ends the command and its descendants; expired says that this is for a limit
// of time.
func (c *Command) Kill(expired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.expired = c.expired || expired
	c.table.end(c.PID, c.kept)
}

var errHasExited = wire.ErrnoText(uint32(unix.ESRCH), "the process has exited")

// signal sends a signal to the command and its descendants.
func (c *Command) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return errHasExited
	}
	if sig == unix.SIGKILL {
		c.table.end(c.PID, c.kept)
		return nil
	}
	return c.table.signal(c.PID, c.kept, sig)
}

// begin waits until the program is executed. It returns an error where that failed;
// the command is then to be reaped.
func (c *Command) begin(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.Kill(false) })
	defer stop()
	if err := c.report.begin(); err != nil {
		return err
	}
	if c.kept {
		if pid := c.table.eldest(c.PID); pid != 0 { // else it has ended
			c.pid = pid
		}
	}
	return nil
}

// Wait reaps the ended command, and returns how it ended.
func (c *Command) Wait() (unix.WaitStatus, error) {
	ws, err := c.Child.Wait()
	told, known, failed := c.report.end()
	switch {
	case failed != nil:
		return 0, failed
	case known:
		return told, nil
	case c.Adopted && err == nil:
		err = &wire.Error{Text: "the command has ended, but its keeper was killed: its status is not known"}
	}
	return ws, err
}

// result says how the command ended.
func (c *Command) result(ws unix.WaitStatus) (wire.RunStatus, uint32) {
	switch {
	case c.expired && ws.Signaled() && ws.Signal() == unix.SIGKILL:
		return wire.TimedOut, 0
	case ws.Signaled():
		return wire.Signalled, uint32(ws.Signal())
	}
	return wire.Exited, uint32(ws.ExitStatus())
}
