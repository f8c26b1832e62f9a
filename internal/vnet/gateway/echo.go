package gateway

import "net/netip"

// Echo is a request of ping.
type Echo struct {
	From, To netip.Addr
	ID       uint16
	Rest     []byte // number and data
}

// ParseEcho decodes a whole packet that is a request.
func ParseEcho(b []byte) (e Echo, ok bool) {
	p, ok := parseAny(b)
	if !ok {
		return e, false
	}
	m, ok := p.message()
	if !ok || m[1] != 0 || m[0] != echoRequest && !p.v6 || m[0] != v6EchoRequest && p.v6 {
		return e, false
	}
	return Echo{p.src, p.dst, uint16(m[4])<<8 | uint16(m[5]), m[6:]}, true
}

// EchoReply returns the packet of a reply; rest is that of the request.
func EchoReply(from, to netip.Addr, id uint16, rest []byte) []byte {
	body := append([]byte{echoReply, 0, 0, 0, byte(id >> 8), byte(id)}, rest...)
	proto := uint8(protoICMP)
	if from.Is6() {
		body[0], proto = v6EchoReply, protoICMPv6
	}
	p := icmp(from, to, proto, startTTL, body)
	return p.b
}

// Checksum returns the checksum of IP over bytes in which it is 0.
func Checksum(b []byte) uint16 { return ^sum(b, 0) }
