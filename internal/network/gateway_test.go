package network

import (
	"encoding/binary"
	"net"
	"reflect"
	"slices"
	"testing"

	"provium/internal/vnet"
	"provium/internal/vnet/packet"
)

// meetGateway has the guest ask for the gateway of its bridge and returns the
// gateway's address.
func (v *fakeVM) meetGateway(t *testing.T, slot int, n *NIC) (mac []byte) {
	t.Helper()
	gate := net.IP(n.bridge.v4.Addr().Next().AsSlice())
	v.sendFrame(t, slot, arp(arpRequest, broadcast, n.mac, net.ParseIP(n.IP()), gate))
	reply := v.awaitFrame(t, slot, isARP(arpReply, gate))
	return reply[6:12]
}

// ping returns an echo request in an IPv4 packet in a frame.
func ping(to, from []byte, fromIP, toIP net.IP) []byte {
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1, 'p', 'i', 'n', 'g'}
	binary.BigEndian.PutUint16(echo[2:], checksum(echo))
	ip := []byte{0x45, 0, 0, byte(20 + len(echo)), 0, 0, 0, 0, 64, 1, 0, 0}
	ip = append(append(ip, fromIP.To4()...), toIP.To4()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return frameOf(to, from, 0x0800, append(ip, echo...)...)
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestRouteCarriesPackets sends a packet from one bridge to another.
func TestRouteCarriesPackets(t *testing.T) {
	s := newSite(t)
	a, c := s.vm("a"), s.vm("c")
	lan, wan := s.bridge("lan", nil), s.bridge("wan", nil)
	attach(t, lan, "a")
	attach(t, wan, "c")
	must(t, lan.Route(t.Context(), []*Bridge{wan}))
	a.boot(t, s)
	c.boot(t, s)
	awaitLive(t, lan)
	awaitLive(t, wan)
	from, _ := lan.NIC("a", "")
	to, _ := wan.NIC("c", "")
	toIP := net.ParseIP(to.IP())
	a.sendFrame(t, 1, ping(a.meetGateway(t, 1, from), from.mac, net.ParseIP(from.IP()), toIP))
	asked := c.awaitFrame(t, 1, isARP(arpRequest, toIP))
	c.sendFrame(t, 1, arp(arpReply, asked[6:12], to.mac, toIP, net.IP(asked[28:32])))
	got := c.awaitFrame(t, 1, func(f []byte) bool { return packet.Decode(f).Proto == "icmp" })
	if ttl := got[14+8]; ttl != 63 || !net.IP(got[14+12:14+16]).Equal(net.ParseIP(from.IP())) {
		t.Errorf("received % x", got)
	}
}

func TestRoutes(t *testing.T) {
	s := newSite(t)
	a, b, c := s.bridge("a", nil), s.bridge("b", nil), s.bridge("c", nil)
	must(t, b.Route(t.Context(), []*Bridge{c, a}))
	must(t, b.Route(t.Context(), []*Bridge{a})) // again
	must(t, a.Route(t.Context(), []*Bridge{c}))
	for bridge, want := range map[*Bridge][]string{a: {"b", "c"}, b: {"c", "a"}, c: {"b", "a"}} {
		if got := bridge.Routes(); !slices.Equal(got, want) {
			t.Errorf("routes of %s: %v, want %v", bridge.Name(), got, want)
		}
	}
	wantError(t, a.Route(t.Context(), []*Bridge{b, a}), "cannot be routed to itself")
	plain := s.bridge("plain", &BridgeOpts{NoAddressing: true})
	wantError(t, a.Route(t.Context(), []*Bridge{plain}), "bridge `plain` has no addressing")
	wantError(t, plain.Route(t.Context(), []*Bridge{a}), "bridge `plain` has no addressing")
	wantError(t, plain.EnableUplink(t.Context()), "bridge `plain` has no addressing")
	v := s.vm("v")
	attach(t, c, "v")
	v.syncs()
	must(t, a.Close(t.Context()))
	if v.syncs() != 1 {
		t.Error("a member of a routed bridge was not told of a close")
	}
	if got := c.Routes(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("routes %v to a closed bridge", got)
	}
	wantError(t, c.Route(t.Context(), []*Bridge{a}), "bridge `a` is closed")
	must(t, c.Close(t.Context()))
	if b.gateway != nil {
		t.Error("a gateway without a use is open")
	}
	v.set(func() { v.err = errFake })
	attach(t, b, "x")
	must(t, b.Detach(t.Context(), "x", ""))
	d := s.bridge("d", nil)
	_, err := d.join(endpoints("v"))
	must(t, err)
	wantError(t, b.Route(t.Context(), []*Bridge{d}), "bridge `b` routes", errFake.Error())
	v.set(func() { v.err = nil })
}

// TestForward reaches for a guest's port from the host: the gateway asks for the
// guest.
func TestForward(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	b := s.bridge("b", nil)
	wantError(t, forward1(b, ForwardOpts{VM: "v", Port: 80}), "not attached")
	attach(t, b, "v")
	v.boot(t, s)
	awaitLive(t, b)
	for _, port := range []int{0, 65536} {
		wantError(t, forward1(b, ForwardOpts{VM: "v", Port: port}), "out of range")
	}
	n, _ := b.NIC("v", "")
	for network, udp := range map[string]bool{"tcp": false, "udp": true} {
		opts := ForwardOpts{VM: "v", Port: 80, UDP: udp}
		address, err := b.Forward(opts)
		must(t, err)
		if again, err := b.Forward(opts); again != address || err != nil {
			t.Errorf("%s, then %s, %v", address, again, err)
		}
		conn, err := net.Dial(network, address)
		must(t, err)
		_, err = conn.Write([]byte("hello"))
		must(t, err)
		v.awaitFrame(t, 1, isARP(arpRequest, net.ParseIP(n.IP())))
		must(t, conn.Close())
	}
	must(t, b.Close(t.Context()))
	wantError(t, forward1(b, ForwardOpts{VM: "v", Port: 80}), "closed")
	if b.gateway != nil || b.forwards != nil {
		t.Error("a closed bridge has a gateway")
	}
}

func forward1(b *Bridge, o ForwardOpts) error {
	_, err := b.Forward(o)
	return err
}

// TestGatewayFailure leaves a bridge without networks as it is.
func TestGatewayFailure(t *testing.T) {
	s := newSite(t)
	b, c := s.bridge("b", nil), s.bridge("c", nil)
	attach(t, b, "v")
	v4 := b.v4
	b.v4 = b.v6 // no gateway can be there
	for op, err := range map[string]error{
		"route":   c.Route(t.Context(), []*Bridge{b}),
		"uplink":  b.EnableUplink(t.Context()),
		"forward": forward1(b, ForwardOpts{VM: "v", Port: 80}),
	} {
		wantError(t, err, op, "not possible")
	}
	b.v4 = v4
	if b.gateway != nil || c.gateway != nil || len(c.Routes()) != 0 {
		t.Error("something is left of a gateway that failed")
	}
	if ports := b.Switch().Save(); !reflect.DeepEqual(ports, vnet.State{}) {
		t.Errorf("the switch has %+v", ports)
	}
}
