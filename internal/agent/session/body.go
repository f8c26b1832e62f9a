package session

import (
	"context"
	"fmt"
	"io"

	"provium/internal/wire"
)

// Body reads a request's bulk data.
type Body struct {
	op      *Op
	left    int64 // bytes of it still to come; wire.UntilEnd: up to the end
	current []byte
	buffer  *Buffer
}

// Body returns the reader of a request's bulk data.
func (o *Op) Body(b wire.Bulk) *Body { return &Body{op: o, left: b.Length, current: b.Inline} }

// Next returns the bytes at hand, waiting for some; they are valid until the
// next call. It returns io.EOF at the end, and an error when the operation is
// cancelled.
func (b *Body) Next() ([]byte, error) {
	o := b.op
	if len(b.current) > 0 {
		p := b.current
		b.current = nil
		return p, nil
	}
	if b.buffer != nil {
		o.server.release(b.buffer)
		b.buffer = nil
	}
	for b.left != 0 {
		o.mu.Lock()
		if len(o.in) > 0 {
			c := &o.in[0]
			p := c.p
			if b.left > 0 && int64(len(p)) > b.left {
				// The rest belongs to the batch's next operation.
				p = p[:b.left]
				c.p = c.p[b.left:]
			} else {
				b.buffer = c.buffer
				if c.end && b.left < 0 {
					b.left = 0
				}
				o.in = o.in[1:]
			}
			if b.left > 0 {
				b.left -= int64(len(p))
			}
			o.owed += len(p)
			allow := 0
			if o.owed >= wire.Window/4 {
				allow, o.owed = o.owed, 0
				o.window += allow
			}
			o.mu.Unlock()
			if allow > 0 {
				o.session.send(wire.AppendCredit(nil, o.id, wire.StreamData, uint32(allow)))
			}
			if len(p) > 0 {
				return p, nil
			}
			continue
		}
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-o.ctx.Done():
			return nil, context.Canceled
		}
	}
	return nil, io.EOF
}

// Offer hands the bytes that came with the request itself to write, if any, and
// keeps those that it did not take for Next. It reports whether nothing is left.
func (b *Body) Offer(write func(p []byte) (int, error)) bool {
	n, err := write(b.current)
	if err == nil && n == len(b.current) {
		b.current = nil
		return b.left == 0
	}
	b.current = b.current[max(n, 0):]
	return false
}

// Discard reads what is left: in a batch the next item's bytes stand behind it.
func (b *Body) Discard() {
	if b.left < 0 {
		return // never in a batch: the host stops when it sees the result
	}
	for {
		if _, err := b.Next(); err != nil {
			return
		}
	}
}

// All reads a request's bulk data into memory, at most limit bytes.
func (b *Body) All(limit int) ([]byte, error) {
	var out []byte
	for {
		p, err := b.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(out)+len(p) > limit {
			return nil, &wire.Error{Text: fmt.Sprintf("more than %d bytes of input", limit)}
		}
		out = append(out, p...)
	}
}
