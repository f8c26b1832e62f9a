package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"provium/internal/wire"
)

// Config is what an Agent works with. Its zero value serves.
type Config struct {
	Version  string   // told in the handshake
	GuestOS  string   // likewise
	BootID   string   // likewise
	Features []string // likewise
	Init     string   // likewise: who is PID 1
	// Root is called before every operation that has to do with files or
	// processes, and has the agent work in the root directory of PID 1; moved
	// tells that it is another one than before. Nil leaves the root alone.
	Root func() (moved bool, err error)
	// Shield brackets the start of every child: it is called before the fork
	// and returns what to call after it. Nil does nothing. The agent is exempt
	// from the OOM killer, and children must not inherit that.
	Shield func() (restore func())
	// Executor is a descriptor of the executor's program; 0: there is none.
	Executor int
	// DevNull is a descriptor of /dev/null, for commands without input; 0
	// makes the agent open its own.
	DevNull int
	// Mounts is a descriptor of /proc/self/mountinfo, 0 for none. With one, an
	// agent on one processor keeps to one scheduler slot where that is safe.
	Mounts int
	// AwaitDisk carries out the operation of that name, which is refused when
	// it is nil.
	AwaitDisk func(ctx context.Context, serial string, gone bool) error
	// Random is a writable descriptor of /dev/urandom; 0 makes the agent open
	// its own.
	Random int
	// Proc and Sys are descriptors of the roots of procfs and sysfs, for the
	// network; 0 makes the agent use /proc and /sys.
	Proc, Sys int
}

// Agent serves sessions. Use New.
type Agent struct {
	cfg     Config
	buffers sync.Pool
	spawn   sync.Mutex
	slots   slots
	ops     sync.WaitGroup
	waiters chan *waiter // not in use
	net     network

	handles  atomic.Uint64  // the last one given
	procs    processes      //
	execs    executors      //
	children sync.WaitGroup // who follows them
}

// New returns an Agent.
func New(cfg Config) *Agent {
	a := &Agent{cfg: cfg, slots: newSlots(cfg.Mounts), waiters: make(chan *waiter, 4)}
	if cfg.Root == nil {
		a.cfg.Root = func() (bool, error) { return false, nil }
	}
	if cfg.AwaitDisk == nil {
		a.cfg.AwaitDisk = func(context.Context, string, bool) error { return errors.ErrUnsupported }
	}
	if cfg.Shield == nil {
		a.cfg.Shield = func() func() { return func() {} }
	}
	a.buffers.New = func() any { return new(buffer) }
	return a
}

// Wait returns when every operation of ended sessions has ended, and every
// process that is left. It ends the executors. Call it after the last Serve.
func (a *Agent) Wait() {
	a.ops.Wait()
	a.execs.stop()
	a.children.Wait()
	for {
		select {
		case w := <-a.waiters:
			w.file.Close()
		default:
			return
		}
	}
}

// buffer holds a full Data frame.
type buffer [wire.HeaderSize + wire.ChunkSize]byte

func (a *Agent) buffer() *buffer   { return a.buffers.Get().(*buffer) }
func (a *Agent) release(b *buffer) { a.buffers.Put(b) }
func (b *buffer) payload() []byte  { return b[wire.HeaderSize:] }

// Serve takes sessions from conn, one after the other, until a read fails, and
// returns that error: io.EOF when the other side is gone. Operations of the
// session are stopped then, but not waited for.
func (a *Agent) Serve(conn io.ReadWriter) error {
	c := &conversation{agent: a, link: &link{w: conn}, expect: func() {}, r: wire.NewReader(conn, readBuffer), ended: make(chan error, 1)}
	if e, ok := conn.(interface{ ExpectSoon() }); ok {
		c.expect = e.ExpectSoon
	}
	go c.read()
	return <-c.ended
}

// conversation is all that comes over one connection. One goroutine at a time
// reads, and it never waits for anything else.
type conversation struct {
	agent  *Agent
	link   *link
	expect func() // tells the link that the next request may come at once
	r      *wire.Reader

	session *session // the present or the last one, nil before the first
	inStep  bool     // the session goes on where the reader stands
	ended   chan error
}

// read takes frames up to one that starts an operation. It leaves the reading to
// a new goroutine then and carries the operation out itself: what a command is
// waited for with should not have to wait for another goroutine, and that for a
// thread to run on. The error that ends the last reader goes to ended.
func (c *conversation) read() {
	o, req, err := c.next()
	if err != nil {
		c.end()
		c.ended <- err
		return
	}
	c.agent.ops.Add(1)
	defer c.agent.ops.Done()
	go c.read()
	o.serve(req)
}

