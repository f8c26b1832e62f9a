package filter

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// subject is the part of a test before its value: protocol, direction and kind.
type subject struct {
	proto string // "", "ether", "ip", "tcp" ...
	dir   direction
	kind  string // "host", "net", "port", "portrange", "proto"
	bare  bool   // a protocol and nothing else
	at    int    // token
}

// etherTypes are the protocols that Ethernet carries, ipProtos those that IP does.
var (
	etherTypes = map[string]uint32{"ip": typeIPv4, "ip6": typeIPv6, "arp": typeARP, "rarp": typeRARP}
	ipProtos   = map[string]uint32{"tcp": protoTCP, "udp": protoUDP, "sctp": protoSCTP, "icmp": protoICMP,
		"icmp6": protoICMPv6}
)

var kindWords = []string{"host", "net", "port", "portrange", "proto"}

// subject reads what the next test is about.
func (p *parser) subject() (*subject, error) {
	s := &subject{at: p.next}
	word := p.peek()
	_, network := etherTypes[word]
	_, transport := ipProtos[word]
	if word == "ether" || network || transport {
		s.proto = p.take()
	}
	if p.accept("src", "dst") {
		s.dir = source
		if p.tokens[p.next-1].text == "dst" {
			s.dir = destination
		}
		if p.next+1 < len(p.tokens) && indexOf([]string{"or", "and"}, p.peek()) >= 0 &&
			indexOf([]string{"src", "dst"}, p.tokens[p.next+1].text) >= 0 {
			joined, other := p.take(), source
			if p.take() == "dst" {
				other = destination
			}
			switch {
			case other == s.dir:
				return nil, p.fail(p.next-1, "`src` and `dst` expected, got the same twice")
			case joined == "and":
				s.dir = bothEnds
			default:
				s.dir = anyEnd
			}
		}
		s.kind = "host"
	}
	if p.accept(kindWords...) {
		s.kind = p.tokens[p.next-1].text
	}
	switch {
	case s.kind != "":
	case s.proto != "":
		s.bare = true
	case p.last != nil && isID(p.peek()):
		again := *p.last
		again.at = p.next
		return &again, nil
	case indexOf(unsupported, word) >= 0:
		return nil, p.fail(p.next, "`%s` is not supported", word)
	case isID(word):
		s.kind = "host"
	default:
		return nil, p.wrong("a test")
	}
	return s, nil
}

// isID reports whether a token can be an address, a port or a name.
func isID(word string) bool {
	return word != "" && (isWord(word[0]) || word[0] == ':' || word[0] == '\\') &&
		indexOf([]string{"and", "or", "not"}, word) < 0
}

// protocol returns the test that a protocol's name is.
func (s *subject) protocol(p *parser, l layer) (test, error) {
	if p.accept("broadcast", "multicast") {
		word := p.tokens[p.next-1].text
		switch {
		case s.proto == "ether":
			return etherGroup(word), nil
		case s.proto == "ip" && word == "multicast":
			return both(l.etherType(typeIPv4), func(f *frame) bool { return f.bytes(l.net()+16, 1) >= 224 }), nil
		case s.proto == "ip6" && word == "multicast":
			return both(l.etherType(typeIPv6), l.byteIs(24, 255)), nil
		}
		return nil, p.fail(p.next-1,
			"`%s %s` is not supported (ether broadcast, ether multicast, ip multicast and ip6 multicast are)", s.proto,
			word)
	}
	switch {
	case s.proto == "ether":
		return nil, p.wrong("`host`, `src`, `dst`, `proto`, `broadcast` or `multicast` behind `ether`")
	case etherTypes[s.proto] != 0:
		return l.etherType(etherTypes[s.proto]), nil
	case s.proto == "icmp":
		return l.ipv4Proto(protoICMP), nil
	case s.proto == "icmp6":
		return l.ipv6Proto(protoICMPv6), nil
	}
	n := ipProtos[s.proto]
	return either(l.ipv4Proto(n), l.ipv6Proto(n)), nil
}

// about reads the address, port or number of a test.
func (p *parser) about(s *subject) (test, error) {
	if !isID(p.peek()) {
		return nil, p.wrong(map[string]string{"host": "an address", "net": "a network", "port": "a port",
			"portrange": "two ports", "proto": "a protocol"}[s.kind])
	}
	switch s.kind {
	case "port", "portrange":
		return p.ports(s)
	case "proto":
		return p.protocolNumber(s)
	case "net":
		return p.network(s)
	}
	return p.host(s)
}

func (p *parser) host(s *subject) (test, error) {
	word, at := p.take(), p.next-1
	if s.proto == "ether" {
		mac, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", ".", "").Replace(word))
		if err != nil || len(mac) != 6 {
			return nil, p.fail(at, "`%s` is no Ethernet address", word)
		}
		whole := []byte{255, 255, 255, 255, 255, 255}
		return s.dir.ends(masked(6, mac, whole), masked(0, mac, whole)), nil
	}
	addr, err := netip.ParseAddr(word)
	if err != nil || addr.Zone() != "" {
		if strings.Count(word, ":") == 5 {
			return nil, p.fail(at, "`%s` is an Ethernet address; write `ether host %s`", word, word)
		}
		return nil, p.fail(at, "`%s` is no address (names are not resolved)", word)
	}
	return p.addresses(s, at, netip.PrefixFrom(addr, addr.BitLen()))
}

