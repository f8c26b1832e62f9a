package uplink

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// connectLimit is the time limit for a connection of the host. The guest's own limit is
// usually shorter.
const connectLimit = 60 * time.Second

// acceptTCP carries one connection of a guest.
func (s *Stack) acceptTCP(r *tcp.ForwarderRequest) {
	e, ok := s.begin()
	if !ok {
		r.Complete(true)
		return
	}
	defer e.work.Done()
	f, ok := flowOf(protoTCP, r.ID())
	if !ok {
		r.Complete(true)
		return
	}
	out, err := s.connect(e.ctx, f)
	if err != nil {
		// By a reset or by an error, never by both.
		r.Complete(!s.refuse(f, err))
		return
	}
	var queue waiter.Queue
	ep, failed := handshake(e.ctx, r, &queue)
	r.Complete(failed != nil)
	if failed != nil {
		abort(out)
		return
	}
	splice(e.ctx, guestConn{gonet.NewTCPConn(&queue, ep), ep}, out)
}

// handshake makes the guest's side of a connection. For a guest that is gone the stack
// would wait for minutes, and it can be woken by its queue only: when the context ends,
// handshake notifies the queue until the stack has given up.
func handshake(ctx context.Context, r *tcp.ForwarderRequest, queue *waiter.Queue) (tcpip.Endpoint, tcpip.Error) {
	done := make(chan struct{})
	defer close(done)
	stop := context.AfterFunc(ctx, func() {
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			queue.Notify(waiter.WritableEvents)
			select {
			case <-again.C:
			case <-done:
				return
			}
		}
	})
	defer stop()
	return r.CreateEndpoint(queue)
}

// connect makes the host's side of a connection.
func (s *Stack) connect(ctx context.Context, f flow) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if !s.forNames(f) {
		return s.cfg.Dial(ctx, "tcp", s.target(f.to).String())
	}
	var err error = errNoResolver
	for _, server := range s.resolvers() {
		var conn net.Conn
		if conn, err = s.cfg.Dial(ctx, "tcp", server.String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// guestConn is a guest's connection that can be ended by a reset.
type guestConn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func (c guestConn) abort() { c.ep.Abort() }

// abort ends a connection by a reset, if possible.
func abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ abort() }:
		c.abort()
	case *net.TCPConn:
		_ = c.SetLinger(0) // it fails on a connection that is over
	}
	c.Close()
}

// splice moves bytes both ways until both sides have ended, or one of them fails
// or the context ends: then both are reset. It closes both.
func splice(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { abort(a); abort(b) })
	defer stop()
	var both sync.WaitGroup
	move := func(to, from net.Conn) {
		defer both.Done()
		if _, err := io.Copy(to, from); err != nil {
			abort(a)
			abort(b)
			return
		}
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite() // an error means that the peer is gone
		}
	}
	both.Add(2)
	go move(a, b)
	go move(b, a)
	both.Wait()
	a.Close()
	b.Close()
}

// Forward carries connections of a listener of the host to a guest until the
// listener is closed, and then ends them. It returns when all have ended.
func (s *Stack) Forward(ln net.Listener, to netip.AddrPort) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		work.Add(1)
		go func() {
			defer work.Done()
			limited, end := context.WithTimeout(ctx, connectLimit)
			guest, err := s.DialTCP(limited, to)
			end()
			if err != nil {
				abort(conn)
				return
			}
			splice(ctx, conn, guest)
		}()
	}
}
