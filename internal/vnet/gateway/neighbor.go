package gateway

import (
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// maxNeighbors is the number of addresses of guests that are kept, and maxWaiting
	// the number of packets that wait for one of them.
	maxNeighbors = 1024
	maxWaiting   = 32
	// trustFor is the time after which an address is asked for again. It is used until
	// the answer.
	trustFor = 30 * time.Second
	// attempts is the number of questions before a guest counts as absent.
	attempts = 3
)

// neighbor is the state of a guest's address.
type neighbor struct {
	at      mac
	since   time.Time // when that was heard; zero: never
	asked   int
	next    time.Time // when to ask again
	waiting []waiting
}

// waiting is a packet for a guest whose hardware address was asked for.
type waiting struct {
	packet  packet
	carried bool // for others: it is not a gateway's own
}

// learn records a hardware address. A new one is kept only if it was asked for, or with
// eager, since an answer to it will follow.
func (g *Gateway) learn(a netip.Addr, at mac, eager bool) {
	if at.group() || !g.v4.Contains(a) && !g.v6.Contains(a) || a == g.addr4 || a == g.addr6 {
		return
	}
	g.mu.Lock()
	n := g.neighbors[a]
	if n == nil {
		if !eager || len(g.neighbors) >= maxNeighbors && !g.evict() {
			g.mu.Unlock()
			return
		}
		n = &neighbor{}
		g.neighbors[a] = n
	}
	n.at, n.since, n.asked = at, g.now(), 0
	todo := n.waiting
	n.waiting = nil
	g.mu.Unlock()
	for _, w := range todo {
		g.transmit(at, &w.packet, w.carried)
	}
}

// evict makes room in the table. It returns false if all entries are in use. The
// caller must hold g.mu.
func (g *Gateway) evict() bool {
	for a, n := range g.neighbors {
		if len(n.waiting) == 0 && g.now().Sub(n.since) > trustFor {
			delete(g.neighbors, a)
			return true
		}
	}
	return false
}

// send sends a packet to a guest of this bridge.
func (g *Gateway) send(p *packet, carried bool) {
	g.mu.Lock()
	n := g.neighbors[p.dst]
	if n == nil && !g.closed && (len(g.neighbors) < maxNeighbors || g.evict()) {
		n = &neighbor{}
		g.neighbors[p.dst] = n
	}
	if n == nil {
		g.mu.Unlock()
		return
	}
	at, known := n.at, !n.since.IsZero()
	if !known && len(n.waiting) < maxWaiting {
		kept := *p
		kept.b = append([]byte(nil), p.b...)
		n.waiting = append(n.waiting, waiting{kept, carried})
	}
	ask := n.asked == 0 && g.now().Sub(n.since) > trustFor
	if ask {
		n.asked, n.next = 1, g.now().Add(g.retry)
		g.wakeUp()
	}
	g.mu.Unlock()
	if known {
		g.transmit(at, p, carried)
	}
	if ask {
		g.solicit(p.dst)
	}
}

// transmit sends a packet to a known station. A packet of another station does not reach a
// guest that is isolated.
func (g *Gateway) transmit(at mac, p *packet, carried bool) {
	if carried && g.isolated(at) {
		return
	}
	g.cfg.Send(buildFrame(at, g.mac, p.kind(), p.b))
}

// solicit asks for a guest's hardware address.
func (g *Gateway) solicit(a netip.Addr) {
	if a.Is4() {
		g.cfg.Send(buildFrame(broadcast, g.mac, typeARP, arp(arpRequest, g.mac, g.addr4, mac{}, a)))
		return
	}
	to := a.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: to[13], 14: to[14], 15: to[15]})
	body := make([]byte, icmpHeader, 32)
	body[0] = v6Solicit
	body = append(append(body, to[:]...), 1, 1)
	body = append(body, g.mac[:]...)
	p := icmp(g.addr6, group, protoICMPv6, 255, body)
	g.cfg.Send(buildFrame(mac{0x33, 0x33, 0xff, to[13], to[14], to[15]}, g.mac, typeIPv6, p.b))
}