// network reads 10.0.0.0/8, 10.0.0.0 mask 255.0.0.0, 10.0 and 2001:db8::/32.
func (p *parser) network(s *subject) (test, error) {
	word, at := p.take(), p.next-1
	text, bits := word, 32
	if parts := strings.Count(word, ".") + 1; !strings.Contains(word, ":") && parts < 4 {
		text, bits = word+strings.Repeat(".0", 4-parts), 8*parts
	} else if strings.Contains(word, ":") {
		bits = 128
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return nil, p.fail(at, "`%s` is no network (names are not resolved)", word)
	}
	switch {
	case p.accept("/"):
		n, err := p.count(uint32(addr.BitLen()))
		if err != nil {
			return nil, err
		}
		bits = int(n)
	case p.accept("mask"):
		mask, err := netip.ParseAddr(p.peek())
		if err != nil || !mask.Is4() || !addr.Is4() {
			return nil, p.wrong("a mask like 255.255.255.0")
		}
		p.next++
		m, want := mask.As4(), addr.As4()
		if !within(want[:], m[:]) {
			return nil, p.fail(at, "`%s` has bits outside of its mask", word)
		}
		return p.ipv4(s, at, want[:], m[:])
	}
	prefix := netip.PrefixFrom(addr, bits)
	if prefix.Masked() != prefix {
		return nil, p.fail(at, "`%s/%d` has bits behind its length", word, bits)
	}
	return p.addresses(s, at, prefix)
}

func within(b, mask []byte) bool {
	for i := range b {
		if b[i]&^mask[i] != 0 {
			return false
		}
	}
	return true
}

// addresses returns a test for packets from or to a network.
func (p *parser) addresses(s *subject, at int, prefix netip.Prefix) (test, error) {
	want := prefix.Addr().AsSlice()
	mask := make([]byte, len(want))
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	if len(want) == 4 {
		return p.ipv4(s, at, want, mask)
	}
	if s.proto != "" && s.proto != "ip6" {
		return nil, p.fail(at, "`%s` has no IPv6 addresses", s.proto)
	}
	return p.layer().address(s.dir, typeIPv6, 8, 24, want, mask), nil
}

func (p *parser) ipv4(s *subject, at int, want, mask []byte) (test, error) {
	l := p.layer()
	ip := l.address(s.dir, typeIPv4, 12, 16, want, mask)
	arp := l.address(s.dir, typeARP, 14, 24, want, mask)
	rarp := l.address(s.dir, typeRARP, 14, 24, want, mask)
	switch s.proto {
	case "":
		return either(ip, arp, rarp), nil
	case "ip":
		return ip, nil
	case "arp":
		return arp, nil
	case "rarp":
		return rarp, nil
	}
	return nil, p.fail(at, "`%s` has no IPv4 addresses", s.proto)
}

// services are the named ports.
var services = map[string]uint32{"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67,
	"bootpc": 68, "tftp": 69,
	"http": 80, "ntp": 123, "snmp": 161, "bgp": 179, "https": 443, "syslog": 514}

func (p *parser) ports(s *subject) (test, error) {
	word, at := p.take(), p.next-1
	low, high, isRange := strings.Cut(word, "-")
	if isRange != (s.kind == "portrange") && services[word] == 0 {
		if isRange {
			return nil, p.fail(at, "`%s` is no port (a range is `portrange %s`)", word, word)
		}
		high = low
	}
	if !isRange {
		high = low
	}
	number := func(text string) (uint32, error) {
		if n, ok := services[text]; ok {
			return n, nil
		}
		n, err := parseNumber(text)
		if err != nil || n > 65535 {
			return 0, p.fail(at, "`%s` is no port", text)
		}
		return n, nil
	}
	from, err := number(low)
	if err != nil {
		return nil, err
	}
	to, err := number(high)
	if err != nil {
		return nil, err
	}
	from, to = min(from, to), max(from, to)
	l := p.layer()
	switch s.proto {
	case "":
		return either(l.ports(s.dir, protoSCTP, from, to), l.ports(s.dir, protoTCP, from, to),
			l.ports(s.dir, protoUDP, from, to)), nil
	case "tcp", "udp", "sctp":
		return l.ports(s.dir, ipProtos[s.proto], from, to), nil
	}
	return nil, p.fail(s.at, "`%s` has no ports", s.proto)
}

func (p *parser) protocolNumber(s *subject) (test, error) {
	word, at := strings.TrimPrefix(p.take(), `\`), p.next-1
	l := p.layer()
	n, err := parseNumber(word)
	named := err != nil
	if s.proto == "ether" {
		if named {
			n = etherTypes[word]
		}
		if n < 1536 || n > 65535 {
			return nil, p.fail(at, "`%s` is no Ethernet type from 1536 to 65535 and none of ip, ip6, arp, rarp", word)
		}
		return l.etherType(n), nil
	}
	if named {
		n = ipProtos[word]
	}
	if named && n == 0 || n > 255 {
		return nil, p.fail(at, "`%s` is no protocol of IP (0 to 255, tcp, udp, sctp, icmp, icmp6)", word)
	}
	switch s.proto {
	case "":
		return either(l.ipv4Proto(n), l.ipv6Proto(n)), nil
	case "ip":
		return l.ipv4Proto(n), nil
	case "ip6":
		return l.ipv6Proto(n), nil
	}
	return nil, p.fail(s.at, "`%s proto` means nothing", s.proto)
}

var errNumber = errors.New("no number")

// parseNumber reads decimal, octal and hexadecimal numbers of 32 bits.
func parseNumber(text string) (uint32, error) {
	if text == "" || text[0] < '0' || text[0] > '9' || strings.Contains(text, "_") {
		return 0, errNumber
	}
	n, err := strconv.ParseUint(text, 0, 32)
	return uint32(n), err
}

// count reads a number that is at most limit.
func (p *parser) count(limit uint32) (uint32, error) {
	n, err := parseNumber(p.peek())
	if err != nil || n > limit {
		return 0, p.wrong("a number up to " + strconv.Itoa(int(limit)))
	}
	p.next++
	return n, nil
}
