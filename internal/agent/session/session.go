package session

import (
	"fmt"
	"io"
	"sync"

	"provium/internal/wire"
)

// link serialises writers. A whole frame is written under the lock, so small
// frames pass between the large ones of a bulk transfer.
type link struct {
	mu sync.Mutex
	w  io.Writer
}

// session is one host's conversation. Its frames are dropped once it ended.
type session struct {
	server *Server
	link   *link
	nonce  wire.Nonce
	expect func() // tells the link that the next request may come at once
	frame  []byte // memory for the next answer that is given at once; the reader's

	mu    sync.Mutex
	ops   map[uint64]*Op
	ended bool
}

// nextOp handles frames until one starts an operation that may block.
func (s *session) nextOp(r *wire.Reader) (*Op, wire.Request, error) {
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
			req, err := wire.DecodeRequestInPlace(p)
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
			Text: fmt.Sprintf("host speaks protocol version %d, agent speaks version %d",
				m.ProtocolVersion, wire.ProtocolVersion),
		}
		s.send(wire.AppendFrame(out, wire.Header{Type: wire.FrameHelloErr}, refusal.Append(nil)))
		return fmt.Errorf("%w: protocol version %d", wire.ErrMalformed, m.ProtocolVersion)
	}
	s.send(wire.AppendFrame(out, wire.Header{Type: wire.FrameHelloOk}, s.server.hello.Append(nil)))
	return nil
}

// request answers a request at once, and returns nil, or returns a new Op for it.
func (s *session) request(id uint64, req wire.Request) (*Op, error) {
	frame, begun := s.server.handler.Now(id, req, s.frame[:0])
	if frame != nil {
		s.reply(frame)
		return nil, nil
	}
	wire.Detach(req) // reading goes on
	o := newOp(s, id, begun)
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

// reply sends the Result frame of a request that was answered at once.
func (s *session) reply(frame []byte) {
	// The reader must not wait behind a bulk frame.
	if !s.link.mu.TryLock() {
		s.frame = nil // the goroutine has it
		s.server.ops.Add(1)
		go func() {
			defer s.server.ops.Done()
			s.send(frame)
		}()
		return
	}
	s.write(frame)
	s.link.mu.Unlock()
	s.frame = frame
	s.mu.Lock()
	idle := len(s.ops) == 0
	s.mu.Unlock()
	if idle {
		s.expect()
	}
}

func (s *session) op(id uint64) *Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops[id]
}

// data takes a Data frame's payload off the link. It is for the frame's
// operation; if that has ended already, the bytes are dropped.
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
		c.buffer = s.server.buffer()
		c.p = c.buffer.Payload()[:n]
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

// write is send for a caller that holds s.link.mu. A write error needs no
// handling: what ended the link ends the reader too, and with it the session.
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
