package filter

import "encoding/binary"

// frame is the frame under test. short is set when a test needed bytes behind its
// end: the frame does not match then, whatever other tests return.
type frame struct {
	b     []byte
	short bool
}

func (f *frame) bytes(at, n int) uint32 {
	if at < 0 || at > len(f.b)-n {
		f.short = true
		return 0
	}
	switch n {
	case 1:
		return uint32(f.b[at])
	case 2:
		return uint32(binary.BigEndian.Uint16(f.b[at:]))
	}
	return binary.BigEndian.Uint32(f.b[at:])
}

// test is a condition on a frame.
type test func(f *frame) bool

func both(a, b test) test {
	return func(f *frame) bool { return a(f) && !f.short && b(f) }
}

func either(all ...test) test {
	return func(f *frame) bool {
		for _, t := range all {
			if t(f) {
				return true
			}
			if f.short {
				return false
			}
		}
		return false
	}
}

func negate(t test) test { return func(f *frame) bool { return !t(f) } }

const (
	typeAt = 12 // of an untagged frame
	netAt  = 14

	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeRARP = 0x8035
	typeIPv6 = 0x86dd

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoFrag   = 44 // the fragment header of IPv6
	protoICMPv6 = 58
	protoSCTP   = 132
)

// layer knows the offsets of headers behind a number of bytes of VLAN tags.
type layer struct{ tags int }

func (l layer) net() int { return netAt + l.tags }

func (l layer) etherType(t uint32) test {
	return func(f *frame) bool { return f.bytes(typeAt+l.tags, 2) == t }
}

func (l layer) byteIs(at int, v uint32) test {
	return func(f *frame) bool { return f.bytes(l.net()+at, 1) == v }
}

func (l layer) ipv4Proto(p uint32) test { return both(l.etherType(typeIPv4), l.byteIs(9, p)) }

// ipv6Proto looks behind a fragment header too.
func (l layer) ipv6Proto(p uint32) test {
	return both(l.etherType(typeIPv6), either(l.byteIs(6, p), both(l.byteIs(6, protoFrag), l.byteIs(40, p))))
}

// whole reports whether an IPv4 packet is not fragmented, or a first fragment.
func (l layer) whole(f *frame) bool { return f.bytes(l.net()+6, 2)&0x1fff == 0 }

// ipv4Payload returns where the payload of IPv4 begins.
func (l layer) ipv4Payload(f *frame) int { return l.net() + 4*int(f.bytes(l.net(), 1)&0xf) }

// direction is which end of a frame a test is about.
type direction int

const (
	anyEnd direction = iota // "src or dst", also if nothing is said
	bothEnds
	source
	destination
)

// ends combines the tests of source and destination for a direction.
func (d direction) ends(src, dst test) test {
	switch d {
	case source:
		return src
	case destination:
		return dst
	case bothEnds:
		return both(src, dst)
	}
	return either(src, dst)
}

// masked returns a test that compares the masked bytes at an offset with want.
func masked(at int, want, mask []byte) test {
	return func(f *frame) bool {
		if at > len(f.b)-len(want) {
			f.short = true
			return false
		}
		for i := range want {
			if f.b[at+i]&mask[i] != want[i] {
				return false
			}
		}
		return true
	}
}

// address returns a test of the addresses of a protocol, which are at the offsets src
// and dst behind the Ethernet header.
func (l layer) address(d direction, t uint32, src, dst int, want, mask []byte) test {
	return both(l.etherType(t), d.ends(masked(l.net()+src, want, mask), masked(l.net()+dst, want, mask)))
}

// ports returns a test for ports of a protocol from low to high.
func (l layer) ports(d direction, proto, low, high uint32) test {
	in := func(p uint32) bool { return p >= low && p <= high }
	v4 := func(end int) test {
		return func(f *frame) bool { return in(f.bytes(l.ipv4Payload(f)+end, 2)) }
	}
	v6 := func(end int) test {
		return func(f *frame) bool { return in(f.bytes(l.net()+40+end, 2)) }
	}
	return either(
		both(l.ipv4Proto(proto), both(l.whole, d.ends(v4(0), v4(2)))),
		both(both(l.etherType(typeIPv6), l.byteIs(6, proto)), d.ends(v6(0), v6(2))))
}

// number is a value taken from a frame.
type number func(f *frame) uint32

// term is a number and the condition under which a frame has it.
type term struct {
	value number
	given test // nil: nothing
	fixed bool // the same for all frames
}

func (t term) with(o term, value number) term {
	out := term{value, t.given, t.fixed && o.fixed}
	switch {
	case out.given == nil:
		out.given = o.given
	case o.given != nil:
		out.given = both(t.given, o.given)
	}
	return out
}
