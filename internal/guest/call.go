package guest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"provium/internal/wire"
)

// transfer is the bulk data of one operation in both directions.
type transfer struct {
	from   io.Reader // bytes for the request's StreamData, nil for none
	to     io.Writer // takes StreamData as it comes; nil keeps it in memory
	limit  int64     // bytes of a stream that may be kept in memory
	pulled bool      // a Stream takes StreamData piece by piece
	ends   bool      // when it is given up, the ends of what came stay
	// within is the time limit of the operation, which the guest is to keep, 0 for none.
	within    time.Duration
	unwatched bool // whether the guest answers is not the operation's concern
}

// send returns where p goes: inside the request, or in Data frames after it.
func (t *transfer) send(p []byte) wire.Bulk {
	if len(p) <= wire.InlineLimit {
		return wire.Bulk{Inline: p}
	}
	t.from = bytes.NewReader(p)
	return wire.Bulk{Length: int64(len(p))}
}

// answer is the outcome of an operation: its value and the bytes of its streams.
type answer struct {
	value wire.Value
	in    [wire.Streams][]byte
}

// item cuts off the part of the streams that belongs to one result of a batch.
func (a *answer) item(r *wire.Result) (*answer, error) {
	out := &answer{value: r.Value}
	for i, n := range r.Streamed {
		if n > uint64(len(a.in[i])) {
			return nil, fmt.Errorf("%w: %d bytes announced, %d came", wire.ErrMalformed, n, len(a.in[i]))
		}
		out.in[i] = a.in[i][:n:n]
		a.in[i] = a.in[i][n:]
	}
	return out, nil
}

// call is an operation under way. The reader puts things into it and never
// waits; the operation's own goroutine takes them out.
type call struct {
	client *Client
	id     uint64
	t      transfer
	wake   chan struct{} // has a token when there is something new
	ctx    context.Context
	cancel context.CancelCauseFunc
	call   Call // for whom it is done

	limit     time.Duration // on the guest's silence; 0 or less for none. Guarded by Client.mu
	fair      bool          // the limit is ours. Guarded by Client.mu
	begunAt   instant       // Guarded by Client.mu
	isOpen    atomic.Bool   // it is a stream that was opened: nobody need wait for it
	givenUp   atomic.Bool   // its caller has got an error
	answering atomic.Bool   // the guest has begun to answer

	parking  sync.Mutex // held while a token comes to wake or isParked changes
	isParked bool       // who waits for wake counts as waiting for the guest. Guarded by parking

	mu      sync.Mutex
	in      [wire.Streams][]byte
	window  [wire.Streams]int64  // bytes the agent may still send
	owed    [wire.Streams]int64  // bytes taken, not yet allowed again
	credit  int64                // bytes of StreamData we may still send
	opened  bool                 // a first Data frame has come
	message []byte               // a result that is still coming
	last    [wire.Streams][]byte // the ends of what came after it was given up, see transfer.ends
	end     *wire.Result
}

// isWatched reports whether somebody waits for the guest's answer.
func (op *call) isWatched() bool { return !op.t.unwatched && !op.isOpen.Load() && !op.givenUp.Load() }

func (op *call) notify() {
	if op.client.pace != nil {
		op.parking.Lock()
		defer op.parking.Unlock()
		op.unparkLocked()
	}
	select {
	case op.wake <- struct{}{}:
	default:
	}
}

func (op *call) addCredit(n uint32) {
	op.mu.Lock()
	op.credit = min(op.credit+int64(n), wire.Window)
	op.mu.Unlock()
	op.notify()
}

// expect allocates memory for a stream that is kept whole.
func (op *call) expect(stream uint16, n uint64) {
	op.answering.Store(true)
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.t.to == nil && op.in[stream] == nil && n <= uint64(op.t.limit) {
		op.in[stream] = make([]byte, 0, n)
	}
}

