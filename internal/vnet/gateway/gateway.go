package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Config describes a gateway.
type Config struct {
	MAC net.HardwareAddr
	// V4 and V6 are the networks of the bridge. The gateway has the first address
	// of both.
	V4, V6 netip.Prefix
	// Send sends a frame on the bridge. It must not keep the frame.
	Send func(frame []byte)
	// Isolated reports whether the guest with a hardware address is cut off from all
	// others. Nil means that no guest is.
	Isolated func(at [6]byte) bool
	// Now is the clock; nil is time.Now. Retry is the time between two questions
	// for the same guest; 0 is a second.
	Now   func() time.Time
	Retry time.Duration
}

// Uplink accepts packets that are for no bridge. It may keep them.
type Uplink interface {
	// Local accepts packets of TCP and UDP for the gateway itself.
	Local(packet []byte)
	// Outside accepts packets of TCP and UDP for other networks, and Echo whole
	// requests of ping. They return false if the uplink does not carry them now.
	Outside(packet []byte) bool
	Echo(packet []byte) bool
}

// Gateway is the router of one bridge.
type Gateway struct {
	cfg          Config
	mac          mac
	v4, v6       netip.Prefix
	addr4, addr6 netip.Addr
	now          func() time.Time
	retry        time.Duration

	mu        sync.Mutex
	neighbors map[netip.Addr]*neighbor
	peers     []*Gateway
	uplink    Uplink
	closed    bool

	wake chan struct{} // has a token when a question was asked
	stop chan struct{}
	done chan struct{}
}

// New starts a gateway. The caller must close it.
func New(cfg Config) (*Gateway, error) {
	if len(cfg.MAC) != len(mac{}) || !cfg.V4.Addr().Is4() || !cfg.V6.Addr().Is6() {
		return nil, fmt.Errorf("gateway of %v and %v at %v: not possible", cfg.V4, cfg.V6, cfg.MAC)
	}
	g := &Gateway{cfg: cfg, mac: mac(cfg.MAC), v4: cfg.V4.Masked(), v6: cfg.V6.Masked(), now: cfg.Now, retry: cfg.Retry,
		neighbors: map[netip.Addr]*neighbor{}, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		done: make(chan struct{})}
	g.addr4, g.addr6 = First(g.v4), First(g.v6)
	if g.now == nil {
		g.now = time.Now
	}
	if g.retry <= 0 {
		g.retry = time.Second
	}
	go g.run()
	return g, nil
}

// First returns the first address of a network: a gateway's.
func First(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// Close ends the gateway. Later frames are dropped.
func (g *Gateway) Close() {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.peers, g.uplink = nil, nil
	clear(g.neighbors)
	g.mu.Unlock()
	if first {
		close(g.stop)
	}
	<-g.done
}

// SetPeers sets the gateways of the bridges that are routed to.
func (g *Gateway) SetPeers(peers []*Gateway) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.peers = slices.Clone(peers)
	}
}

// SetUplink sets the uplink; nil is no uplink.
func (g *Gateway) SetUplink(u Uplink) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.uplink = u
	}
}

func (g *Gateway) neighborhood() ([]*Gateway, Uplink) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peers, g.uplink
}

