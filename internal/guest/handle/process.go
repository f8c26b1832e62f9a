package handle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/stream"
)

// Process is a command that runs in a guest beside the test. It is safe for concurrent
// use.
type Process struct {
	object
	command string

	mu      sync.Mutex
	pid     int
	status  string // the last one seen
	waiting bool   // a Wait is under way, or has returned the result
	waited  bool   // a Wait has returned the result
	closed  bool
}

var (
	errWaited        = errors.New("already waited: the result was given by the first wait")
	errExited        = errors.New("the process has exited")
	errProcessClosed = errors.New("process is closed")
)

// start starts a command with the actor's credentials.
func (a *Actor) start(ctx context.Context, op string, r guest.RunRequest) (*Process, error) {
	p := &Process{status: "running", command: r.Shell}
	if r.Shell == "" {
		p.command = strings.Join(append([]string{r.Path}, r.Args...), " ")
	}
	var err error
	p.object, err = a.createWithin(ctx, op, "process", r.Timeout, func(c *guest.Client) (uint64, error) {
		started, err := c.StartProcess(ctx, r, a.executor())
		p.pid = started.PID
		return started.Handle, err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// String returns "process(proc#N)".
func (p *Process) String() string { return fmt.Sprintf("process(proc#%d)", p.handle) }

// Command returns the command line, or the arguments.
func (p *Process) Command() string { return p.command }

// Last returns the last n bytes of either output so far. The bytes stay for others.
func (p *Process) Last(ctx context.Context, n int) (stdout, stderr []byte, err error) {
	err = p.request(ctx, "proc:output", func(c *guest.Client) (err error) {
		if stdout, err = c.LastOutput(ctx, p.handle, false, n); err == nil {
			stderr, err = c.LastOutput(ctx, p.handle, true, n)
		}
		return err
	})
	return stdout, stderr, err
}

// cutShort returns the error of a wait for a command that is stopped if ctx has ended, with what
// the command has printed if the guest answers soon.
func (p *Process) cutShort(ctx context.Context, err error) error {
	const last = 4096 // bytes of either output
	var silent *guest.SilentError
	if err == nil || ctx.Err() == nil || errors.As(err, &silent) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetGrace)
	defer cancel()
	stdout, stderr, other := p.Last(ctx, last)
	if other != nil || len(stdout)+len(stderr) == 0 {
		return err
	}
	return &guest.CutShortError{Err: err, Stdout: stdout, Stderr: stderr}
}

// IsWaited reports whether nothing of the process can be asked for any more.
func (p *Process) IsWaited() bool { return p.isWaited() }

// isWaited reports whether a Wait has returned the result; the agent has then forgotten
// the process.
func (p *Process) isWaited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waited
}

// request carries out an operation on a process that is not closed.
func (p *Process) request(ctx context.Context, op string, do func(*guest.Client) error) error {
	return p.requestWithin(ctx, op, 0, func(c *guest.Client, _ time.Duration) error { return do(c) })
}

// requestWithin is request for an operation with a time limit, 0 for none. do gets what
// is left of it.
func (p *Process) requestWithin(ctx context.Context, op string, limit time.Duration,
	do func(*guest.Client, time.Duration) error) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return errProcessClosed
	}
	return p.doWithin(ctx, op, limit, func(c *guest.Client, _ *Epoch, left time.Duration) error {
		return do(c, left)
	})
}

// Wait waits for the end of the process and returns everything it printed. At the
// limit, 0 for none, it is killed with its descendants. Only one Wait returns a
// result.
func (p *Process) Wait(ctx context.Context, limit time.Duration) (*guest.RunResult, error) {
	p.mu.Lock()
	if p.waiting {
		p.mu.Unlock()
		return nil, errWaited
	}
	p.waiting = true
	p.mu.Unlock()
	var r *guest.RunResult
	err := p.requestWithin(ctx, "proc:wait", limit, func(c *guest.Client, left time.Duration) (err error) {
		r, err = c.WaitProcess(ctx, p.handle, left)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.waiting = false
		return nil, err
	}
	p.waited = true
	p.status = "exited"
	if r.Status != guest.Exited {
		p.status = "signalled"
	}
	return r, nil
}

// Signal sends a signal to the process and its descendants. op is the name of the call in
// errors.
func (p *Process) Signal(ctx context.Context, op string, signal int) error {
	if p.isWaited() {
		return errExited
	}
	return p.request(ctx, op, func(c *guest.Client) error { return c.SignalProcess(ctx, p.handle, signal) })
}

// Status returns "running", "exited" or "signalled", and the process id. After Wait it
// returns the last values without asking the guest.
func (p *Process) Status(ctx context.Context, op string) (status string, pid int, err error) {
	if !p.isWaited() {
		err = p.request(ctx, op, func(c *guest.Client) error {
			now, err := c.ProcessStatus(ctx, p.handle)
			if err != nil {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pid, p.status = now.PID, "running"
			if now.Ended {
				p.status = fmt.Sprint(now.Status)
			}
			return nil
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.pid, err
}

// WriteStdin writes to the standard input and returns the number of bytes written.
func (p *Process) WriteStdin(ctx context.Context, data []byte) (n int, err error) {
	if p.isWaited() {
		return 0, errExited
	}
	err = p.request(ctx, "proc:stdin_write", func(c *guest.Client) (err error) {
		n, err = c.WriteProcess(ctx, p.handle, data)
		return err
	})
	return n, err
}

// CloseStdin closes the standard input.
func (p *Process) CloseStdin(ctx context.Context) error {
	if p.isWaited() {
		return nil
	}
	return p.request(ctx, "proc:close_stdin", func(c *guest.Client) error { return c.CloseProcessStdin(ctx, p.handle) })
}

// Output opens a stream of one output, from its first byte on.
func (p *Process) Output(ctx context.Context, stderr bool, site stream.Site) (*stream.Stream, error) {
	op, kind := "proc:stdout_stream", "proc_stdout_stream"
	if stderr {
		op, kind = "proc:stderr_stream", "proc_stderr_stream"
	}
	if err := p.request(ctx, op, func(*guest.Client) error { return nil }); err != nil {
		return nil, err
	}
	agent := NewActor(p.vm)
	return agent.openStream(ctx, op, kind, fmt.Sprint(p.handle), site, func(c *guest.Client) (*guest.Stream, error) {
		return c.ProcessOutput(ctx, p.handle, stderr)
	})
}

// Close ends the process and forgets it: SIGTERM, then SIGKILL after 2 s, unless it
// has ended. It does nothing when the guest is gone. Only the first call has an effect.
func (p *Process) Close(ctx context.Context) error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed || p.check("proc:close") != nil {
		return nil
	}
	return p.do(ctx, "proc:close", func(c *guest.Client, _ *Epoch) error { return c.CloseProcess(ctx, p.handle) })
}
