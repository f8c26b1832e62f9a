package localvmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"provium/internal/wire"
)

// Agent speaks the agent's side of the link (docs/protocol.md) and leaves the
// operations to Do.
type Agent struct {
	Hello wire.HelloOk
	// Await waits until the guest may act; an error ends the session. Nil does not
	// wait.
	Await func(ctx context.Context) error
	// Do carries out one operation, from a goroutine of its own. ctx ends when the
	// host cancels the operation, or with the session.
	Do func(ctx context.Context, op *Op) (wire.Value, *wire.Error)
}

// Serve serves one connection until it ends or ctx does, and leaves it open. It
// returns when no operation is under way any more.
func (a *Agent) Serve(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	await := a.Await
	if await == nil {
		await = func(context.Context) error { return nil }
	}
	r := wire.NewReader(conn, 2*wire.MaxPayload)
	for ctx.Err() == nil {
		nonce, err := r.Resync()
		if err != nil || await(ctx) != nil {
			return
		}
		s := &session{agent: a, conn: conn, r: r, nonce: nonce, ops: map[uint64]*Op{}, await: await}
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithCancel(ctx)
		err = s.run()
		cancel()
		s.end()
		s.work.Wait()
		if !errors.Is(err, wire.ErrDesync) {
			return
		}
	}
}

// session is one session of the host.
type session struct {
	agent *Agent
	conn  net.Conn
	r     *wire.Reader
	nonce wire.Nonce
	ctx   context.Context
	await func(context.Context) error
	work  sync.WaitGroup

	writing sync.Mutex // held while a frame is written

	mu  sync.Mutex
	ops map[uint64]*Op
}

// run takes frames until the session ends. Its error wraps wire.ErrDesync when
// another session may follow on the same connection.
func (s *session) run() error {
	for {
		h, err := s.r.Next()
		if errors.Is(err, wire.ErrDesync) {
			again, e := s.r.SkipPreamble(s.nonce)
			if e == nil && again {
				continue // a Hello that was sent again
			}
			return err
		}
		if err != nil {
			return err
		}
		p, err := s.r.Payload(int(h.Length))
		if err != nil {
			return err
		}
		if err := s.await(s.ctx); err != nil {
			return err
		}
		if err := s.frame(h, append([]byte(nil), p...)); err != nil {
			return err
		}
	}
}

func (s *session) frame(h wire.Header, p []byte) error {
	s.mu.Lock()
	op := s.ops[h.Op]
	s.mu.Unlock()
	switch h.Type {
	case wire.FrameHello:
		return s.hello(p)
	case wire.FrameRequest:
		if op == nil {
			op = newOp(s, h.Op)
			s.mu.Lock()
			s.ops[h.Op] = op
			s.mu.Unlock()
		}
		op.message = append(op.message, p...)
		if h.Flags&wire.FlagMore != 0 {
			return nil
		}
		var err error
		if op.Request, err = wire.DecodeRequest(op.message); err != nil {
			return s.send(wire.AppendFrame(nil, wire.Header{Type: wire.FrameHelloErr},
				wire.HelloErr{ProtocolVersion: wire.ProtocolVersion, Text: err.Error()}.Append(nil)))
		}
		s.work.Go(op.run)
	case wire.FrameData:
		if op == nil {
			return nil
		}
		op.arrived(p, h.Flags&wire.FlagEnd != 0)
		if len(p) > 0 {
			return s.send(wire.AppendCredit(nil, h.Op, h.Stream, uint32(len(p))))
		}
	case wire.FrameCredit:
		n, err := wire.ParseCredit(p)
		if err != nil || op == nil {
			return err
		}
		op.allowed(h.Stream, int(n))
	case wire.FrameCancel:
		if op != nil {
			op.cancel()
		}
	}
	return nil
}

func (s *session) hello(p []byte) error {
	hello, err := wire.DecodeHello(p)
	if err != nil {
		return err
	}
	b := wire.AppendPreamble(nil, s.nonce)
	if hello.ProtocolVersion != wire.ProtocolVersion {
		return s.send(wire.AppendFrame(b, wire.Header{Type: wire.FrameHelloErr}, wire.HelloErr{
			ProtocolVersion: wire.ProtocolVersion,
			Text:            fmt.Sprintf("host speaks protocol version %d", hello.ProtocolVersion)}.Append(nil)))
	}
	answer := s.agent.Hello
	if answer.ProtocolVersion == 0 {
		answer.ProtocolVersion = wire.ProtocolVersion
	}
	return s.send(wire.AppendFrame(b, wire.Header{Type: wire.FrameHelloOk}, answer.Append(nil)))
}

func (s *session) send(p []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.conn.Write(p)
	return err
}

// end cancels all operations.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		op.cancel()
	}
}

