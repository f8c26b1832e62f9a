package agent

import (
	"context"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// procWait waits for the end and gives what the process printed.
func (o *op) procWait(r *wire.ProcWait) (wire.Value, error) {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return nil, err
	}
	for _, s := range p.out {
		defer s.wait()()
	}
	if r.TimeoutNS > 0 {
		t := time.AfterFunc(time.Duration(min(r.TimeoutNS, 1<<62)), func() { p.cmd.kill(true) })
		defer t.Stop()
	}
	select {
	case <-p.ended:
	case <-o.ctx.Done():
		return nil, context.Canceled
	}
	if p.err != nil {
		return nil, p.err
	}
	v := &wire.RunValue{Truncated: p.out[0].truncated() || p.out[1].truncated()}
	v.Status, v.Code = p.result()
	for i, rest := range []*[]byte{&v.Stdout, &v.Stderr} {
		if *rest, err = o.sendKept(p.out[i], wire.StreamStdout+uint16(i)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// sendKept streams what stays of an output, all but a small end, which it
// gives.
func (o *op) sendKept(s *spool, stream uint16) ([]byte, error) {
	r := spoolReader{s: s} // not registered: what stays needs nobody to hold it
	b := o.agent.buffer()
	defer o.agent.release(b)
	for {
		s.mu.Lock()
		left := s.kept - r.pos
		n, err := 0, error(nil)
		for n < wire.ChunkSize && r.pos < s.kept && err == nil {
			var k int
			k, err = s.readAt(&r, b.payload()[n:])
			n += k
		}
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if left <= int64(o.inline) {
			o.inline -= n
			return append([]byte(nil), b.payload()[:n]...), nil
		}
		if err := o.stream(stream, b, n); err != nil {
			return nil, err
		}
	}
}

// result is how an ended process ended.
func (p *process) result() (wire.RunStatus, uint32) {
	ws := p.status
	switch {
	case p.cmd.expired && ws.Signaled() && ws.Signal() == unix.SIGKILL:
		return wire.TimedOut, 0
	case ws.Signaled():
		return wire.Signalled, uint32(ws.Signal())
	}
	return wire.Exited, uint32(ws.ExitStatus())
}

func (o *op) procStatus(r *wire.ProcStatus) (wire.Value, error) {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return nil, err
	}
	v := &wire.ProcValue{Handle: p.id, PID: p.pid}
	select {
	case <-p.ended:
		v.Ended = true
		if v.Status, _ = p.result(); v.Status == wire.TimedOut {
			v.Status = wire.Signalled
		}
	default:
	}
	return v, nil
}

var errHasExited = &wireError{Errno: uint32(unix.ESRCH), Name: "ESRCH", Text: "the process has exited (ESRCH)"}

func (o *op) procSignal(r *wire.ProcSignal) error {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return err
	}
	return p.cmd.signal(syscall.Signal(r.Signal))
}

// signal sends a signal to the whole group.
func (c *command) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return errHasExited
	}
	return unix.Kill(-c.pid, sig)
}

func (o *op) procWrite(r *wire.ProcWrite, body *body) (wire.Value, error) {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return nil, err
	}
	var n wire.CountValue
	for {
		b, err := body.next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return nil, err
		}
		k, err := p.stdin.write(o.ctx, b)
		if n += wire.CountValue(k); err != nil {
			return nil, err
		}
	}
}

func (o *op) procCloseStdin(r *wire.ProcCloseStdin) error {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return err
	}
	p.stdin.close()
	return nil
}

// procOutput streams an output from its first byte.
func (o *op) procOutput(r *wire.ProcOutput) error {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return err
	}
	which := 0
	if r.Stderr {
		which = 1
	}
	reader := p.out[which].open()
	defer reader.close()
	o.opened()
	b := o.agent.buffer()
	defer o.agent.release(b)
	for {
		n, err := reader.read(o.ctx, b.payload()[:wire.ChunkSize])
		if err != nil || n == 0 {
			return err
		}
		if err := o.stream(wire.StreamData, b, n); err != nil {
			return err
		}
	}
}

// opened tells the host that a stream is there, before it has bytes.
func (o *op) opened() {
	o.session.send(wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Stream: wire.StreamData, Op: o.id}, nil))
}

func (o *op) procClose(r *wire.ProcClose) error {
	p, err := o.agent.procs.get(r.Handle)
	if err != nil {
		return err
	}
	err = p.terminate(o.ctx)
	if err == nil {
		o.agent.procs.remove(p.id)
		p.out[0].close()
		p.out[1].close()
	}
	return err
}

// terminate ends the process: kindly first.
func (p *process) terminate(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	for _, s := range p.out {
		defer s.wait()()
	}
	_ = p.cmd.signal(unix.SIGTERM)
	_ = p.cmd.signal(unix.SIGCONT) // one that is stopped could not end
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
	case <-grace.C:
	}
	p.cmd.kill(false)
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return context.Canceled
	}
}
