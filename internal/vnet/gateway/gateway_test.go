package gateway

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// station is a guest on a bridge, as far as a gateway sees it.
type station struct {
	t            *testing.T
	g            *Gateway
	mac          mac
	addr4, addr6 netip.Addr
	deaf         bool // answers no question for its address
	isolated     bool

	mu  sync.Mutex
	got []frame
	new chan struct{}
}

// newStation makes a bridge with a gateway and one guest at .2.
func newStation(t *testing.T, n byte) *station {
	t.Helper()
	s := &station{t: t, mac: mac{2, 0, 0, 0, n, 2}, addr4: netip.AddrFrom4([4]byte{10, 77, n, 2}),
		addr6: netip.AddrFrom16([16]byte{0xfd, 7: n, 15: 2}), new: make(chan struct{}, 1000)}
	var err error
	s.g, err = New(Config{MAC: net.HardwareAddr{2, 0, 0, 0, n, 1}, V4: netip.PrefixFrom(s.addr4, 24),
		V6:   netip.PrefixFrom(s.addr6, 64),
		Send: s.receive, Isolated: func(at [6]byte) bool { return s.isolated && at == s.mac },
		Retry: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.g.Close)
	return s
}

// receive is the guest's driver: it answers questions for its addresses.
func (s *station) receive(b []byte) {
	f, ok := parseFrame(bytes.Clone(b))
	if !ok {
		s.t.Errorf("the gateway sent % x", b)
		return
	}
	if f.kind == typeARP && f.dst == broadcast {
		if !s.deaf {
			s.g.Receive(buildFrame(s.g.mac, s.mac, typeARP, arp(arpReply, s.mac, s.addr4, s.g.mac, s.g.addr4)))
		}
		return
	}
	if p, ok := parsePacket(f.kind, f.payload); ok && p.proto == protoICMPv6 && p.payload()[0] == v6Solicit {
		if !s.deaf {
			to := s.addr6.As16()
			body := append([]byte{v6Advertise, 0, 0, 0, 0x60, 0, 0, 0}, to[:]...)
			body = append(append(body, 2, 1), s.mac[:]...)
			reply := icmp(s.addr6, s.g.addr6, protoICMPv6, 255, body)
			s.g.Receive(buildFrame(s.g.mac, s.mac, typeIPv6, reply.b))
		}
		return
	}
	s.mu.Lock()
	s.got = append(s.got, f)
	s.mu.Unlock()
	s.new <- struct{}{}
}

// next waits for a packet.
func (s *station) next() packet {
	s.t.Helper()
	select {
	case <-s.new:
	case <-time.After(10 * time.Second):
		s.t.Fatal("nothing came")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.got[0]
	s.got = s.got[1:]
	p, ok := parsePacket(f.kind, f.payload)
	if !ok || f.dst != s.mac || f.src != s.g.mac {
		s.t.Fatalf("%+v", f)
	}
	return p
}

func (s *station) quiet() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) > 0 {
		s.t.Fatalf("unexpected: %+v", s.got)
	}
}

// send sends a packet by the gateway.
func (s *station) send(p packet) {
	s.g.Receive(buildFrame(s.g.mac, s.mac, p.kind(), bytes.Clone(p.b)))
}

func (s *station) udp(to netip.Addr, ttl uint8) packet {
	from := s.addr4
	if to.Is6() {
		from = s.addr6
	}
	return build(from, to, protoUDP, ttl, []byte("\x00\x10\x00\x11\x00\x0c\x00\x00data"))
}

func pairOfBridges(t *testing.T) (a, b *station) {
	a, b = newStation(t, 1), newStation(t, 2)
	a.g.SetPeers([]*Gateway{b.g})
	b.g.SetPeers([]*Gateway{a.g})
	return a, b
}

// wantError checks that p is the error of that type and code about a packet.
func wantError(t *testing.T, p, about packet, kind, code uint8) {
	t.Helper()
	m, ok := p.message()
	if !ok || m[0] != kind || m[1] != code || p.dst != about.src {
		t.Fatalf("%+v, want error %d/%d", p, kind, code)
	}
	if !bytes.HasPrefix(m[icmpHeader:], about.b[:7]) || len(m) < icmpHeader+about.transport+8 {
		t.Errorf("it quotes % x", m[icmpHeader:])
	}
}

func TestRoute(t *testing.T) {
	a, b := pairOfBridges(t)
	for _, to := range []netip.Addr{b.addr4, b.addr6} {
		sent := a.udp(to, 9)
		a.send(sent)
		got := b.next()
		if got.ttl != 8 || got.src != sent.src || got.dst != to || !bytes.Equal(got.payload(), sent.payload()) {
			t.Errorf("%+v", got)
		}
	}
}

func TestExpired(t *testing.T) {
	a, b := pairOfBridges(t)
	for ttl := range uint8(2) {
		sent := a.udp(b.addr4, ttl)
		a.send(sent)
		wantError(t, a.next(), sent, timeExceeded, 0)
		sent = a.udp(b.addr6, ttl)
		a.send(sent)
		wantError(t, a.next(), sent, v6TimeExceeded, 0)
	}
	b.quiet()
}

