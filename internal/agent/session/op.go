package session

import (
	"context"
	"sync"

	"provium/internal/wire"
)

// Op is an operation under way. The session's reader puts chunks, credit and
// cancellation into it without ever waiting. The methods are for the one
// goroutine that carries the operation out.
type Op struct {
	session *session
	server  *Server
	id      uint64
	ctx     context.Context
	cancel  context.CancelFunc
	wake    chan struct{} // has a token when there is something new
	begun   any

	mu     sync.Mutex
	in     []chunk
	window int // bytes the host may still send
	owed   int // bytes consumed, not yet allowed again
	credit [wire.Streams]int

	// Of the operation's own goroutine.
	streamed [wire.Streams]uint64
	inline   int // bytes of bulk data the result may still carry itself
}

// chunk is a piece of the request's bulk data.
type chunk struct {
	p      []byte
	buffer *Buffer // where p lies, if that is pooled
	end    bool
}

func newOp(s *session, id uint64, begun any) *Op {
	o := &Op{session: s, server: s.server, id: id, wake: make(chan struct{}, 1), begun: begun, window: wire.Window}
	for i := range o.credit {
		o.credit[i] = wire.Window
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

func (o *Op) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *Op) push(c chunk) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.window -= len(c.p)
	if o.window < 0 {
		return wire.ErrMalformed // more than it was allowed to send
	}
	o.in = append(o.in, c)
	o.notify()
	return nil
}

func (o *Op) addCredit(stream uint16, n uint32) {
	o.mu.Lock()
	o.credit[stream] = min(o.credit[stream]+int(n), wire.Window)
	o.mu.Unlock()
	o.notify()
}

// Context ends when the host cancels the operation, or is gone.
func (o *Op) Context() context.Context { return o.ctx }

// Begun returns what Handler.Now has begun for this operation.
func (o *Op) Begun() any { return o.begun }

// Buffer returns a buffer for Stream.
func (o *Op) Buffer() *Buffer { return o.server.buffer() }

// Release takes a buffer back.
func (o *Op) Release(b *Buffer) { o.server.release(b) }

// Begin starts the count of streamed bytes at 0 and lets the result carry up to
// inline bytes of bulk data itself. A batch calls it for each of its items.
func (o *Op) Begin(inline int) {
	o.streamed = [wire.Streams]uint64{}
	o.inline = inline
}

// Streamed returns how many bytes went out on each stream since Begin.
func (o *Op) Streamed() [wire.Streams]uint64 { return o.streamed }

// InlineLeft returns how many bytes of bulk data the result may still carry
// itself.
func (o *Op) InlineLeft() int { return o.inline }

// Inline records that the result carries n bytes of bulk data, and reports
// whether it may: otherwise they must be streamed.
func (o *Op) Inline(n int) bool {
	if n > o.inline {
		return false
	}
	o.inline -= n
	return true
}

// Opened tells the host that a stream is open, before it has bytes.
func (o *Op) Opened() {
	o.session.send(wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Stream: wire.StreamData, Op: o.id}, nil))
}

// Expect tells the host how many bytes are about to be streamed.
func (o *Op) Expect(n uint64) {
	o.session.send(wire.AppendExpect(nil, o.id, wire.StreamData, n))
}

// Finish ends the operation and sends its result.
func (o *Op) Finish(result *wire.Result) {
	// From here on frames for this op are dropped; the id is never used again.
	o.session.forget(o.id)
	o.cancel()
	o.drop()

	b := wire.AppendResult(make([]byte, wire.HeaderSize, 512), result)
	if n := len(b) - wire.HeaderSize; n <= wire.MaxPayload {
		wire.Header{Length: uint32(n), Type: wire.FrameResult, Op: o.id}.Put(b)
	} else {
		if n > wire.MaxResult {
			b = wire.AppendResult(b[:wire.HeaderSize], &wire.Result{
				Err: &wire.Error{Text: "the result is too long to be sent"}, Streamed: result.Streamed})
		}
		b = wire.AppendMessage(nil, wire.FrameResult, o.id, b[wire.HeaderSize:])
	}
	o.session.send(b)
}

// drop frees the chunks that were not read.
func (o *Op) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.in {
		if c.buffer != nil {
			o.server.release(c.buffer)
		}
	}
	o.in = nil
}

// Stream sends the first n payload bytes of b as Data frames, waiting for
// credit as needed. It overwrites the bytes before each piece.
func (o *Op) Stream(stream uint16, b *Buffer, n int) error {
	for at := 0; at < n; {
		o.mu.Lock()
		k := min(o.credit[stream], n-at)
		o.credit[stream] -= k
		o.mu.Unlock()
		if k == 0 {
			select {
			case <-o.wake:
			case <-o.ctx.Done():
				return context.Canceled
			}
			continue
		}
		// The piece's header goes where bytes already sent were.
		h := wire.Header{Length: uint32(k), Type: wire.FrameData, Stream: stream, Op: o.id}
		h.Put(b[at:])
		o.session.send(b[at : at+wire.HeaderSize+k])
		at += k
		o.streamed[stream] += uint64(k)
	}
	return nil
}