// Op is one operation that the host has asked for.
type Op struct {
	Request wire.Request

	s       *session
	id      uint64
	ctx     context.Context
	cancel  context.CancelFunc
	message []byte

	mu     sync.Mutex
	in     []byte // of the request's bulk data
	inEnd  bool
	credit [wire.Streams]int
	wake   chan struct{} // closed and replaced at each change
}

func newOp(s *session, id uint64) *Op {
	op := &Op{s: s, id: id, wake: make(chan struct{})}
	for i := range op.credit {
		op.credit[i] = wire.Window
	}
	op.ctx, op.cancel = context.WithCancel(s.ctx)
	return op
}

func (op *Op) run() {
	defer op.cancel()
	value, failure := op.s.agent.Do(op.ctx, op)
	result := &wire.Result{Value: value, Err: failure}
	if op.s.ctx.Err() != nil || op.s.await(op.s.ctx) != nil {
		return // the machine has ended, or was reset
	}
	op.s.mu.Lock()
	delete(op.s.ops, op.id)
	op.s.mu.Unlock()
	// A session that is over needs no answer.
	_ = op.s.send(wire.AppendMessage(nil, wire.FrameResult, op.id, wire.AppendResult(nil, result)))
}

func (op *Op) change(do func()) {
	op.mu.Lock()
	defer op.mu.Unlock()
	do()
	close(op.wake)
	op.wake = make(chan struct{})
}

func (op *Op) arrived(p []byte, end bool) {
	op.change(func() { op.in, op.inEnd = append(op.in, p...), op.inEnd || end })
}

func (op *Op) allowed(stream uint16, n int) {
	op.change(func() { op.credit[stream] += n })
}

// until waits until ready, which is called with op.mu held, returns true.
func (op *Op) until(ready func() bool) error {
	for {
		op.mu.Lock()
		is, wake := ready(), op.wake
		op.mu.Unlock()
		if is {
			return nil
		}
		select {
		case <-wake:
		case <-op.ctx.Done():
			return context.Cause(op.ctx)
		}
	}
}

// Bulk returns the bulk data of the request, or of the next operation of a batch.
func (op *Op) Bulk(b wire.Bulk) ([]byte, error) {
	if !b.Streamed() {
		return b.Inline, nil
	}
	var p []byte
	err := op.until(func() bool {
		switch {
		case b.Length == wire.UntilEnd && op.inEnd:
			p, op.in = op.in, nil
		case b.Length != wire.UntilEnd && int64(len(op.in)) >= b.Length:
			p, op.in = op.in[:b.Length:b.Length], op.in[b.Length:]
		case op.inEnd:
			p = nil
		default:
			return false
		}
		return true
	})
	if err == nil && b.Length > int64(len(p)) {
		err = io.ErrUnexpectedEOF
	}
	return append(append([]byte(nil), b.Inline...), p...), err
}

// Send sends bytes of a stream as the host has room for them. Without any it tells
// the host that the stream is open.
func (op *Op) Send(stream uint16, p []byte) error {
	for first := true; first || len(p) > 0; first = false {
		n := 0
		err := op.until(func() bool {
			n = min(op.credit[stream], len(p), wire.ChunkSize)
			op.credit[stream] -= n
			return n > 0 || len(p) == 0
		})
		if err == nil {
			err = op.s.await(op.ctx)
		}
		if err == nil {
			err = op.s.send(wire.AppendFrame(nil, wire.Header{Type: wire.FrameData, Op: op.id, Stream: stream}, p[:n]))
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// ErrNoGuest is the text with which operations of tests are refused.
const ErrNoGuest = "this run boots no guests (--vmm local)"

// refusingGuest is the guest of a machine without a kernel: it answers what the
// host itself asks of an agent and refuses everything else.
type refusingGuest struct{}

func (g *refusingGuest) Serve(ctx context.Context, conn net.Conn) {
	a := Agent{Hello: wire.HelloOk{AgentVersion: "local", GuestOS: "none", Init: "other"}, Do: refuse}
	a.Serve(ctx, conn)
}

func refuse(_ context.Context, op *Op) (wire.Value, *wire.Error) {
	switch op.Request.(type) {
	case *wire.Ping, *wire.Renew, *wire.Network, *wire.AwaitDisk:
		return nil, nil
	case *wire.ClockGet, *wire.ClockSet:
		return &wire.ClockValue{}, nil
	}
	return nil, &wire.Error{Text: ErrNoGuest}
}

func (g *refusingGuest) Boot()                 {}
func (g *refusingGuest) Save() ([]byte, error) { return nil, nil }
func (g *refusingGuest) Load([]byte) error     { return nil }
func (g *refusingGuest) PowerButton() bool     { return true }
func (g *refusingGuest) Command(string) Reply  { return Reply{} }