// data appends a Data frame's payload straight from the link.
func (op *call) data(r *wire.Reader, h wire.Header) error {
	op.answering.Store(true)
	n := int64(h.Length)
	for left := int(n); left > 0; {
		p, err := r.Some(left)
		if err != nil {
			return err
		}
		op.client.vigil.heard.Add(1)
		left -= len(p)
		op.mu.Lock()
		op.in[h.Stream] = append(op.in[h.Stream], p...)
		op.mu.Unlock()
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.window[h.Stream] -= n
	if op.window[h.Stream] < 0 {
		return fmt.Errorf("%w: agent sent more than it was allowed to", wire.ErrMalformed)
	}
	if op.t.to == nil && int64(len(op.in[h.Stream])) > op.t.limit {
		return fmt.Errorf("%w: agent sent more than %d bytes", wire.ErrMalformed, op.t.limit)
	}
	op.owed[h.Stream] += n
	if op.t.pulled {
		op.opened = true
		op.notify()
	}
	if op.t.to != nil && h.Stream == wire.StreamData || op.owed[h.Stream] >= wire.Window/2 {
		op.notify()
	}
	return nil
}

func (op *call) result(h wire.Header, p []byte) (last bool, err error) {
	op.answering.Store(true)
	op.mu.Lock()
	defer op.mu.Unlock()
	more := h.Flags&wire.FlagMore != 0
	if more || op.message != nil {
		if len(op.message)+len(p) > op.client.maxResult {
			return false, fmt.Errorf("%w: result above %d bytes", wire.ErrMalformed, op.client.maxResult)
		}
		op.message = append(op.message, p...)
		p = op.message
	}
	if more {
		return false, nil
	}
	if op.end, err = wire.DecodeResult(p); err != nil {
		return false, err
	}
	op.message = nil
	op.notify()
	return true, nil
}

// do sends a request, moves its bulk data, and waits for the result. An operation that
// was given up but has succeeded all the same has an answer beside the error, without
// the bytes of its streams, or with the ends of them.
func (c *Client) do(ctx context.Context, req wire.Request, t transfer) (*answer, error) {
	c.adjust(+1, 0)
	defer c.adjust(-1, 0)
	op, err := c.begin(ctx, req, t)
	if err != nil {
		return nil, err
	}
	defer op.cancel(nil)
	if t.within > 0 && c.pace == nil { // else the guest's own clock decides
		defer op.endAfter(t.within)()
	}
	if err := op.move(op.ctx); err != nil {
		op.abandon(err)
		return op.late(), failure(req, err)
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.end.Err != nil {
		return nil, opError(req, op.end.Err)
	}
	return &answer{value: op.end.Value, in: op.in}, nil
}

// failure returns the error of an operation that the guest has not answered.
func failure(req wire.Request, err error) error {
	if silent, ok := err.(*SilentError); ok {
		named := *silent
		named.Op = req.Op()
		return &named
	}
	return fmt.Errorf("%s: %w", req.Op(), err)
}

// late returns the answer of an operation that was given up but has succeeded, or nil.
func (op *call) late() *answer {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.end == nil || op.end.Err != nil {
		return nil
	}
	return &answer{value: op.end.Value, in: op.last}
}

// keptEnd is how much stays of a stream that is given up.
const keptEnd = 4096

// dropIn throws away what came. The caller must hold op.mu.
func (op *call) dropIn() {
	for i, p := range op.in {
		if op.t.ends && len(p) > 0 {
			p = append(op.last[i], p[max(0, len(p)-keptEnd):]...)
			op.last[i] = p[max(0, len(p)-keptEnd):]
		}
		op.in[i] = nil
	}
}

// begin sends a request.
func (c *Client) begin(ctx context.Context, req wire.Request, t transfer) (*call, error) {
	name := req.Op()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	message := wire.AppendRequest(make([]byte, wire.HeaderSize, 256), req)
	if len(message)-wire.HeaderSize > wire.MaxRequest {
		return nil, fmt.Errorf("%s: request of %d bytes: at most %d are possible", name, len(message), wire.MaxRequest)
	}
	op := &call{client: c, t: t, wake: make(chan struct{}, 1), credit: wire.Window, call: callOf(ctx)}
	op.ctx, op.cancel = context.WithCancelCause(ctx)
	if c.pace != nil {
		c.pace.Began(cmp.Or(op.call.Text, name))
	}
	op.t.unwatched = t.unwatched || op.call.Beside
	for i := range op.window {
		op.window[i] = wire.Window
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		op.cancel(nil)
		return nil, fmt.Errorf("%s: %w", name, c.err)
	}
	// The lower half counts; it never runs into the next session's range.
	c.nextID = c.nextID&^0xffffffff | uint64(uint32(c.nextID)+1)
	op.id = c.nextID
	c.ops[op.id] = op
	if !op.t.unwatched {
		c.attend(op)
	}
	c.mu.Unlock()

	if n := len(message) - wire.HeaderSize; n <= wire.MaxPayload {
		wire.Header{Length: uint32(n), Type: wire.FrameRequest, Op: op.id}.Put(message)
	} else {
		message = wire.AppendMessage(nil, wire.FrameRequest, op.id, message[wire.HeaderSize:])
	}
	if err := c.send(op.ctx, message); err != nil {
		op.cancel(nil)
		op.abandon(err)
		return nil, failure(req, err)
	}
	return op, nil
}

// move sends and receives until the result is there.
func (op *call) move(ctx context.Context) error {
	var frame []byte
	var spare []byte
	for {
		op.mu.Lock()
		end, credit := op.end, op.credit
		var got []byte
		if op.t.to != nil {
			got = op.in[wire.StreamData]
			op.in[wire.StreamData] = spare[:0]
		}
		var owed [wire.Streams]int64
		for i := range owed {
			if end == nil && (op.owed[i] >= wire.Window/2 || len(got) > 0) {
				owed[i], op.owed[i] = op.owed[i], 0
			}
		}
		op.mu.Unlock()

		if len(got) > 0 {
			if _, err := op.t.to.Write(got); err != nil {
				return err
			}
		}
		spare = got
		if end != nil {
			return nil
		}
		if err := op.allow(ctx, owed); err != nil {
			return err
		}
		if op.t.from != nil && credit > 0 {
			if frame == nil {
				frame = make([]byte, wire.HeaderSize+wire.ChunkSize)
			}
			if err := op.sendChunk(ctx, frame, credit); err != nil {
				return err
			}
			continue
		}
		op.park()
		select {
		case <-op.wake:
			op.unpark()
			select {
			case <-op.client.failed:
				return op.lost()
			default:
			}
		case <-ctx.Done():
			op.unpark()
			if op.hasEnded() {
				continue // it has come in time
			}
			return context.Cause(ctx)
		}
	}
}

func (op *call) hasEnded() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.end != nil
}

// lost returns the reason why the link ended, nil when the result came before that.
func (op *call) lost() error {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.end != nil {
		return nil
	}
	return op.client.Err()
}

// allow sends the agent credit for more bytes.
func (op *call) allow(ctx context.Context, owed [wire.Streams]int64) error {
	var p []byte
	op.mu.Lock()
	for i, n := range owed {
		if n > 0 {
			op.window[i] += n
			p = wire.AppendCredit(p, op.id, uint16(i), uint32(n))
		}
	}
	op.mu.Unlock()
	if p == nil {
		return nil
	}
	return op.client.send(ctx, p)
}

// sendChunk sends the next piece of the request's bulk data and marks its end.
func (op *call) sendChunk(ctx context.Context, frame []byte, credit int64) error {
	n, err := io.ReadFull(op.t.from, frame[wire.HeaderSize:][:min(credit, wire.ChunkSize)])
	h := wire.Header{Type: wire.FrameData, Stream: wire.StreamData, Op: op.id, Length: uint32(n)}
	switch err {
	case nil:
	case io.EOF, io.ErrUnexpectedEOF:
		h.Flags = wire.FlagEnd
		op.t.from = nil
	default:
		return err
	}
	h.Put(frame)
	op.mu.Lock()
	op.credit -= int64(n)
	op.mu.Unlock()
	return op.client.send(ctx, frame[:wire.HeaderSize+n])
}

// abandon stops the operation in the guest and waits for that, at most for
// Config.CancelGrace. It does not wait for a guest that has not answered in time, which err
// says. What the guest still sends is thrown away.
func (op *call) abandon(err error) {
	c := op.client
	op.givenUp.Store(true)
	if c.Err() != nil {
		c.forget(op.id)
		return
	}
	stopped := make(chan struct{})
	c.adjust(+1, 0)
	go func() {
		defer close(stopped)
		defer c.adjust(-1, 0)
		op.drain()
	}()
	c.adjust(-1, 0) // the other one works
	defer c.adjust(+1, 0)
	if _, silent := err.(*SilentError); !silent && c.SilentFor() < c.cfg.CancelGrace {
		select {
		case <-stopped:
			return
		case <-c.cfg.After(c.cfg.CancelGrace):
		}
	}
	if !op.hasEnded() && !op.t.unwatched {
		c.suspect(op)
	}
}

// drain cancels the operation in the guest and returns when that has confirmed it.
func (op *call) drain() {
	c := op.client
	defer c.forget(op.id)
	ctx, cancel := context.WithCancel(context.Background())
	var sender sync.WaitGroup
	sender.Go(func() {
		var b [wire.HeaderSize]byte
		wire.Header{Type: wire.FrameCancel, Op: op.id}.Put(b[:])
		_ = c.send(ctx, b[:]) // a dead link ends the wait below
	})
	defer func() {
		// When the result has come, the Cancel needs not get through.
		cancel()
		sender.Wait()
	}()
	for {
		op.mu.Lock()
		ended := op.end != nil
		// What still comes is thrown away, but must be allowed to come, or
		// the result behind it would not.
		var owed [wire.Streams]int64
		owed, op.owed = op.owed, owed
		op.dropIn()
		op.mu.Unlock()
		if ended {
			return
		}
		if err := op.allow(ctx, owed); err != nil {
			return
		}
		op.park()
		select {
		case <-op.wake:
			op.unpark()
		case <-c.failed:
			op.unpark()
			return
		}
	}
}