// next returns the next operation that may block, of whatever session.
func (c *conversation) next() (*op, wire.Request, error) {
	for {
		var err error
		if c.inStep {
			var o *op
			var req wire.Request
			if o, req, err = c.session.nextOp(c.r); err == nil {
				return o, req, nil
			}
			c.inStep = false
		} else if err = c.open(); err == nil {
			c.inStep = true
			continue
		}
		switch {
		case err == wire.ErrPreamble || errors.Is(err, wire.ErrPadding):
		case errors.Is(err, wire.ErrDesync) || errors.Is(err, wire.ErrMalformed):
			// The host must not wait for answers that will never come.
			m := wire.HelloErr{ProtocolVersion: wire.ProtocolVersion, Text: err.Error()}
			c.session.send(wire.AppendFrame(nil, wire.Header{Type: wire.FrameHelloErr}, m.Append(nil)))
			c.end()
		default:
			return nil, nil, err
		}
	}
}

// open begins the next session, whose preamble may be anywhere behind noise.
func (c *conversation) open() error {
	nonce, err := c.r.Resync()
	if err != nil {
		return err
	}
	// A host that waited long for the answer repeats its Hello behind padding,
	// perhaps when the answer is on its way already: that is still the same session.
	if c.session == nil || c.session.nonce != nonce {
		c.end()
		c.session = &session{agent: c.agent, link: c.link, expect: c.expect, nonce: nonce, ops: make(map[uint64]*op)}
	}
	return c.session.hello(c.r)
}

// end stops the session's operations.
func (c *conversation) end() {
	if c.session != nil {
		c.session.end()
		c.session = nil
	}
}

// readBuffer is what one read from the link may bring. A virtio-serial port
// gives at most 4 KiB at a time; a socket gives more. A system call that carries
// its buffers itself fits in.
const readBuffer = wire.CallInline + 8<<10

// link serialises writers. A whole frame is written under the lock, so small
// frames find their way between the large ones of a bulk transfer.
type link struct {
	mu sync.Mutex
	w  io.Writer
}

// session is one host's conversation. Its frames are dropped once it ended.
type session struct {
	agent  *Agent
	link   *link
	nonce  wire.Nonce
	expect func() // tells the link that the next request may come at once

	mu    sync.Mutex
	ops   map[uint64]*op
	ended bool
}

// okMessage is an ok result without value, what most operations end with.
const okMessage = "\x82\xa7outcome\xa2ok\xa5value\xc0"

// nextOp handles frames until one starts an operation that may block.
func (s *session) nextOp(r *wire.Reader) (*op, wire.Request, error) {
	var partial []byte // a request that comes in several frames
	var partialOp uint64
	for {
		h, err := r.Next()
		if err != nil {
			return nil, nil, err
		}
		switch h.Type {
		case wire.FrameRequest:
			p, err := r.Payload(int(h.Length))
			if err != nil {
				return nil, nil, err
			}
			if h.Flags&wire.FlagMore != 0 || len(partial) > 0 {
				if len(partial) > 0 && h.Op != partialOp || len(partial)+len(p) > wire.MaxRequest {
					return nil, nil, fmt.Errorf("%w: request in pieces", wire.ErrMalformed)
				}
				partial, partialOp = append(partial, p...), h.Op
				if h.Flags&wire.FlagMore != 0 {
					continue
				}
				p = partial
			}
			req, err := wire.DecodeRequest(p)
			partial = nil
			if err != nil {
				return nil, nil, err
			}
			if o, err := s.request(h.Op, req); o != nil || err != nil {
				return o, req, err
			}
		case wire.FrameData:
			if err := s.data(r, h); err != nil {
				return nil, nil, err
			}
		case wire.FrameCredit:
			p, err := r.Payload(int(h.Length))
			if err != nil {
				return nil, nil, err
			}
			n, err := wire.ParseCredit(p)
			if err != nil {
				return nil, nil, err
			}
			if o := s.op(h.Op); o != nil {
				o.addCredit(h.Stream, n)
			}
		case wire.FrameCancel:
			if _, err := r.Payload(int(h.Length)); err != nil {
				return nil, nil, err
			}
			if o := s.op(h.Op); o != nil {
				o.cancel()
			}
		default:
			return nil, nil, fmt.Errorf("%w: frame type %d from the host", wire.ErrDesync, h.Type)
		}
	}
}

