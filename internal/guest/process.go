package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"provium/internal/wire"
)

// Process describes a process that the agent has started.
type Process struct {
	Handle uint64
	PID    int
	Ended  bool
	Status Status // Exited or Signalled, once it ended
}

// StartProcess starts a command and leaves it running. Stdin is what it reads
// first; its standard input stays open unless there is none. worker starts it; 0 is the agent.
// Where ctx ended while it was started, it may be returned beside the error.
func (c *Client) StartProcess(ctx context.Context, r RunRequest, worker uint64) (Process, error) {
	run := RunOp{r}.request().(*wire.Run)
	req := &wire.ProcStart{Run: *run, Worker: worker, NoStdin: r.NoStdin}
	if r.Terminal != nil {
		req.TTY, req.Size = true, *r.Terminal
	}
	var t transfer
	req.Stdin = t.send(r.Stdin)
	return c.process(ctx, req, t)
}

func (c *Client) process(ctx context.Context, req wire.Request, t transfer) (Process, error) {
	a, err := c.do(ctx, req, t)
	if a == nil {
		return Process{}, err
	}
	v, ok := a.value.(*wire.ProcValue)
	if !ok {
		return Process{}, badAnswer(req.Op(), a.value)
	}
	return Process{Handle: v.Handle, PID: int(v.PID), Ended: v.Ended, Status: v.Status}, err
}

// WaitProcess waits for the end of a process and returns how that was and what
// it printed. At the limit, 0 for none, it is killed with its
// descendants.
func (c *Client) WaitProcess(ctx context.Context, handle uint64, limit time.Duration) (*RunResult, error) {
	req := &wire.ProcWait{Handle: handle, TimeoutNS: uint64(max(limit, 0))}
	a, err := c.do(ctx, req, transfer{limit: wire.MaxOutput, within: limit})
	if err != nil {
		return nil, err
	}
	return runResult(a)
}

// AwaitProcess waits for the end of a process and returns how that was, without what it
// printed.
func (c *Client) AwaitProcess(ctx context.Context, handle uint64) (*RunResult, error) {
	a, err := c.do(ctx, &wire.ProcWait{Handle: handle, NoOutput: true}, transfer{})
	if err != nil {
		return nil, err
	}
	return runResult(a)
}

// ResizeProcess sets the size of a process's terminal.
func (c *Client) ResizeProcess(ctx context.Context, handle uint64, size TerminalSize) error {
	_, err := c.do(ctx, &wire.ProcResize{Handle: handle, Size: size}, transfer{})
	return err
}

// SignalProcess sends a signal to a process and its descendants.
func (c *Client) SignalProcess(ctx context.Context, handle uint64, signal int) error {
	_, err := c.do(ctx, &wire.ProcSignal{Handle: handle, Signal: uint32(signal)}, transfer{})
	return err
}

// ProcessStatus asks how a process is.
func (c *Client) ProcessStatus(ctx context.Context, handle uint64) (Process, error) {
	return c.process(ctx, &wire.ProcStatus{Handle: handle}, transfer{})
}

// WriteProcess writes to a process's standard input and returns how many bytes
// were taken: all of them, unless it fails.
func (c *Client) WriteProcess(ctx context.Context, handle uint64, data []byte) (int, error) {
	req := &wire.ProcWrite{Handle: handle}
	var t transfer
	req.Data = t.send(data)
	return c.count(ctx, req, t)
}

func (c *Client) count(ctx context.Context, req wire.Request, t transfer) (int, error) {
	a, err := c.do(ctx, req, t)
	if err != nil {
		return 0, err
	}
	v, ok := a.value.(wire.CountValue)
	if !ok {
		return 0, badAnswer(req.Op(), a.value)
	}
	return int(v), nil
}

// CloseProcessStdin ends a process's standard input.
func (c *Client) CloseProcessStdin(ctx context.Context, handle uint64) error {
	_, err := c.do(ctx, &wire.ProcCloseStdin{Handle: handle}, transfer{})
	return err
}

// LastOutput returns the last n bytes that a process has printed so far, at most 64 KiB.
func (c *Client) LastOutput(ctx context.Context, handle uint64, stderr bool, n int) ([]byte, error) {
	s, err := c.openStream(ctx, &wire.ProcOutput{Handle: handle, Stderr: stderr, Last: uint64(max(n, 1))})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var all []byte
	for {
		p, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, p...); len(all) > wire.MaxLastOutput {
			return nil, fmt.Errorf("%w: more than the last bytes", wire.ErrMalformed)
		}
	}
}

// CloseProcess makes the agent forget a process; one that runs is ended first.
func (c *Client) CloseProcess(ctx context.Context, handle uint64) error {
	_, err := c.do(ctx, &wire.ProcClose{Handle: handle}, transfer{})
	return err
}

// ProcessOutput opens one output of a process, from its first byte on.
func (c *Client) ProcessOutput(ctx context.Context, handle uint64, stderr bool) (*Stream, error) {
	return c.openStream(ctx, &wire.ProcOutput{Handle: handle, Stderr: stderr})
}

// TailFile opens a stream of what is added to a file behind start, or with
// fromEnd behind its end plus start, which is not positive then. The file is
// what a worker finds under the path; worker 0 is the agent.
func (c *Client) TailFile(ctx context.Context, path string, start int64, fromEnd bool, worker uint64) (*Stream, error) {
	return c.openStream(ctx, &wire.TailFile{Path: path, Start: start, FromEnd: fromEnd, Worker: worker})
}