func (g *Gateway) run() {
	defer close(g.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-g.wake:
		case <-g.stop:
			return
		}
		if wait, more := g.repeat(); more {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

func (g *Gateway) wakeUp() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *Gateway) isolated(at mac) bool { return g.cfg.Isolated != nil && g.cfg.Isolated(at) }

// Receive handles a frame from the bridge. It may change the frame, and does not keep it.
func (g *Gateway) Receive(b []byte) {
	f, ok := parseFrame(b)
	if !ok || f.dst != g.mac && !f.dst.group() {
		return
	}
	if f.kind == typeARP {
		g.receiveARP(f.payload)
		return
	}
	p, ok := parsePacket(f.kind, f.payload)
	if !ok || p.v6 && p.proto == protoICMPv6 && g.receiveNeighbor(&p) || f.dst != g.mac || !isHost(p.src) {
		return
	}
	g.route(&p, f.src)
}

// route passes on a packet that a guest has sent to the gateway.
func (g *Gateway) route(p *packet, from mac) {
	if p.dst == g.addr4 || p.dst == g.addr6 {
		g.local(p)
		return
	}
	if p.ttl <= 1 {
		g.refuse(p, Expired)
		return
	}
	peers, uplink := g.neighborhood()
	for _, to := range peers {
		if !to.v4.Contains(p.dst) && !to.v6.Contains(p.dst) {
			continue
		}
		if g.isolated(from) {
			return // as on the bridge itself: not a word
		}
		to.enter(p, g)
		return
	}
	switch {
	case !isHost(p.dst):
	case g.v4.Contains(p.dst) || g.v6.Contains(p.dst):
		g.refuse(p, Prohibited) // members of the same bridge need no gateway
	case uplink == nil:
		g.refuse(p, NoNetwork)
	case !g.v4.Contains(p.src) && !g.v6.Contains(p.src):
		g.refuse(p, Prohibited) // the answer would not find back
	default:
		g.sendOut(p, uplink)
	}
}

// sendOut passes a packet for other networks to the uplink.
func (g *Gateway) sendOut(p *packet, uplink Uplink) {
	carry := uplink.Outside
	if p.proto == protoICMP || p.proto == protoICMPv6 {
		if _, ok := ParseEcho(p.b); !ok {
			g.refuse(p, Prohibited)
			return
		}
		carry = uplink.Echo
	} else if p.proto != protoTCP && p.proto != protoUDP {
		g.refuse(p, Prohibited)
		return
	}
	if !carry(slices.Clone(p.b)) {
		g.refuse(p, NoNetwork)
	}
}

// enter handles a packet from the gateway of another bridge.
func (g *Gateway) enter(p *packet, from *Gateway) {
	switch {
	case p.dst == g.addr4 || p.dst == g.addr6:
		if reply, ok := answerEcho(p); ok {
			from.emit(&reply)
		} else {
			from.refuse(p, NoPort)
		}
	case p.dst == last(g.v4) || p.dst == g.v4.Addr() || p.dst == g.v6.Addr():
	default:
		p.age()
		g.send(p, true)
	}
}

// last returns the broadcast address of a network.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := range a {
		a[i] |= byte(0xff >> min(8, max(0, p.Bits()-8*i)))
	}
	return netip.AddrFrom4(a)
}

// local handles a packet for the gateway's own address.
func (g *Gateway) local(p *packet) {
	if reply, ok := answerEcho(p); ok {
		g.emit(&reply)
		return
	}
	if p.proto != protoTCP && p.proto != protoUDP {
		return
	}
	if _, uplink := g.neighborhood(); uplink != nil {
		uplink.Local(slices.Clone(p.b))
		return
	}
	g.refuse(p, NoPort)
}

// refuse tells the sender of a packet why it was not delivered.
func (g *Gateway) refuse(p *packet, why Reason) {
	from := g.addr4
	if p.v6 {
		from = g.addr6
	}
	if e, ok := icmpError(from, p, why); ok {
		g.emit(&e)
	}
}

// emit sends a gateway's own packet: to this bridge, or to that of a peer.
func (g *Gateway) emit(p *packet) {
	if g.v4.Contains(p.dst) || g.v6.Contains(p.dst) {
		g.send(p, false)
		return
	}
	peers, _ := g.neighborhood()
	for _, to := range peers {
		if to.v4.Contains(p.dst) || to.v6.Contains(p.dst) {
			to.send(p, false)
			return
		}
	}
}

// Deliver sends a packet of an uplink to a guest of this bridge.
func (g *Gateway) Deliver(b []byte) {
	if p, ok := parseAny(b); ok && (g.v4.Contains(p.dst) || g.v6.Contains(p.dst)) {
		g.send(&p, false)
	}
}

// Refuse tells the sender of a packet why an uplink does not carry it. At least the start
// of the packet is needed.
func (g *Gateway) Refuse(start []byte, why Reason) {
	if p, ok := parseStart(start); ok {
		g.refuse(&p, why)
	}
}

func parseAny(b []byte) (packet, bool) {
	if len(b) > 0 && b[0]>>4 == 6 {
		return parseIPv6(b)
	}
	return parseIPv4(b)
}

// parseStart reads the first bytes of a packet.
func parseStart(b []byte) (p packet, ok bool) {
	switch {
	case len(b) >= ipv6Header && b[0]>>4 == 6:
		return packet{b: b, v6: true, src: netip.AddrFrom16([16]byte(b[8:24])),
			dst:   netip.AddrFrom16([16]byte(b[24:40])),
			proto: b[6], transport: ipv6Header}, true
	case len(b) >= ipv4Header && b[0]>>4 == 4 && len(b) >= int(b[0]&15)*4:
		return packet{b: b, src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])),
			proto: b[9], transport: int(b[0]&15) * 4}, true
	}
	return p, false
}
