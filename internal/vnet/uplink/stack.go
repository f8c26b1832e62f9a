package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"provium/internal/vnet/gateway"
)

// Config describes the uplink of one bridge.
type Config struct {
	// V4 and V6 are the bridge's networks; their first addresses are the gateway's.
	V4, V6 netip.Prefix
	// Deliver sends a packet to a guest.
	Deliver func(packet []byte)
	// Refuse sends a guest the reason why a packet was not carried. start is the
	// beginning of the packet.
	Refuse func(start []byte, why gateway.Reason)
	// Dial opens connections of the host. nil is an ordinary net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolvers are the name servers of the host. They are asked for at each query.
	Resolvers func() []netip.AddrPort
}

const (
	// mtu is the longest packet of the stack itself.
	mtu = 1500
	// maxQueued is the number of packets that may wait for Deliver. More are dropped,
	// as in a network.
	maxQueued = 2048
	// maxConnects is the number of connections that may be opened at once, and maxFlows
	// the number of flows of each protocol.
	maxConnects = 512
	maxFlows    = 4096

	nicID = 1
)

// Stack terminates the guests' connections.
type Stack struct {
	cfg          Config
	addr4, addr6 netip.Addr
	ip           *stack.Stack
	link         *channel.Endpoint
	quotes       quotes
	queued       chan struct{} // has a token when the stack has sent something
	stop, pumped chan struct{}
	delivering   sync.Mutex // held while packets are taken off the queue

	mu     sync.Mutex
	era    *era // nil while disabled
	closed bool
}

// era is the time from Enable to Disable, with all flows in it.
type era struct {
	ctx    context.Context
	cancel context.CancelFunc
	flows  map[flow]*outward // of UDP and echo
	work   sync.WaitGroup
}

// New starts a stack that carries nothing out yet. The caller must close it.
func New(cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg, addr4: gateway.First(cfg.V4), addr6: gateway.First(cfg.V6),
		queued: make(chan struct{}, 1), stop: make(chan struct{}), pumped: make(chan struct{})}
	if s.cfg.Dial == nil {
		s.cfg.Dial = (&net.Dialer{}).DialContext
	}
	s.link = channel.New(maxQueued, mtu, "")
	s.ip = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := s.configure(); err != nil {
		s.ip.Close()
		return nil, fmt.Errorf("network stack: %w", err)
	}
	s.link.AddNotify(s)
	go s.pump()
	return s, nil
}

// configure makes the stack accept packets for all addresses.
func (s *Stack) configure() error {
	if err := s.ip.CreateNIC(nicID, s.link); err != nil {
		return errors.New(err.String())
	}
	for _, p := range []netip.Prefix{s.cfg.V4, s.cfg.V6} {
		own := tcpip.AddrFromSlice(gateway.First(p).AsSlice())
		err := s.ip.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: own, PrefixLen: p.Bits()}}, stack.AddressProperties{})
		if err != nil {
			return errors.New(err.String())
		}
	}
	if err := s.ip.SetPromiscuousMode(nicID, true); err != nil {
		return errors.New(err.String())
	}
	if err := s.ip.SetSpoofing(nicID, true); err != nil {
		return errors.New(err.String())
	}
	s.ip.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID}})
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.ip.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return errors.New(err.String())
	}
	s.ip.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s.ip, 0, maxConnects,
		s.acceptTCP).HandlePacket)
	s.ip.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.ip, s.acceptUDP).HandlePacket)
	return nil
}

// Close ends all connections and returns when all goroutines have ended.
func (s *Stack) Close() {
	s.Disable()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return
	}
	close(s.stop)
	<-s.pumped
	s.ip.Close()
	s.ip.Wait()
	s.link.Close()
}

// Enable starts to carry packets out.
func (s *Stack) Enable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.era == nil && !s.closed {
		e := &era{flows: map[flow]*outward{}}
		e.ctx, e.cancel = context.WithCancel(context.Background())
		s.era = e
	}
}

// Disable ends all flows, and returns when their goroutines have ended.
func (s *Stack) Disable() {
	s.mu.Lock()
	e := s.era
	s.era = nil
	s.mu.Unlock()
	if e != nil {
		e.cancel()
		e.work.Wait()
		s.deliver() // before the caller cuts the guests off
	}
}

// begin adds a goroutine to the present era, and returns false if there is no era. The
// caller must call end.
func (s *Stack) begin() (e *era, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.era == nil {
		return nil, false
	}
	s.era.work.Add(1)
	return s.era, true
}

// WriteNotify implements channel.Notification: the stack has sent a packet.
func (s *Stack) WriteNotify() {
	select {
	case s.queued <- struct{}{}:
	default:
	}
}

// pump delivers what the stack sends.
func (s *Stack) pump() {
	defer close(s.pumped)
	for {
		select {
		case <-s.queued:
			s.deliver()
		case <-s.stop:
			return
		}
	}
}

// deliver delivers what the stack has sent so far.
func (s *Stack) deliver() {
	s.delivering.Lock()
	defer s.delivering.Unlock()
	for p := s.link.Read(); p != nil; p = s.link.Read() {
		v := p.ToView()
		s.cfg.Deliver(v.AsSlice())
		v.Release()
		p.DecRef()
	}
}

// Local accepts a packet for the gateway itself.
func (s *Stack) Local(packet []byte) {
	s.quotes.note(packet)
	s.inject(packet)
}

// Outside accepts a packet of TCP or UDP for other networks. It returns false if nothing
// is carried out now.
func (s *Stack) Outside(packet []byte) bool {
	if e, ok := s.begin(); ok {
		defer e.work.Done()
		s.Local(packet)
		return true
	}
	return false
}

func (s *Stack) inject(packet []byte) {
	protocol := ipv4.ProtocolNumber
	if len(packet) > 0 && packet[0]>>4 == 6 {
		protocol = ipv6.ProtocolNumber
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	s.link.InjectInbound(protocol, p)
	p.DecRef()
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

// DialTCP connects to a guest, from the gateway's address.
func (s *Stack) DialTCP(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, s.ip, fullAddress(to), protocolOf(to.Addr()))
}

// DialUDP opens a socket to a guest, from the gateway's address.
func (s *Stack) DialUDP(to netip.AddrPort) (*gonet.UDPConn, error) {
	remote := fullAddress(to)
	return gonet.DialUDP(s.ip, nil, &remote, protocolOf(to.Addr()))
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// flow is a pair of endpoints and a protocol.
type flow struct {
	proto    uint8
	from, to netip.AddrPort
}

// flowOf returns the flow of an endpoint, whose local end is the one that a guest
// speaks to.
func flowOf(proto uint8, id stack.TransportEndpointID) (flow, bool) {
	from, ok1 := netip.AddrFromSlice(id.RemoteAddress.AsSlice())
	to, ok2 := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return flow{proto, netip.AddrPortFrom(from, id.RemotePort), netip.AddrPortFrom(to, id.LocalPort)}, ok1 && ok2
}

// target returns the host's address for what a guest speaks to.
func (s *Stack) target(to netip.AddrPort) netip.AddrPort {
	switch to.Addr() {
	case s.addr4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	case s.addr6:
		return netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	return to
}

// forNames reports whether a flow has name queries to the gateway.
func (s *Stack) forNames(f flow) bool {
	return f.to.Port() == namePort && (f.to.Addr() == s.addr4 || f.to.Addr() == s.addr6)
}
