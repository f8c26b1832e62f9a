package guest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// Config adjusts a Client. Its zero value is good.
type Config struct {
	// Lost is called once when the connection ends by itself, with what the
	// reader saw, before the pending operations fail; they then fail with what
	// it returns. It may block for a moment to find the real reason (the
	// guest's panic, the end of QEMU). Nil keeps the error.
	Lost func(err error) error
	// Resend is how long to wait for an answer to the handshake before it is
	// repeated; 0 is 15 s. An agent that starts late needs no repetition: the
	// first Hello waits for it in the connection.
	Resend time.Duration
	// CancelGrace is how long a cancelled operation may take to stop in the
	// guest before its caller gets the error anyway; 0 is 500 ms. The guest then
	// has the Grace of Watch to give a sign of life.
	CancelGrace time.Duration
	// Watch says when a guest that answers nothing counts as dead.
	Watch Watch
	// After is the clock for all of these; nil is time.After.
	After func(time.Duration) <-chan time.Time
	// Nonce is the source of session nonces; nil is crypto/rand.
	Nonce io.Reader
}

// Client is a session with an agent. Its methods are safe for concurrent use.
type Client struct {
	cfg       Config
	conn      net.Conn
	pace      pace // nil: the guest goes on by itself
	info      Info
	maxResult int // bytes of a result, all its frames together

	nonce wire.Nonce // the session's

	// sending is held while a frame is written. rest is what an interrupted
	// write left over: the next writer sends it first, so that frames stay
	// whole.
	sending chan struct{}
	rest    []byte

	mu     sync.Mutex
	ops    map[uint64]*call
	nextID uint64
	err    error
	// confirmed is closed by the answer to a Confirm; nil while none is under way.
	confirmed  chan struct{}
	confirming chan struct{} // has a token while a Confirm is under way
	forgot     chan struct{} // closed when the next operation ends; nil if nobody waits
	vigil      vigil

	done   chan struct{} // closed once err is set and the reader has ended
	failed chan struct{} // closed once err is set
}

// Connect makes the handshake over conn, which the Client owns from then on,
// also when Connect fails. conn may have been dialled before the guest opened
// its end. ErrVersion is wrapped when the agent is of another version.
func Connect(ctx context.Context, conn net.Conn, cfg Config) (*Client, error) {
	if cfg.Resend <= 0 {
		cfg.Resend = 15 * time.Second
	}
	if cfg.CancelGrace <= 0 {
		cfg.CancelGrace = 500 * time.Millisecond
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	if cfg.Nonce == nil {
		cfg.Nonce = rand.Reader
	}
	if cfg.Lost == nil {
		cfg.Lost = func(err error) error { return err }
	}
	c := &Client{
		cfg:       cfg,
		conn:      conn,
		maxResult: wire.MaxResult,
		sending:   make(chan struct{}, 1),

		confirming: make(chan struct{}, 1),

		ops:    make(map[uint64]*call),
		done:   make(chan struct{}),
		failed: make(chan struct{}),
	}
	c.vigil.watch = cfg.Watch.withDefaults()
	if p, ok := conn.(pace); ok {
		c.pace, c.vigil.passed = p, p.Passed
	}
	r, err := c.handshake(ctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	go c.read(r)
	return c, nil
}

// Info returns what the agent told in the handshake.
func (c *Client) Info() Info { return c.info }

// Done is closed when the link has ended and every pending operation has been
// given the reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the link ended, nil while it is up.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Fail ends the link; pending operations fail at once, and so does every later
// one, with an error that wraps reason. Only the first reason counts.
func (c *Client) Fail(reason error) {
	if reason == nil {
		reason = ErrLinkLost
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = reason
	ops := c.ops
	c.ops = nil
	close(c.failed)
	c.mu.Unlock()
	c.conn.Close()
	for _, op := range ops {
		op.notify()
	}
}

// Close ends the session and waits for its goroutine. Pending operations fail
// with ErrClosed. The guest is not told and needs not be: its agent sees the
// connection end.
func (c *Client) Close() error {
	c.Fail(ErrClosed)
	<-c.done
	return nil
}

// handshake sends the session's preamble and Hello and skips whatever comes
// (the end of an earlier session, firmware noise) up to the answer to it.
func (c *Client) handshake(ctx context.Context) (*wire.Reader, error) {
	if _, err := io.ReadFull(c.cfg.Nonce, c.nonce[:]); err != nil {
		return nil, fmt.Errorf("agent handshake: nonce: %w", err)
	}
	// Operation ids never meet those of another session: their upper half is
	// the session's own.
	c.nextID = uint64(binary.BigEndian.Uint32(c.nonce[:])) << 32

	// Ending the context unblocks both directions, and so does returning.
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	hello := c.hello()

	answered := make(chan struct{})
	var sender sync.WaitGroup
	sender.Add(1)
	go func() {
		defer sender.Done()
		again := append(make([]byte, wire.ResyncPadding), hello...)
		for p := hello; ; p = again {
			if _, err := c.conn.Write(p); err != nil {
				return // the reader sees the end of the connection too
			}
			if c.pace != nil { // its guest cannot be late, and loses nothing
				c.adjust(0, +1)
				return
			}
			select {
			case <-answered:
				return
			case <-ctx.Done():
				return
			case <-c.cfg.After(c.cfg.Resend):
			}
		}
	}()
	r := wire.NewReader(c.conn, 2*wire.MaxPayload)
	err := c.awaitHello(r)
	close(answered)
	if err != nil {
		// A sender stuck in a write ends with the connection.
		c.conn.Close()
	}
	sender.Wait()
	c.adjust(0, -1) // or the connection has ended
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("agent handshake: %w", err)
	}
	return r, nil
}

func (c *Client) awaitHello(r *wire.Reader) error {
	for {
		n, err := r.Resync()
		if err != nil {
			return linkError(err)
		}
		if n != c.nonce {
			continue
		}
		h, err := r.Next()
		if errors.Is(err, wire.ErrDesync) {
			continue
		}
		if err != nil {
			return linkError(err)
		}
		p, err := r.Payload(int(h.Length))
		if err != nil {
			return linkError(err)
		}
		switch h.Type {
		case wire.FrameHelloOk:
			m, err := wire.DecodeHelloOk(p)
			if err != nil {
				return err
			}
			if m.ProtocolVersion != wire.ProtocolVersion {
				return versionError(m.ProtocolVersion)
			}
			c.info = Info{
				AgentVersion: m.AgentVersion,
				GuestOS:      m.GuestOS,
				BootID:       m.BootID,
				Features:     m.AgentFeatures,
				Init:         m.Init,
				AgentID:      m.AgentID,
			}
			return nil
		case wire.FrameHelloErr:
			m, err := wire.DecodeHelloErr(p)
			if err != nil {
				return err
			}
			if m.ProtocolVersion != wire.ProtocolVersion {
				return versionError(m.ProtocolVersion)
			}
			return fmt.Errorf("agent refused the session: %s", m.Text)
		}
	}
}

func versionError(agent uint32) error {
	return fmt.Errorf("%w: host speaks version %d, agent speaks version %d", ErrVersion, wire.ProtocolVersion, agent)
}

func linkError(err error) error {
	switch {
	case endsALink(err):
		return ErrLinkLost
	case errors.Is(err, wire.ErrDesync) || errors.Is(err, wire.ErrMalformed):
		return fmt.Errorf("%w: the guest's agent port was written to by another program (%w). Only the agent may "+
			"write to /dev/vport*p1; look for what the test does with that device, or with the descriptors of the "+
			"process provium-agent", ErrLinkLost, err)
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // without the socket's path
	}
	return fmt.Errorf("%w: %w", ErrLinkLost, err)
}

// endsALink reports whether an error says nothing but that a connection has ended, in words that mean nothing to
// people.
func endsALink(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded,
		unix.ECONNRESET, unix.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// send writes one or more whole frames. When ctx ends first, what is left of
// them stays with the Client for the next writer.
func (c *Client) send(ctx context.Context, p []byte) error {
	select {
	case c.sending <- struct{}{}:
	default:
		select {
		case c.sending <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.failed:
			return c.Err()
		}
	}
	defer func() { <-c.sending }()
	if ctx.Done() != nil {
		expired := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			c.conn.SetWriteDeadline(time.Unix(1, 0))
			close(expired)
		})
		defer func() {
			if !stop() {
				<-expired
				c.conn.SetWriteDeadline(time.Time{})
			}
		}()
	}
	if len(c.rest) > 0 {
		n, err := c.conn.Write(c.rest)
		c.rest = c.rest[n:]
		if err != nil {
			return c.sendError(ctx, err)
		}
	}
	n, err := c.conn.Write(p)
	if err == nil {
		return nil
	}
	if n > 0 {
		c.rest = append([]byte(nil), p[n:]...)
	}
	return c.sendError(ctx, err)
}

func (c *Client) sendError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.Err() == nil {
		// The reader finds the same end and the reason for it.
		c.conn.Close()
		select {
		case <-c.failed:
		case <-ctx.Done():
			return linkError(err)
		}
	}
	return c.Err()
}

