package uplink

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"provium/internal/vnet/gateway"
)

const (
	// idleLimit is the time without datagrams after which a flow ends.
	idleLimit = 60 * time.Second
	// maxDatagram is the longest datagram in bytes.
	maxDatagram = 65535
)

// open adds a new flow to an era. It returns false if the flow exists already or there
// are too many.
func (s *Stack) open(e *era, f flow) (*outward, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, there := e.flows[f]; there || len(e.flows) >= maxFlows {
		return o, false
	}
	o := &outward{used: time.Now()}
	e.flows[f] = o
	return o, true
}

func (s *Stack) forget(e *era, f flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(e.flows, f)
}

// outward is the host's side of a flow of datagrams.
type outward struct {
	echo *echoSocket // set when a flow of echo is opened; the stack's lock guards it

	mu   sync.Mutex
	used time.Time
}

func (o *outward) touch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used = time.Now()
}

// left returns the time until the flow ends without datagrams.
func (o *outward) left() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Until(o.used.Add(idleLimit))
}

// deadliner is a connection that has a deadline for reads.
type deadliner interface {
	Read(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
}

// read is conn.Read that ends when the flow was silent for idleLimit.
func (o *outward) read(conn deadliner, buf []byte) (int, error) {
	for {
		left := o.left()
		if left <= 0 {
			return 0, net.ErrClosed
		}
		if err := conn.SetReadDeadline(time.Now().Add(left)); err != nil {
			return 0, err
		}
		n, err := conn.Read(buf)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			continue // the other way was used meanwhile, perhaps
		}
		if err == nil {
			o.touch()
		}
		return n, err
	}
}

// relay copies datagrams one way until reading or writing fails.
func (o *outward) relay(to, from net.Conn) (reading, writing error) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := o.read(from, buf)
		if err != nil {
			return err, nil
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return nil, err
		}
	}
}

// exchange moves datagrams both ways until the flow was silent for idleLimit, the context
// ends or the host's side fails, whose error it returns. It closes both.
func exchange(ctx context.Context, guest, host net.Conn) error {
	stop := context.AfterFunc(ctx, func() { guest.Close(); host.Close() })
	defer stop()
	o := &outward{used: time.Now()}
	var reading error
	var back sync.WaitGroup
	back.Add(1)
	go func() {
		defer back.Done()
		reading, _ = o.relay(guest, host)
		guest.Close()
	}()
	_, writing := o.relay(host, guest)
	host.Close()
	back.Wait()
	for _, err := range []error{writing, reading} {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}

// acceptUDP carries one flow of datagrams.
func (s *Stack) acceptUDP(r *udp.ForwarderRequest) bool {
	e, ok := s.begin()
	if !ok {
		return false // the stack answers: no listener
	}
	f, ok := flowOf(protoUDP, r.ID())
	if ok {
		_, ok = s.open(e, f)
	}
	if !ok {
		e.work.Done()
		return true
	}
	var queue waiter.Queue
	ep, failed := r.CreateEndpoint(&queue)
	if failed != nil {
		s.forget(e, f)
		e.work.Done()
		return true
	}
	guest := gonet.NewUDPConn(&queue, ep)
	go func() {
		defer e.work.Done()
		defer s.forget(e, f)
		defer guest.Close()
		if s.forNames(f) {
			s.serveNames(e.ctx, guest)
			return
		}
		host, err := s.cfg.Dial(e.ctx, "udp", s.target(f.to).String())
		if err == nil {
			err = exchange(e.ctx, guest, host)
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			if start := s.quotes.of(f); start != nil {
				s.cfg.Refuse(start, gateway.NoPort)
			}
		} else if err != nil {
			s.refuse(f, err)
		}
	}()
	return true
}

// ForwardDatagrams is Forward for datagrams: each sender has a separate socket towards
// the guest.
func (s *Stack) ForwardDatagrams(in net.PacketConn, to netip.AddrPort) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	var mu sync.Mutex
	clients := map[string]*client{}
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := in.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the kernel reports a client that is gone
		}
		mu.Lock()
		c := clients[from.String()]
		if c == nil && len(clients) < maxFlows {
			if guest, err := s.DialUDP(to); err == nil {
				c = &client{guest: guest, flow: outward{used: time.Now()}}
				clients[from.String()] = c
				work.Add(1)
				go func() {
					defer work.Done()
					c.back(ctx, in, from)
					mu.Lock()
					delete(clients, from.String())
					mu.Unlock()
				}()
			}
		}
		mu.Unlock()
		if c != nil {
			c.flow.touch()
			_, _ = c.guest.Write(buf[:n]) // datagrams may be lost
		}
	}
}

// client is a sender of datagrams to a forwarded port.
type client struct {
	guest *gonet.UDPConn
	flow  outward
}

// back passes the guest's answers to the sender.
func (c *client) back(ctx context.Context, in net.PacketConn, to net.Addr) {
	defer c.guest.Close()
	stop := context.AfterFunc(ctx, func() { c.guest.Close() })
	defer stop()
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.flow.read(c.guest, buf)
		if err != nil {
			return
		}
		_, _ = in.WriteTo(buf[:n], to)
	}
}