func TestUnreachable(t *testing.T) {
	a, b := pairOfBridges(t)
	for _, c := range []struct {
		to         string
		kind, code uint8
	}{{"192.0.2.1", unreachable, 0}, {"2001:db8::1", v6Unreachable, 0}, // no uplink
		{"10.77.2.9", unreachable, 1}, {"fd00:0:0:2::9", v6Unreachable, 3}, // nobody there
		{"10.77.1.3", unreachable, 13}, {"fd00:0:0:1::3", v6Unreachable, 1}, // on the same bridge
		{"10.77.1.1", unreachable, 3}, {"fd00:0:0:1::1", v6Unreachable, 4}, // the gateway itself
		{"10.77.2.1", unreachable, 3}} {
		sent := a.udp(netip.MustParseAddr(c.to), 64)
		a.send(sent)
		wantError(t, a.next(), sent, c.kind, c.code)
	}
	b.quiet()
}

func TestNoErrorAboutErrors(t *testing.T) {
	a, b := pairOfBridges(t)
	sent := a.udp(netip.MustParseAddr("192.0.2.1"), 64)
	a.send(sent)
	e := a.next()
	again := build(a.addr4, netip.MustParseAddr("192.0.2.1"), protoICMP, 64, e.payload())
	a.send(again)
	fragment := sent
	fragment.b = bytes.Clone(sent.b)
	fragment.b[7] = 9
	binary.BigEndian.PutUint16(fragment.b[10:], 0)
	binary.BigEndian.PutUint16(fragment.b[10:], ^sum(fragment.b[:ipv4Header], 0))
	a.send(fragment)
	for _, to := range []string{"224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "169.254.169.254", "ff02::1",
		"10.77.2.255", "10.77.2.0"} {
		a.send(a.udp(netip.MustParseAddr(to), 64))
	}
	for _, from := range []string{"127.0.0.1", "0.0.0.0", "224.0.0.1"} {
		a.send(build(netip.MustParseAddr(from), b.addr4, protoUDP, 64, make([]byte, 8)))
	}
	a.quiet()
	b.quiet()
}

func TestEcho(t *testing.T) {
	a, b := pairOfBridges(t)
	for _, to := range []netip.Addr{a.g.addr4, b.g.addr4, a.g.addr6, b.g.addr6} {
		from, kind, proto := a.addr4, uint8(echoRequest), uint8(protoICMP)
		if to.Is6() {
			from, kind, proto = a.addr6, v6EchoRequest, protoICMPv6
		}
		a.send(icmp(from, to, proto, 64, []byte{kind, 0, 0, 0, 1, 2, 3, 4, 'x'}))
		got := a.next()
		m, ok := got.message()
		if !ok || got.src != to || got.dst != from || string(m[4:]) != "\x01\x02\x03\x04x" || m[0] != echoReply &&
			m[0] != v6EchoReply {
			t.Errorf("%+v", got)
		}
	}
}

func TestAnswersForItsAddress(t *testing.T) {
	s := newStation(t, 1)
	s.g.Receive(buildFrame(broadcast, s.mac, typeARP, arp(arpRequest, s.mac, s.addr4, mac{}, s.g.addr4)))
	<-s.new
	if f := s.got[0]; f.kind != typeARP || f.dst != s.mac ||
		!bytes.Equal(f.payload, arp(arpReply, s.g.mac, s.g.addr4, s.mac, s.addr4)) {
		t.Errorf("%+v", f)
	}
	s.got = nil
	s.g.Receive(buildFrame(broadcast, s.mac, typeARP, arp(arpRequest, s.mac, s.addr4, mac{}, s.addr4.Next())))
	s.quiet()
	to := s.g.addr6.As16()
	body := append([]byte{v6Solicit, 0, 0, 0, 0, 0, 0, 0}, to[:]...)
	body = append(append(body, 1, 1), s.mac[:]...)
	ask := icmp(s.addr6, s.g.addr6, protoICMPv6, 255, body)
	s.send(ask)
	got := s.next()
	if m, ok := got.message(); !ok || m[0] != v6Advertise || !bytes.Equal(m[8:24], to[:]) {
		t.Errorf("%+v", got)
	}
	ask.b[7] = 64 // it came from afar
	s.send(ask)
	s.quiet()
}

func TestIsolation(t *testing.T) {
	a, b := pairOfBridges(t)
	b.isolated = true
	a.send(a.udp(b.addr4, 64))
	b.send(b.udp(a.addr4, 64))
	a.quiet()
	b.quiet()
	b.send(icmp(b.addr4, b.g.addr4, protoICMP, 64, []byte{echoRequest, 0, 0, 0, 1, 2, 3, 4}))
	b.next() // the gateway stays reachable
}

