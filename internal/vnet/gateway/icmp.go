package gateway

import (
	"encoding/binary"
	"net/netip"
)

// ICMP of both versions: types.
const (
	echoReply      = 0
	unreachable    = 3
	echoRequest    = 8
	timeExceeded   = 11
	v6Unreachable  = 1
	v6TooBig       = 2
	v6TimeExceeded = 3
	v6Problem      = 4
	v6EchoRequest  = 128
	v6EchoReply    = 129
	v6Solicit      = 135
	v6Advertise    = 136

	icmpHeader = 8
)

// Reason is why a packet was not delivered.
type Reason int

// Reasons.
const (
	Expired    Reason = iota // its time to live is used up
	NoNetwork                // there is no way to that network
	NoHost                   // no answer from that address
	NoPort                   // no listener at that port
	Prohibited               // it may not go there
)

// codes are type and code of each reason in ICMP, then in ICMPv6.
var codes = [...][4]uint8{
	Expired:    {timeExceeded, 0, v6TimeExceeded, 0},
	NoNetwork:  {unreachable, 0, v6Unreachable, 0},
	NoHost:     {unreachable, 1, v6Unreachable, 3},
	NoPort:     {unreachable, 3, v6Unreachable, 4},
	Prohibited: {unreachable, 13, v6Unreachable, 1},
}

const (
	// maxError4 and maxError6 are the longest errors in bytes, which every station
	// accepts.
	maxError4 = 576
	maxError6 = 1280
)

// icmpError returns the error for a packet, or false for a packet that must not be
// answered by an error.
func icmpError(from netip.Addr, about *packet, why Reason) (packet, bool) {
	if about.fragment || !isHost(about.src) || !isHost(about.dst) || isError(about) {
		return packet{}, false
	}
	code, proto := codes[why][:2], uint8(protoICMP)
	quote := about.b[:min(len(about.b), maxError4-ipv4Header-icmpHeader)]
	if about.v6 {
		code, proto = codes[why][2:], protoICMPv6
		quote = about.b[:min(len(about.b), maxError6-ipv6Header-icmpHeader)]
	}
	body := append(make([]byte, icmpHeader, icmpHeader+len(quote)), quote...)
	body[0], body[1] = code[0], code[1]
	return icmp(from, about.src, proto, startTTL, body), true
}

// icmp returns a packet with a message, and sets the checksum.
func icmp(src, dst netip.Addr, proto, ttl uint8, body []byte) packet {
	var start uint32
	if proto == protoICMPv6 {
		start = pseudo(src, dst, proto, len(body))
	}
	body[2], body[3] = 0, 0
	binary.BigEndian.PutUint16(body[2:], ^sum(body, start))
	return build(src, dst, proto, ttl, body)
}

// message returns the ICMP in a whole packet, with a right checksum.
func (p *packet) message() ([]byte, bool) {
	m := p.payload()
	if p.partial || len(m) < icmpHeader {
		return nil, false
	}
	switch {
	case !p.v6 && p.proto == protoICMP:
		return m, sum(m, 0) == 0xffff
	case p.v6 && p.proto == protoICMPv6:
		return m, sum(m, pseudo(p.src, p.dst, protoICMPv6, len(m))) == 0xffff
	}
	return nil, false
}

// isError reports whether a packet is an error itself, or may be one.
func isError(p *packet) bool {
	switch {
	case !p.v6 && p.proto == protoICMP:
		m := p.payload()
		return len(m) == 0 || m[0] != echoRequest && m[0] != echoReply && m[0] < 13
	case p.v6 && p.proto == protoICMPv6:
		m := p.payload()
		return len(m) == 0 || m[0] < v6EchoRequest
	}
	return false
}

// isHost reports whether an address belongs to one station, and packets may be carried
// to it over networks.
func isHost(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		if b[0] == 0 || b[0] >= 240 {
			return false
		}
	}
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// answerEcho returns the reply to an echo request, or false for any other packet.
func answerEcho(p *packet) (packet, bool) {
	m, ok := p.message()
	if !ok {
		return packet{}, false
	}
	request, reply, proto := uint8(echoRequest), uint8(echoReply), uint8(protoICMP)
	if p.v6 {
		request, reply, proto = v6EchoRequest, v6EchoReply, protoICMPv6
	}
	if m[0] != request || m[1] != 0 {
		return packet{}, false
	}
	body := append([]byte(nil), m...)
	body[0] = reply
	return icmp(p.dst, p.src, proto, startTTL, body), true
}