// repeat asks again for addresses without an answer, or gives up after enough attempts.
// It returns when to call it again, or false if no question is open.
func (g *Gateway) repeat() (wait time.Duration, more bool) {
	var again []netip.Addr
	var lost []waiting
	g.mu.Lock()
	now := g.now()
	for a, n := range g.neighbors {
		if n.asked == 0 {
			continue
		}
		if !n.next.After(now) {
			if n.asked == attempts {
				lost = append(lost, n.waiting...)
				delete(g.neighbors, a)
				continue
			}
			n.asked++
			n.next = now.Add(g.retry)
			again = append(again, a)
		}
		if left := n.next.Sub(now); !more || left < wait {
			wait, more = left, true
		}
	}
	g.mu.Unlock()
	for _, a := range again {
		g.solicit(a)
	}
	for i := range lost {
		g.refuse(&lost[i].packet, NoHost)
	}
	return wait, more
}

const (
	arpRequest = 1
	arpReply   = 2
	arpLength  = 28
)

// arpStart has hardware and protocol of every ARP message for IPv4 on Ethernet.
var arpStart = [6]byte{0, 1, 8, 0, 6, 4}

func arp(op uint16, from mac, fromAddr netip.Addr, to mac, toAddr netip.Addr) []byte {
	b := append(make([]byte, 0, arpLength), arpStart[:]...)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, from[:]...), fromAddr.AsSlice()...)
	return append(append(b, to[:]...), toAddr.AsSlice()...)
}

// receiveARP answers questions for the gateway's address and records other addresses.
func (g *Gateway) receiveARP(b []byte) {
	if len(b) < arpLength || [6]byte(b[:6]) != arpStart {
		return
	}
	op, from, fromAddr := binary.BigEndian.Uint16(b[6:]), mac(b[8:14]), netip.AddrFrom4([4]byte(b[14:18]))
	toAddr := netip.AddrFrom4([4]byte(b[24:28]))
	asked := op == arpRequest && toAddr == g.addr4
	g.learn(fromAddr, from, asked)
	if asked && !from.group() {
		g.cfg.Send(buildFrame(from, g.mac, typeARP, arp(arpReply, g.mac, g.addr4, from, fromAddr)))
	}
}

// receiveNeighbor is receiveARP for IPv6. It returns false for a packet that is not one of
// neighbour discovery.
func (g *Gateway) receiveNeighbor(p *packet) bool {
	m, ok := p.message()
	if !ok || m[0] < 133 || m[0] > 137 {
		return false
	}
	if p.ttl != 255 || len(m) < 24 || m[1] != 0 || m[0] != v6Solicit && m[0] != v6Advertise {
		return true
	}
	target := netip.AddrFrom16([16]byte(m[8:24]))
	wanted := uint8(1) // the sender's own address
	if m[0] == v6Advertise {
		wanted = 2 // that of the target
	}
	at, found := linkOption(m[24:], wanted)
	if m[0] == v6Advertise {
		if found {
			g.learn(target, at, false)
		}
		return true
	}
	if found && !p.src.IsUnspecified() {
		g.learn(p.src, at, target == g.addr6)
	}
	if target != g.addr6 {
		return true
	}
	body := make([]byte, icmpHeader, 32)
	body[0], body[4] = v6Advertise, 0x80|0x40|0x20 // of a router, on request, and it replaces what was known
	body = append(append(body, m[8:24]...), 2, 1)
	body = append(body, g.mac[:]...)
	if p.src.IsUnspecified() {
		body[4] &^= 0x40
		all := netip.IPv6LinkLocalAllNodes()
		reply := icmp(g.addr6, all, protoICMPv6, 255, body)
		g.cfg.Send(buildFrame(mac{0x33, 0x33, 0, 0, 0, 1}, g.mac, typeIPv6, reply.b))
		return true
	}
	reply := icmp(g.addr6, p.src, protoICMPv6, 255, body)
	if found && !at.group() {
		g.cfg.Send(buildFrame(at, g.mac, typeIPv6, reply.b))
	} else if g.v6.Contains(p.src) {
		g.send(&reply, false)
	}
	return true
}

// linkOption returns a hardware address from the options of neighbour discovery.
func linkOption(b []byte, kind uint8) (at mac, ok bool) {
	for len(b) >= 8 {
		size := int(b[1]) * 8
		if size == 0 || size > len(b) {
			return at, false
		}
		if b[0] == kind {
			return mac(b[2:8]), true
		}
		b = b[size:]
	}
	return at, false
}
