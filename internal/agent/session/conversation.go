package session

import (
	"errors"
	"io"
	"sync"

	"provium/internal/wire"
)

// Handler carries out requests.
type Handler interface {
	// Now is called by the goroutine that reads the link, which must not wait.
	// It may answer the request at once with a whole Result frame, which it may
	// append to buf. Otherwise the request becomes an Op, which keeps begun for
	// Do. The buffers of a system call are valid up to its return.
	Now(id uint64, req wire.Request, buf []byte) (frame []byte, begun any)
	// Do carries out an operation on a goroutine of its own, and calls Finish.
	Do(o *Op, req wire.Request)
}

// Server serves sessions with one Handler. Use NewServer.
type Server struct {
	handler Handler
	hello   wire.HelloOk
	buffers sync.Pool
	ops     sync.WaitGroup
}

// NewServer returns a Server that answers the handshake with hello.
func NewServer(h Handler, hello wire.HelloOk) *Server {
	s := &Server{handler: h, hello: hello}
	s.hello.ProtocolVersion = wire.ProtocolVersion
	s.buffers.New = func() any { return new(Buffer) }
	return s
}

// Wait returns when every operation of ended sessions has ended. It must be
// called after the last Serve.
func (s *Server) Wait() { s.ops.Wait() }

// Buffer holds a full Data frame.
type Buffer [wire.HeaderSize + wire.ChunkSize]byte

// Payload is where a frame's bytes go.
func (b *Buffer) Payload() []byte { return b[wire.HeaderSize:] }

func (s *Server) buffer() *Buffer   { return s.buffers.Get().(*Buffer) }
func (s *Server) release(b *Buffer) { s.buffers.Put(b) }

// Serve takes sessions from conn, one after the other, until a read fails, and
// returns that error: io.EOF when the other side is gone. Operations of the
// session are stopped then, but not waited for.
func (s *Server) Serve(conn io.ReadWriter) error {
	c := &conversation{
		server: s,
		link:   &link{w: conn},
		expect: func() {},
		r:      wire.NewReader(conn, readBuffer),
		ended:  make(chan error, 1),
	}
	if e, ok := conn.(interface{ ExpectSoon() }); ok {
		c.expect = e.ExpectSoon
	}
	go c.read()
	return <-c.ended
}

// readBuffer is what one read from the link may bring. A virtio-serial port
// returns at most 4 KiB at a time; a socket returns more. A system call that carries
// its buffers itself fits in.
const readBuffer = wire.CallInline + 8<<10

// conversation is all that comes over one connection. One goroutine at a time
// reads, and it never waits for anything else.
type conversation struct {
	server *Server
	link   *link
	expect func() // tells the link that the next request may come at once
	r      *wire.Reader

	session *session // the present or the last one, nil before the first
	inStep  bool     // the session goes on where the reader stands
	ended   chan error
}

// read takes frames up to one that starts an operation. Then it leaves the
// reading to a new goroutine and carries the operation out itself, so that the
// operation does not wait for another goroutine, and that one for a thread. The
// error that ends the last reader goes to ended.
func (c *conversation) read() {
	o, req, err := c.next()
	if err != nil {
		c.end()
		c.ended <- err
		return
	}
	c.server.ops.Add(1)
	defer c.server.ops.Done()
	go c.read()
	c.server.handler.Do(o, req)
}

// next returns the next operation that may block, of any session.
func (c *conversation) next() (*Op, wire.Request, error) {
	for {
		var err error
		if c.inStep {
			var o *Op
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
		c.session = &session{server: c.server, link: c.link, expect: c.expect, nonce: nonce, ops: make(map[uint64]*Op)}
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