// read is the session's one goroutine: it takes every frame off the connection
// and never waits for anything else, so that no operation can stall another.
func (c *Client) read(r *wire.Reader) {
	defer close(c.done)
	err := c.frames(r)
	if c.Err() == nil {
		err = c.cfg.Lost(linkError(err))
	}
	c.Fail(err)
}

func (c *Client) frames(r *wire.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, wire.ErrDesync) {
			// The agent may answer a Hello that was repeated although its
			// first answer was on the way.
			if again, e := r.SkipPreamble(c.nonce); e != nil {
				return e
			} else if again {
				continue
			}
			if c.isConfirming() {
				if err := c.find(r); err != nil {
					return err
				}
				continue
			}
		}
		if err != nil {
			return err
		}
		c.vigil.heard.Add(1)
		c.mu.Lock()
		op := c.ops[h.Op]
		c.mu.Unlock()
		if h.Type == wire.FrameData && op != nil {
			if err := op.data(r, h); err != nil {
				return err
			}
			continue
		}
		p, err := r.Payload(int(h.Length))
		if err != nil {
			return err
		}
		if h.Type == wire.FrameHelloErr {
			m, err := wire.DecodeHelloErr(p)
			if err != nil {
				return err
			}
			return fmt.Errorf("agent ended the session: %s", m.Text)
		}
		if h.Type == wire.FrameHelloOk {
			if err := c.helloAgain(p); err != nil {
				return err
			}
			continue
		}
		if op == nil {
			continue // of an operation that was given up
		}
		switch h.Type {
		case wire.FrameCredit:
			n, err := wire.ParseCredit(p)
			if err != nil {
				return err
			}
			op.addCredit(n)
		case wire.FrameExpect:
			n, err := wire.ParseExpect(p)
			if err != nil {
				return err
			}
			op.expect(h.Stream, n)
		case wire.FrameResult:
			last, err := op.result(h, p)
			if err != nil {
				return err
			}
			if last {
				c.forget(h.Op)
			}
		default:
			return fmt.Errorf("%w: frame type %d from the agent", wire.ErrMalformed, h.Type)
		}
	}
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	delete(c.ops, id)
	if c.forgot != nil {
		close(c.forgot)
		c.forgot = nil
	}
	c.mu.Unlock()
}
