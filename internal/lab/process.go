package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"provium/internal/guest"
)

// Process is a command that runs in a guest beside the test. It is safe for
// concurrent use.
type Process struct {
	held

	mu     sync.Mutex
	pid    int
	status string // as last seen
	waits  bool   // a Wait is under way, or was done
	waited bool   // a Wait has given the result
	closed bool
}

var (
	errWaited = errors.New("already waited: the result was given by the first wait")
	errExited = errors.New("the process has exited")

	errProcessClosed = errors.New("process is closed")
)

// RunAsync starts a command and returns at once.
func (v *VM) RunAsync(ctx context.Context, r RunRequest) (*Process, error) {
	return v.startProcess(ctx, "run_async", r, 0)
}

func (v *VM) startProcess(ctx context.Context, op string, r RunRequest, worker uint64) (*Process, error) {
	p := &Process{status: "running"}
	var err error
	p.held, err = v.make(ctx, op, "process", func(c *guest.Client) (uint64, error) {
		at, err := c.StartProcess(ctx, r, worker)
		p.pid = at.PID
		return at.Handle, err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// VM is the machine it runs in.
func (p *Process) VM() *VM { return p.vm }

// String is "process(proc#N)".
func (p *Process) String() string { return fmt.Sprintf("process(proc#%d)", p.handle) }

// Handle is the agent's number for it.
func (p *Process) Handle() uint64 { return p.handle }

// used tells whether a wait has used the process up.
func (p *Process) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waited
}

// live runs an operation on a process that is not closed.
func (p *Process) live(ctx context.Context, op string, do func(*guest.Client) error) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return errProcessClosed
	}
	return p.op(ctx, op, do)
}

// Wait waits for the end of the process and gives everything it printed. At
// the limit, 0 for none, its group is killed. It can be done once.
func (p *Process) Wait(ctx context.Context, limit time.Duration) (*RunResult, error) {
	p.mu.Lock()
	if p.waits {
		p.mu.Unlock()
		return nil, errWaited
	}
	p.waits = true
	p.mu.Unlock()
	var r *RunResult
	err := p.live(ctx, "proc:wait", func(c *guest.Client) (err error) {
		r, err = c.WaitProcess(ctx, p.handle, limit)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.waits = false
		return nil, err
	}
	p.waited = true
	p.status = "exited"
	if r.Status != Exited {
		p.status = "signalled"
	}
	return r, nil
}

// Signal sends a signal to the process and its group.
func (p *Process) Signal(ctx context.Context, op string, signal int) error {
	if p.used() {
		return errExited
	}
	return p.live(ctx, op, func(c *guest.Client) error { return c.SignalProcess(ctx, p.handle, signal) })
}

// Status asks for "running", "exited" or "signalled", and for the process id.
// After Wait it gives the last values.
func (p *Process) Status(ctx context.Context, op string) (status string, pid int, err error) {
	if !p.used() {
		err = p.live(ctx, op, func(c *guest.Client) error {
			at, err := c.ProcessStatus(ctx, p.handle)
			if err != nil {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pid, p.status = at.PID, "running"
			if at.Ended {
				p.status = fmt.Sprint(at.Status)
			}
			return nil
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.pid, err
}

// WriteStdin writes to the standard input and returns how much was taken.
func (p *Process) WriteStdin(ctx context.Context, data []byte) (n int, err error) {
	if p.used() {
		return 0, errExited
	}
	err = p.live(ctx, "proc:stdin_write", func(c *guest.Client) (err error) {
		n, err = c.WriteProcess(ctx, p.handle, data)
		return err
	})
	return n, err
}

// CloseStdin ends the standard input.
func (p *Process) CloseStdin(ctx context.Context) error {
	if p.used() {
		return nil
	}
	return p.live(ctx, "proc:close_stdin", func(c *guest.Client) error { return c.CloseProcessStdin(ctx, p.handle) })
}

// Output opens a stream of one output, from its first byte on.
func (p *Process) Output(ctx context.Context, stderr bool, site Site) (*Stream, error) {
	op, kind := "proc:stdout_stream", "proc_stdout_stream"
	if stderr {
		op, kind = "proc:stderr_stream", "proc_stderr_stream"
	}
	if err := p.live(ctx, op, func(*guest.Client) error { return nil }); err != nil {
		return nil, err
	}
	return openStream(ctx, p.vm, kind, fmt.Sprint(p.handle), site, func(c *guest.Client, _ uint64) (*guest.Stream, error) {
		return c.ProcessOutput(ctx, p.handle, stderr)
	})
}

// Close ends the process, kindly first, unless it has ended, and forgets it.
// One whose guest is gone needs nothing.
func (p *Process) Close(ctx context.Context) error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed || p.check("proc:close") != nil {
		return nil
	}
	return p.op(ctx, "proc:close", func(c *guest.Client) error { return c.CloseProcess(ctx, p.handle) })
}
