package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"provium/internal/wire"
)

// op is an operation under way. The session's reader puts chunks, credit and
// cancellation into it without ever waiting.
type op struct {
	session *session
	agent   *Agent
	id      uint64
	ctx     context.Context
	cancel  context.CancelFunc
	wake    chan struct{} // has a token when there is something new

	mu     sync.Mutex
	in     []chunk
	window int // bytes the host may still send
	owed   int // bytes consumed, not yet allowed again
	credit [wire.Streams]int

	// Touched by the operation's own goroutine only.
	streamed [wire.Streams]uint64
	batch    bool
	begun    *asyncCall // the system call that it is, if that is under way already
	inline   int        // bytes of bulk data the result may still carry itself
}

// chunk is a piece of the request's bulk data.
type chunk struct {
	p      []byte
	buffer *buffer // what p lies in, if that is pooled
	end    bool
}

func newOp(s *session, id uint64) *op {
	o := &op{session: s, agent: s.agent, id: id, wake: make(chan struct{}, 1), window: wire.Window}
	for i := range o.credit {
		o.credit[i] = wire.Window
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

func (o *op) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *op) push(c chunk) error {
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

func (o *op) addCredit(stream uint16, n uint32) {
	o.mu.Lock()
	o.credit[stream] = min(o.credit[stream]+int(n), wire.Window)
	o.mu.Unlock()
	o.notify()
}

// serve carries the operation out and sends its result.
func (o *op) serve(req wire.Request) {
	var result wire.Result
	if b, ok := req.(*wire.Batch); ok {
		// Only so much of a batch's results is held here; what is beyond goes
		// out as it comes.
		budget := batchInline
		o.batch = true
		results := make(wire.BatchValue, len(b.Ops))
		for i := 0; i < len(b.Ops); {
			if n := plainCalls(b.Ops[i:]); n > 1 {
				o.calls(b.Ops[i:i+n], results[i:])
				i += n
				continue
			}
			o.streamed = [wire.Streams]uint64{}
			o.inline = min(wire.InlineLimit, budget)
			given := o.inline
			results[i] = o.item(b.Ops[i])
			results[i].Streamed = o.streamed
			budget -= given - o.inline
			i++
		}
		result.Value = results
	} else {
		o.inline = wire.InlineLimit
		result = o.item(req)
		result.Streamed = o.streamed
	}
	// From here on frames for this op find nobody; the id is never used again.
	o.session.forget(o.id)
	o.cancel()
	o.drop()

	b := wire.AppendResult(make([]byte, wire.HeaderSize, 512), &result)
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

// batchInline is how much bulk data a batch's result may carry itself.
const batchInline = 1 << 20

// item carries out one operation that is not a batch.
func (o *op) item(req wire.Request) wire.Result {
	if o.ctx.Err() != nil {
		return failure(context.Canceled)
	}
	moved, err := o.agent.cfg.Root()
	if err != nil {
		return failure(err)
	}
	if moved {
		o.agent.carryHosts()
	}
	var v wire.Value
	var body *body
	switch r := req.(type) {
	case *wire.Ping:
	case *wire.Run:
		body = o.body(r.Stdin)
		v, err = o.run(r, body)
	case *wire.ReadFile:
		v, err = o.readFile(r)
	case *wire.WriteFile:
		body = o.body(r.Data)
		err = o.writeFile(r, body)
	case *wire.Stat:
		v, err = stat(r)
	case *wire.ListDir:
		v, err = listDir(r)
	case *wire.Mkdir:
		err = mkdir(r)
	case *wire.Unlink:
		err = unlink(r)
	case *wire.Rename:
		err = retry(func() error { return syscall.Rename(r.From, r.To) })
	case *wire.ClockGet:
		v, err = clocks()
	case *wire.ClockSet:
		v, err = clockSet(r.RealtimeNS)
	case *wire.ClockAdvance:
		v, err = clockAdvance(r.ByNS)
	case *wire.Sleep:
		err = o.sleep(r.NS)
	case *wire.AwaitDisk:
		err = o.agent.cfg.AwaitDisk(o.ctx, r.Serial, r.Gone)
	case *wire.Renew:
		err = o.agent.renew(r)
	case *wire.Network:
		err = o.network(r)
	default:
		v, body, err = o.object(req)
	}
	if body != nil && o.ctx.Err() == nil {
		// In a batch the next operation's bytes stand behind these.
		body.discard()
	}
	if err != nil {
		return failure(err)
	}
	return wire.Result{Value: v}
}

func failure(err error) wire.Result {
	var known *wireError
	var errno syscall.Errno
	switch {
	case errors.As(err, &known):
		return wire.Result{Err: (*wire.Error)(known)}
	case errors.As(err, &errno):
		return wire.Result{Err: wire.ErrnoError(uint32(errno))}
	case errors.Is(err, context.Canceled):
		e := wire.ErrnoError(uint32(syscall.ECANCELED))
		return wire.Result{Err: e}
	}
	return wire.Result{Err: &wire.Error{Text: err.Error()}}
}

// wireError is a failure with words of its own.
type wireError wire.Error

func (e *wireError) Error() string { return e.Text }

// errnoText is an errno with other words than the C library's.
func errnoText(errno syscall.Errno, text string) error {
	e := wire.ErrnoError(uint32(errno))
	e.Text = text + " (" + e.Name + ")"
	return (*wireError)(e)
}

// retry repeats a call that a signal interrupted, such as the runtime's own.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

// body reads a request's bulk data.
type body struct {
	op      *op
	left    int64 // bytes of it still to come; wire.UntilEnd: up to the end
	current []byte
	buffer  *buffer
}

func (o *op) body(b wire.Bulk) *body { return &body{op: o, left: b.Length, current: b.Inline} }

// next gives the bytes at hand, waiting for some; they are valid until the
// next call. It gives io.EOF at the end, and an error when the operation is
// cancelled.
func (b *body) next() ([]byte, error) {
	o := b.op
	if len(b.current) > 0 {
		p := b.current
		b.current = nil
		return p, nil
	}
	if b.buffer != nil {
		o.agent.release(b.buffer)
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

func (b *body) discard() {
	if b.left < 0 {
		return // never in a batch: the host stops when it sees the result
	}
	for {
		if _, err := b.next(); err != nil {
			return
		}
	}
}

// drop frees chunks nobody will read.
func (o *op) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.in {
		if c.buffer != nil {
			o.agent.release(c.buffer)
		}
	}
	o.in = nil
}

// stream sends the first n payload bytes of b as Data frames, waiting for
// credit as needed. It destroys the bytes before each piece.
func (o *op) stream(stream uint16, b *buffer, n int) error {
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