// TestCircle joins three bridges in a circle: nothing runs in it.
func TestCircle(t *testing.T) {
	all := []*station{newStation(t, 1), newStation(t, 2), newStation(t, 3)}
	for i, s := range all {
		s.g.SetPeers([]*Gateway{all[(i+1)%3].g, all[(i+2)%3].g})
	}
	for i, from := range all {
		to := all[(i+2)%3]
		from.send(from.udp(to.addr4, 64))
		if got := to.next(); got.ttl != 63 {
			t.Errorf("%+v", got)
		}
	}
	// Without the third side, the middle one does not pass on.
	all[0].g.SetPeers([]*Gateway{all[1].g})
	all[2].g.SetPeers([]*Gateway{all[1].g})
	sent := all[0].udp(all[2].addr4, 64)
	all[0].send(sent)
	wantError(t, all[0].next(), sent, unreachable, 0)
	all[2].quiet()
}

// uplinkRecord is an uplink that keeps what it is given.
type uplinkRecord struct{ local, outside, echo int }

func (u *uplinkRecord) Local([]byte)        { u.local++ }
func (u *uplinkRecord) Outside([]byte) bool { u.outside++; return true }
func (u *uplinkRecord) Echo([]byte) bool    { u.echo++; return false }

func TestUplink(t *testing.T) {
	s := newStation(t, 1)
	u := &uplinkRecord{}
	s.g.SetUplink(u)
	far := netip.MustParseAddr("192.0.2.1")
	s.send(s.udp(far, 64))
	s.send(s.udp(s.g.addr4, 64))
	ping := icmp(s.addr4, far, protoICMP, 64, []byte{echoRequest, 0, 0, 0, 1, 2, 3, 4})
	s.send(ping)
	wantError(t, s.next(), ping, unreachable, 0)
	foreign := build(netip.MustParseAddr("10.9.9.9"), far, protoUDP, 64, make([]byte, 8))
	s.send(foreign)
	s.send(build(s.addr4, far, 47, 64, make([]byte, 8)))
	s.next()
	if *u != (uplinkRecord{1, 1, 1}) {
		t.Errorf("%+v", *u)
	}
	s.g.Deliver(build(far, s.addr4, protoUDP, 64, make([]byte, 8)).b)
	if got := s.next(); got.src != far {
		t.Errorf("%+v", got)
	}
	sent := s.udp(far, 64)
	s.g.Refuse(sent.b[:ipv4Header+8], NoPort)
	wantError(t, s.next(), sent, unreachable, 3)
}

// FuzzReceive hands a gateway with a peer and an uplink whatever comes.
func FuzzReceive(f *testing.F) {
	a := netip.MustParseAddr("10.77.1.2")
	for _, p := range []packet{
		build(a, netip.MustParseAddr("10.77.2.2"), protoUDP, 64, make([]byte, 8)),
		build(a, netip.MustParseAddr("192.0.2.1"), protoTCP, 1, make([]byte, 20)),
		build(netip.MustParseAddr("fd00:0:0:1::2"), netip.MustParseAddr("fd00:0:0:2::2"), protoHopByHop, 64,
			[]byte{protoUDP, 0, 1, 2, 3, 4, 5, 6, 7, 8}),
		icmp(a, netip.MustParseAddr("10.77.1.1"), protoICMP, 64, []byte{echoRequest, 0, 0, 0, 1, 2, 3, 4}),
	} {
		f.Add(uint16(p.kind()), p.b)
	}
	f.Add(uint16(typeARP), arp(arpRequest, mac{2}, a, mac{}, netip.MustParseAddr("10.77.1.1")))
	f.Fuzz(func(t *testing.T, kind uint16, payload []byte) {
		var gs [2]*Gateway
		for i := range gs {
			n := byte(i + 1)
			var err error
			gs[i], err = New(Config{MAC: net.HardwareAddr{2, 0, 0, 0, n, 1},
				V4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, n, 0}), 24),
				V6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 7: n}), 64), Send: func(b []byte) {
					sent, ok := parseFrame(b)
					if !ok || len(b) > etherHeader+len(payload)+maxError6 {
						t.Errorf("sent % x", b)
					}
					if sent.kind != typeARP {
						if p, ok := parsePacket(sent.kind, sent.payload); !ok || len(p.b) != len(sent.payload) {
							t.Errorf("sent % x", b)
						}
					}
				}})
			if err != nil {
				t.Fatal(err)
			}
			defer gs[i].Close()
		}
		gs[0].SetPeers(gs[1:])
		gs[1].SetPeers(gs[:1])
		gs[0].SetUplink(&uplinkRecord{})
		for _, dst := range []mac{gs[0].mac, broadcast} {
			gs[0].Receive(buildFrame(dst, mac{2, 0, 0, 0, 1, 2}, kind, payload))
		}
		gs[0].Deliver(bytes.Clone(payload))
		gs[0].Refuse(bytes.Clone(payload), NoHost)
	})
}