func (s *session) hello(r *wire.Reader) error {
	h, err := r.Next()
	if err != nil {
		return err
	}
	if h.Type != wire.FrameHello {
		return fmt.Errorf("%w: frame type %d before hello", wire.ErrDesync, h.Type)
	}
	p, err := r.Payload(int(h.Length))
	if err != nil {
		return err
	}
	m, err := wire.DecodeHello(p)
	if err != nil {
		return err
	}
	out := wire.AppendPreamble(nil, s.nonce)
	if m.ProtocolVersion != wire.ProtocolVersion {
		refusal := wire.HelloErr{
			ProtocolVersion: wire.ProtocolVersion,
			Text:            fmt.Sprintf("host speaks protocol version %d, agent speaks version %d", m.ProtocolVersion, wire.ProtocolVersion),
		}
		s.send(wire.AppendFrame(out, wire.Header{Type: wire.FrameHelloErr}, refusal.Append(nil)))
		return fmt.Errorf("%w: protocol version %d", wire.ErrMalformed, m.ProtocolVersion)
	}
	c := &s.agent.cfg
	s.send(wire.AppendFrame(out, wire.Header{Type: wire.FrameHelloOk}, wire.HelloOk{
		ProtocolVersion: wire.ProtocolVersion,
		AgentVersion:    c.Version,
		GuestOS:         c.GuestOS,
		BootID:          c.BootID,
		AgentFeatures:   c.Features,
		Init:            c.Init,
	}.Append(nil)))
	return nil
}

// request makes an operation to be served, or does it at once if that takes no
// time worth mentioning, and gives none.
func (s *session) request(id uint64, req wire.Request) (*op, error) {
	var begun *asyncCall
	switch req := req.(type) {
	case *wire.Ping:
		s.reply(id, []byte(okMessage))
		return nil, nil
	case *wire.ClockGet:
		v, err := clocks()
		result := wire.Result{Value: v}
		if err != nil {
			result = failure(err)
		}
		s.reply(id, wire.AppendResult(nil, &result))
		return nil, nil
	case *wire.Syscall:
		var v *wire.SyscallValue
		if v, begun = s.agent.callNow(req); v != nil {
			// One piece of memory, into which the buffers are copied once.
			b := wire.AppendResult(make([]byte, wire.HeaderSize, wire.HeaderSize+128+len(v.Data)), &wire.Result{Value: v})
			wire.Header{Length: uint32(len(b) - wire.HeaderSize), Type: wire.FrameResult, Op: id}.Put(b)
			s.replyFrame(b)
			return nil, nil
		}
	case *wire.Renew:
		if err := s.agent.renew(req); err != nil {
			result := failure(err)
			s.reply(id, wire.AppendResult(nil, &result))
			return nil, nil
		}
		s.reply(id, []byte(okMessage))
		return nil, nil
	}
	o := newOp(s, id)
	o.begun = begun
	s.mu.Lock()
	if _, twice := s.ops[id]; twice {
		s.mu.Unlock()
		o.cancel()
		return nil, fmt.Errorf("%w: op id %d is in use", wire.ErrMalformed, id)
	}
	s.ops[id] = o
	s.mu.Unlock()
	return o, nil
}

// reply sends the result of an operation that the reader did itself.
func (s *session) reply(id uint64, result []byte) {
	s.replyFrame(wire.AppendFrame(make([]byte, 0, 128), wire.Header{Type: wire.FrameResult, Op: id}, result))
}

func (s *session) replyFrame(frame []byte) {
	// The reader must not wait behind a bulk frame.
	if !s.link.mu.TryLock() {
		s.agent.ops.Add(1)
		go func() {
			defer s.agent.ops.Done()
			s.send(frame)
		}()
		return
	}
	s.write(frame)
	s.link.mu.Unlock()
	s.mu.Lock()
	idle := len(s.ops) == 0
	s.mu.Unlock()
	if idle {
		s.expect()
	}
}

func (s *session) op(id uint64) *op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops[id]
}

// data takes a Data frame's payload off the link, for its operation or, if
// that has ended already, for nobody.
func (s *session) data(r *wire.Reader, h wire.Header) error {
	n := int(h.Length)
	o := s.op(h.Op)
	if n > wire.ChunkSize {
		return fmt.Errorf("%w: chunk of %d bytes", wire.ErrMalformed, n)
	}
	if o == nil || h.Stream != wire.StreamData {
		for n > 0 {
			p, err := r.Some(n)
			if err != nil {
				return err
			}
			n -= len(p)
		}
		return nil
	}
	c := chunk{end: h.Flags&wire.FlagEnd != 0}
	if n > 4096 {
		c.buffer = s.agent.buffer()
		c.p = c.buffer.payload()[:n]
	} else {
		c.p = make([]byte, n)
	}
	if err := r.ReadInto(c.p); err != nil {
		return err
	}
	return o.push(c)
}

// send writes whole frames, unless the session has ended.
func (s *session) send(frames []byte) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.write(frames)
}

// write is send with the lock held. A write error needs no handling: whatever
// ended the link ends the reader too, and with it the session.
func (s *session) write(frames []byte) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if !ended {
		_, _ = s.link.w.Write(frames)
	}
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	delete(s.ops, id)
	s.mu.Unlock()
}

func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	ops := s.ops
	s.ops = nil
	s.mu.Unlock()
	for _, o := range ops {
		o.cancel()
	}
}
