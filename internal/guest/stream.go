package guest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"provium/internal/wire"
)

// Stream is an operation that brings bytes until it ends or is closed. The
// agent sends no more than a window ahead of the reader. Next must be called by
// one goroutine at a time; the other methods are safe for concurrent use.
type Stream struct {
	op    *call
	name  string
	req   wire.Request
	close sync.Once
}

// openStream starts an operation and returns once the agent says that the
// stream is open.
func (c *Client) openStream(ctx context.Context, req wire.Request) (*Stream, error) {
	name := req.Op()
	c.adjust(+1, 0)
	defer c.adjust(-1, 0)
	op, err := c.begin(ctx, req, transfer{limit: wire.Window, pulled: true})
	if err != nil {
		return nil, err
	}
	defer op.cancel(nil)
	s := &Stream{op: op, name: name, req: req}
	for {
		op.mu.Lock()
		opened, end := op.opened, op.end
		op.mu.Unlock()
		switch {
		case end != nil && end.Err != nil:
			return nil, opError(req, end.Err)
		case opened || end != nil:
			op.isOpen.Store(true)
			return s, nil
		}
		if err := op.await(op.ctx); err != nil {
			op.abandon(err)
			return nil, failure(req, err)
		}
	}
}

// await waits for something new about the operation.
func (op *call) await(ctx context.Context) error {
	op.park()
	defer op.unpark()
	select {
	case <-op.wake:
		return nil
	case <-op.client.failed:
		return op.lost()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Next waits for bytes and returns those that have come. The error is io.EOF at
// the end, the context's cause when that ends first, an *OpError when the guest
// ended the stream, and else the reason why the link is gone.
func (s *Stream) Next(ctx context.Context) ([]byte, error) {
	op := s.op
	op.client.adjust(+1, 0)
	defer op.client.adjust(-1, 0)
	for {
		op.mu.Lock()
		p, end := op.in[wire.StreamData], op.end
		op.in[wire.StreamData] = nil
		owed := op.owed
		// Each credit interrupts the guest, so they are few. The agent still has
		// most of its window.
		allow := end == nil && owed[wire.StreamData] >= wire.Window/4
		if allow {
			op.owed = [wire.Streams]int64{}
		}
		op.mu.Unlock()
		if allow {
			// The next call returns the error of a link that is gone.
			_ = op.allow(context.WithoutCancel(ctx), owed)
		}
		if len(p) > 0 {
			return p, nil
		}
		switch {
		case end != nil && end.Err != nil:
			return nil, opError(s.req, end.Err)
		case end != nil:
			return nil, io.EOF
		}
		if err := op.await(ctx); err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("%s: %w", s.name, err)
			}
			return nil, err
		}
	}
}

// Ended reports whether the stream has ended and all its bytes were taken.
func (s *Stream) Ended() bool {
	s.op.mu.Lock()
	defer s.op.mu.Unlock()
	return s.op.end != nil && len(s.op.in[wire.StreamData]) == 0
}

// Close stops the operation in the guest and waits for that, at most for
// Config.CancelGrace. It must not be called during a call of Next.
func (s *Stream) Close() {
	s.close.Do(func() {
		s.op.mu.Lock()
		ended := s.op.end != nil
		s.op.in = [wire.Streams][]byte{}
		s.op.mu.Unlock()
		if !ended {
			s.op.client.adjust(+1, 0)
			defer s.op.client.adjust(-1, 0)
			s.op.abandon(nil)
		}
	})
}
