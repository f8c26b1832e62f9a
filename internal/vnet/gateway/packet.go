package gateway

import (
	"encoding/binary"
	"net/netip"
)

// mac is a hardware address.
type mac [6]byte

var broadcast = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// group reports whether the address is multicast or broadcast.
func (m mac) group() bool { return m[0]&1 != 0 }

// Ethernet.
const (
	etherHeader = 14
	typeIPv4    = 0x0800
	typeARP     = 0x0806
	typeIPv6    = 0x86dd
)

// frame is the start of an Ethernet frame.
type frame struct {
	dst, src mac
	kind     uint16
	payload  []byte
}

func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) < etherHeader {
		return f, false
	}
	copy(f.dst[:], b)
	copy(f.src[:], b[6:])
	f.kind = binary.BigEndian.Uint16(b[12:])
	f.payload = b[etherHeader:]
	return f, !f.src.group() && f.src != mac{}
}

// buildFrame puts a header before a payload.
func buildFrame(dst, src mac, kind uint16, payload []byte) []byte {
	b := make([]byte, 0, etherHeader+len(payload))
	b = append(append(b, dst[:]...), src[:]...)
	b = binary.BigEndian.AppendUint16(b, kind)
	return append(b, payload...)
}

// Protocol numbers.
const (
	protoHopByHop    = 0
	protoICMP        = 1
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoDestOptions = 60
)

const (
	ipv4Header = 20
	ipv6Header = 40
	// startTTL is the time to live of what a gateway itself sends.
	startTTL = 64
)

// packet is an IP packet whose headers were verified.
type packet struct {
	b         []byte // the whole, without the padding of its frame
	v6        bool
	src, dst  netip.Addr
	ttl       uint8
	proto     uint8 // of what follows all headers
	transport int   // where that begins
	fragment  bool  // not the first one: what follows is no header
	partial   bool  // a fragment, first or not
}

// parsePacket decodes a packet of either version. It refuses packets that every station
// must ignore.
func parsePacket(kind uint16, b []byte) (packet, bool) {
	switch kind {
	case typeIPv4:
		return parseIPv4(b)
	case typeIPv6:
		return parseIPv6(b)
	}
	return packet{}, false
}

func parseIPv4(b []byte) (p packet, ok bool) {
	if len(b) < ipv4Header || b[0]>>4 != 4 {
		return p, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || total < header || total > len(b) || sum(b[:header], 0) != 0xffff {
		return p, false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	return packet{b: b[:total:total], src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])),
		ttl:   b[8],
		proto: b[9], transport: header, fragment: flags&0x1fff != 0, partial: flags&0x3fff != 0}, true
}

// maxExtensions is the number of extension headers of IPv6 that are skipped.
const maxExtensions = 8

func parseIPv6(b []byte) (p packet, ok bool) {
	if len(b) < ipv6Header || b[0]>>4 != 6 {
		return p, false
	}
	total := ipv6Header + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return p, false
	}
	p = packet{b: b[:total:total], v6: true, src: netip.AddrFrom16([16]byte(b[8:24])),
		dst: netip.AddrFrom16([16]byte(b[24:40])), ttl: b[7],
		proto: b[6], transport: ipv6Header}
	if p.src.Is4In6() || p.dst.Is4In6() {
		return p, false
	}
	for range maxExtensions {
		size := 0
		switch p.proto {
		case protoHopByHop, protoRouting, protoDestOptions:
			if len(p.b) < p.transport+8 {
				return p, false
			}
			size = 8 + int(p.b[p.transport+1])*8
		case protoFragment:
			if len(p.b) < p.transport+8 {
				return p, false
			}
			size = 8
			p.partial = true
			p.fragment = binary.BigEndian.Uint16(p.b[p.transport+2:])&^7 != 0
		default:
			return p, true
		}
		if len(p.b) < p.transport+size {
			return p, false
		}
		p.proto = p.b[p.transport]
		p.transport += size
		if p.fragment {
			return p, true
		}
	}
	return p, false
}

// payload returns what follows the headers.
func (p *packet) payload() []byte { return p.b[p.transport:] }

// kind returns the Ethernet type.
func (p *packet) kind() uint16 {
	if p.v6 {
		return typeIPv6
	}
	return typeIPv4
}

// age reduces the time to live by one.
func (p *packet) age() {
	p.ttl--
	if p.v6 {
		p.b[7]--
		return
	}
	p.b[8]--
	binary.BigEndian.PutUint16(p.b[10:], 0)
	binary.BigEndian.PutUint16(p.b[10:], ^sum(p.b[:p.transport], 0))
}

// sum returns the ones' complement sum over b, begun with start.
func sum(b []byte, start uint32) uint16 {
	s := uint64(start)
	for len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudo returns the sum over the pseudo header of IPv6.
func pseudo(src, dst netip.Addr, proto uint8, length int) uint32 {
	s, d := src.As16(), dst.As16()
	return uint32(sum(s[:], 0)) + uint32(sum(d[:], 0)) + uint32(proto) + uint32(length)
}

// build makes a packet that the gateway sends itself.
func build(src, dst netip.Addr, proto, ttl uint8, payload []byte) packet {
	p := packet{v6: src.Is6(), src: src, dst: dst, ttl: ttl, proto: proto, transport: ipv4Header}
	if p.v6 {
		p.transport = ipv6Header
	}
	p.b = make([]byte, p.transport, p.transport+len(payload))
	if p.v6 {
		p.b[0] = 6 << 4
		binary.BigEndian.PutUint16(p.b[4:], uint16(len(payload)))
		p.b[6], p.b[7] = proto, ttl
		copy(p.b[8:], src.AsSlice())
		copy(p.b[24:], dst.AsSlice())
	} else {
		p.b[0] = 4<<4 | ipv4Header/4
		binary.BigEndian.PutUint16(p.b[2:], uint16(ipv4Header+len(payload)))
		p.b[8], p.b[9] = ttl, proto
		copy(p.b[12:], src.AsSlice())
		copy(p.b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(p.b[10:], ^sum(p.b, 0))
	}
	p.b = append(p.b, payload...)
	return p
}
