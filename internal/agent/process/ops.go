package process

import (
	"context"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/wire"
)

// Wait waits for the end of a process, and returns how it ended and what it
// printed.
func (t *Table) Wait(o *session.Op, r *wire.ProcWait) (wire.Value, error) {
	p, err := t.get(r.Handle)
	if err != nil {
		return nil, err
	}
	if !r.NoOutput {
		for _, s := range p.out {
			defer s.wait()()
		}
	}
	if r.TimeoutNS > 0 {
		t := time.AfterFunc(time.Duration(min(r.TimeoutNS, 1<<62)), func() { p.cmd.Kill(true) })
		defer t.Stop()
	}
	select {
	case <-p.ended:
	case <-o.Context().Done():
		return nil, context.Canceled
	}
	if p.err != nil {
		return nil, p.err
	}
	v := &wire.RunValue{Truncated: p.out[0].truncated() || p.out[1].truncated()}
	v.Status, v.Code = p.cmd.result(p.status)
	if r.NoOutput {
		return v, nil
	}
	for i, rest := range []*[]byte{&v.Stdout, &v.Stderr} {
		if *rest, err = p.out[i].sendKept(o, wire.StreamStdout+uint16(i)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// sendKept streams what stays of an output, except for a small end, which it
// returns.
func (s *spool) sendKept(o *session.Op, stream uint16) ([]byte, error) {
	r := spoolReader{s: s} // not registered: what stays is not freed
	b := o.Buffer()
	defer o.Release(b)
	for {
		s.mu.Lock()
		left := s.kept - r.pos
		n, err := 0, error(nil)
		for n < wire.ChunkSize && r.pos < s.kept && err == nil {
			var k int
			k, err = s.readAt(&r, b.Payload()[n:])
			n += k
		}
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if left <= int64(o.InlineLeft()) {
			o.Inline(n)
			return append([]byte(nil), b.Payload()[:n]...), nil
		}
		if err := o.Stream(stream, b, n); err != nil {
			return nil, err
		}
	}
}

// Status reports whether a process has ended, and how.
func (t *Table) Status(r *wire.ProcStatus) (wire.Value, error) {
	p, err := t.get(r.Handle)
	if err != nil {
		return nil, err
	}
	v := &wire.ProcValue{Handle: p.id, PID: p.pid}
	select {
	case <-p.ended:
		v.Ended = true
		if v.Status, _ = p.cmd.result(p.status); v.Status == wire.TimedOut {
			v.Status = wire.Signalled
		}
	default:
	}
	return v, nil
}

// Signal sends a signal to a process and its descendants.
func (t *Table) Signal(r *wire.ProcSignal) error {
	p, err := t.get(r.Handle)
	if err != nil {
		return err
	}
	return p.cmd.signal(syscall.Signal(r.Signal))
}

// Write writes to the standard input of a process, and returns how many bytes it
// took.
func (t *Table) Write(o *session.Op, r *wire.ProcWrite, body *session.Body) (wire.Value, error) {
	p, err := t.get(r.Handle)
	if err != nil {
		return nil, err
	}
	var n wire.CountValue
	for {
		b, err := body.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return nil, err
		}
		k, err := p.stdin.write(o.Context(), b)
		if n += wire.CountValue(k); err != nil {
			return nil, err
		}
	}
}

// CloseStdin ends the standard input of a process.
func (t *Table) CloseStdin(r *wire.ProcCloseStdin) error {
	p, err := t.get(r.Handle)
	if err != nil {
		return err
	}
	p.stdin.close()
	return nil
}

// Output streams an output of a process from its first byte, or the last bytes of it that are
// there.
func (t *Table) Output(o *session.Op, r *wire.ProcOutput) error {
	p, err := t.get(r.Handle)
	if err != nil {
		return err
	}
	which := 0
	if r.Stderr {
		which = 1
	}
	b := o.Buffer()
	defer o.Release(b)
	if r.Last > 0 {
		n, err := p.out[which].last(b.Payload()[:min(r.Last, wire.MaxLastOutput, wire.ChunkSize)])
		if err != nil {
			return err
		}
		o.Opened()
		return o.Stream(wire.StreamData, b, n)
	}
	reader := p.out[which].open()
	defer reader.close()
	o.Opened()
	for {
		n, err := reader.read(o.Context(), b.Payload()[:wire.ChunkSize])
		if err != nil || n == 0 {
			return err
		}
		if err := o.Stream(wire.StreamData, b, n); err != nil {
			return err
		}
	}
}

// Close ends a process and forgets it.
func (t *Table) Close(o *session.Op, r *wire.ProcClose) error {
	p, err := t.get(r.Handle)
	if err != nil {
		return err
	}
	err = p.terminate(o.Context())
	if err == nil {
		t.remove(p.id)
		p.out[0].close()
		p.out[1].close()
	}
	return err
}

// terminate ends the process: SIGTERM, then SIGKILL after closeGrace.
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
	p.cmd.Kill(false)
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return context.Canceled
	}
}
