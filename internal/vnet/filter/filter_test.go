package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/vnet"
)

func tagged(tag []byte, ethertype uint16, payload ...[]byte) []byte {
	f := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, tag...)
	f = binary.BigEndian.AppendUint16(f, ethertype)
	return append(f, bytes.Join(payload, nil)...)
}

func ether(ethertype uint16, payload ...[]byte) []byte { return tagged(nil, ethertype, payload...) }

func ip4(src, dst string, proto byte, fragment uint16, options int, payload []byte) []byte {
	h := make([]byte, 20+options)
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, proto
	copy(h[12:], netip.MustParseAddr(src).AsSlice())
	copy(h[16:], netip.MustParseAddr(dst).AsSlice())
	return append(h, payload...)
}

func ip6(src, dst string, next byte, payload ...[]byte) []byte {
	p := bytes.Join(payload, nil)
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(p)))
	copy(h[8:], netip.MustParseAddr(src).AsSlice())
	copy(h[24:], netip.MustParseAddr(dst).AsSlice())
	return append(h, p...)
}

func ports(src, dst uint16, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	return append(b, rest...)
}

func tcp(src, dst uint16, flags byte) []byte {
	return ports(src, dst, append([]byte{0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0}, "payload"...)...)
}

func udp(src, dst uint16) []byte { return ports(src, dst, 0, 12, 0, 0, 'd', 'a', 't', 'a') }

func arp(src, dst string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1}
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, netip.MustParseAddr(dst).AsSlice()...)
}

// traffic returns a bit of everything, and frames that end too early.
func traffic() (frames [][]byte) {
	vlan := func(id byte) []byte { return []byte{0x81, 0, 0x20, id} }
	frames = [][]byte{
		ether(0x800, ip4("10.77.0.2", "10.77.0.3", 17, 0, 0, udp(5353, 53))),
		ether(0x800, ip4("10.77.0.3", "10.77.0.2", 17, 0, 4, udp(53, 5353))),
		ether(0x800, ip4("10.77.0.2", "10.78.0.3", 6, 0x4000, 0, tcp(40000, 80, 2))),
		ether(0x800, ip4("10.78.0.3", "10.77.0.2", 6, 0x4000, 0, tcp(80, 40000, 18))),
		ether(0x800, ip4("10.77.0.2", "10.78.0.3", 6, 0, 8, tcp(40000, 443, 17))),
		ether(0x800, ip4("192.168.1.1", "224.0.0.1", 132, 0, 0, ports(7, 80, 0, 0, 0, 0, 0, 0, 0, 0))),
		ether(0x800, ip4("10.77.0.2", "10.77.0.3", 17, 0x2000, 0, udp(5353, 53))),
		ether(0x800, ip4("10.77.0.2", "10.77.0.3", 17, 185, 0, udp(5353, 53))),
		ether(0x800, ip4("10.77.0.2", "10.77.0.3", 1, 0, 0, []byte{8, 0, 0, 0, 0, 1, 0, 1})),
		ether(0x800, ip4("10.77.0.3", "10.77.0.2", 1, 0, 0, []byte{0, 0, 0, 0, 0, 1, 0, 1})),
		ether(0x86dd, ip6("fd00::2", "fd00::3", 17, udp(5353, 53))),
		ether(0x86dd, ip6("fd00::2", "ff02::1", 6, tcp(22, 4000, 2))),
		ether(0x86dd, ip6("fd00::2", "fd00::3", 58, []byte{128, 0, 0, 0, 0, 0, 0, 0})),
		ether(0x86dd, ip6("fd00:1::2", "fd00::3", 44, []byte{17, 0, 0, 1, 0, 0, 0, 1}, udp(53, 53))),
		ether(0x86dd, ip6("fd00:1::2", "fd00::3", 44, []byte{58, 0, 0, 0, 0, 0, 0, 1}, udp(53, 53))),
		ether(0x806, arp("10.77.0.2", "10.77.0.3")),
		ether(0x8035, arp("10.77.0.9", "10.77.0.2")),
		ether(0x88b5, []byte("something of its own, and long enough")),
		tagged(vlan(5), 0x800, ip4("10.77.0.2", "10.77.0.3", 17, 0, 0, udp(1, 53))),
		tagged(vlan(6), 0x86dd, ip6("fd00::2", "fd00::3", 6, tcp(1, 80, 2))),
		tagged(append([]byte{0x88, 0xa8, 0, 7}, vlan(5)...), 0x800,
			ip4("10.77.0.2", "10.77.0.3", 6, 0, 0, tcp(1, 80, 2))),
	}
	group := slices.Clone(frames[0])
	copy(group, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	mdns := slices.Clone(frames[10])
	copy(mdns, []byte{0x33, 0x33, 0, 0, 0, 1})
	frames = append(frames, group, mdns)
	// None ends between two addresses: there the program's optimiser at times decides
	// before it looks.
	for _, f := range slices.Clone(frames) {
		for _, n := range []int{13, 14, 23, 34, 36, 38, 54} {
			if n < len(f) {
				frames = append(frames, f[:n])
			}
		}
	}
	return frames
}

// expressions are tried on all traffic here and by tcpdump.
var expressions = strings.Split(strings.TrimSpace(`
ip
ip6
arp
rarp
tcp
udp
sctp
icmp
icmp6
not ip
!arp and !rarp
host 10.77.0.2
src host 10.77.0.2
dst 10.77.0.2
src or dst host 10.77.0.2
src and dst host 10.77.0.2
host 10.77.0.2 and 10.77.0.3
host 10.77.0.2 and not 10.78.0.3
host (10.77.0.9 or 10.78.0.3)
ip host 10.77.0.2
arp host 10.77.0.2
arp src host 10.77.0.2
rarp dst host 10.77.0.2
host fd00::2
ip6 src host fd00::2
dst host fd00::3
net 10.77.0.0/16
net 10.77
src net 10.78.0.0 mask 255.255.0.0
ip net 10
dst net fd00::/32
net 10.77.0.0/16 and not dst net 10.78.0.0/16
port 53
udp port 53
udp port domain
tcp port 80 or 443
tcp dst port http
src port 53
src or dst port 53
src and dst port 53
dst port 80
port (80 or 53)
portrange 50-60
tcp portrange 80-443
sctp port 80
udp and port 53 or tcp
udp or tcp and port 80
udp or (tcp and port 80)
not port 53
not (host 10.77.0.2 or port 53)
ip proto 17
ip proto \tcp
ip6 proto 17
ip6 proto \udp
proto 58
proto \icmp
ether proto 0x88b5
ether proto \ip
ether host 02:00:00:00:00:01
ether src 02:00:00:00:00:01
ether dst ff:ff:ff:ff:ff:ff
ether broadcast
broadcast
multicast
ether multicast
ip multicast
ip6 multicast
less 60
greater 60
len > 60
len <= 100 and len - 14 >= 40
ip[8] = 64
ip[2:2] > 60
ip[6:2] & 0x1fff = 0
ip[6:2] & 0x1fff != 0
ip[0] & 0xf != 5
ether[0] & 1 = 1
ether[0] & 1 != 0
ether[12:2] == 0x806
ip6[6] = 17
arp[6:2] = 1
tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn
tcp[tcpflags] & tcp-syn != 0
tcp[13] = 18
tcp[2:2] = 80
tcp[((tcp[12] & 0xf0) >> 2):4] = 0x7061796c
udp[4:2] - 8 = 4
udp[8:4] = 0x64617461
icmp[icmptype] = icmp-echo
icmp[icmptype] != icmp-echoreply
icmp6[icmp6type] = icmp6-echo
not tcp[13] = 2
ip[100] = 0
ip[100] = 0 or arp
arp or ip[100] = 0
ip[8] / (ip[9] - 17) = 1 or arp
ip[8] * 2 + 1 = 129
1 + 2 * 3 = 7
10 - 4 - 3 = 3
1 << 3 | 1 = 9
6 & 3 = 2 and ip
(len) > 60
(ip[8] & 0xf0) = 0x40
((tcp) or (udp)) and not (port 53)
vlan
vlan 5
vlan and ip
vlan 5 and udp port 53
vlan and tcp port 80
vlan and vlan 5
vlan and vlan 5 and tcp
vlan and ip6
ip or vlan and ip
not vlan
tcp and (dst host 10.78.0.3 and port 80)
`), "\n")

// TestLikeTcpdump compares each expression with what the program itself selects.
func TestLikeTcpdump(t *testing.T) {
	frames := traffic()
	file := vnet.AppendPcapHeader(nil, false)
	for i, f := range frames {
		file = vnet.AppendPcapFrame(file, time.Unix(int64(i), 0), f, false)
	}
	for _, text := range expressions {
		x, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []int
		for i, f := range frames {
			if x.Match(f) {
				got = append(got, i)
			}
		}
		cmd := exec.Command("tcpdump", "-r", "-", "-w", "-", text)
		cmd.Stdin = bytes.NewReader(file)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			if strings.Contains(stderr.String(), "rejects all packets") {
				out = file[:24]
			} else {
				t.Errorf("%s: tcpdump: %v: %s", text, err, &stderr)
				continue
			}
		}
		var want []int
		for p := out[24:]; len(p) > 0; p = p[16+binary.LittleEndian.Uint32(p[8:]):] {
			want = append(want, int(binary.LittleEndian.Uint32(p)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s selects %v, tcpdump %v", text, got, want)
			for i, f := range frames {
				if slices.Contains(got, i) != slices.Contains(want, i) {
					t.Logf("  %d: %x", i, f)
					break
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"udp prot 53":      "column 5: `and` or `or` expected, got `prot`",
		"port":             "column 5: a port is missing at the end",
		"port 70000":       "column 6: `70000` is no port",
		"port frob":        "column 6: `frob` is no port",
		"port 5-8":         "column 6: `5-8` is no port (a range is `portrange 5-8`)",
		"host web.example": "column 6: `web.example` is no address (names are not resolved)",
		"host 02:00:00:00:00:01": "column 6: `02:00:00:00:00:01` is an Ethernet address; " +
			"write `ether host 02:00:00:00:00:01`",
		"ether host 10.0.0.1": "column 12: `10.0.0.1` is no Ethernet address",
		"net 10.1.2.3/8":      "column 5: `10.1.2.3/8` has bits behind its length",
		"net 10.0.0.0/33":     "column 14: a number up to 32 expected, got `33`",
		"tcp host 10.0.0.1":   "column 10: `tcp` has no IPv4 addresses",
		"ip port 5":           "column 1: `ip` has no ports",
		"(udp":                "column 5: `)` is missing at the end",
		"udp)":                "column 4: `and` or `or` expected, got `)`",
		"udp and":             "column 8: a test is missing at the end",
		"and udp":             "column 1: a test expected, got `and`",
		"ip[0":                "column 5: `]` is missing at the end",
		"ip[0] &":             "column 8: a number is missing at the end",
		"ip[0:3] = 1":         "column 6: a size of 1, 2 or 4 expected, got `3`",
		"ip[0]":               "column 6: a comparison (=, !=, <, >, <=, >=) is missing at the end",
		"ip[8] % (3 - 3) = 1": "column 9: division by zero",
		"foo[0] = 1": "column 1: `foo` has no bytes to look at " +
			"(ether, ip, ip6, arp, rarp, tcp, udp, sctp, icmp, icmp6)",
		"mpls 5":        "column 1: `mpls` is not supported",
		"udp; port 5":   "column 4: ';' means nothing here",
		"ip proto frob": "column 10: `frob` is no protocol of IP (0 to 255, tcp, udp, sctp, icmp, icmp6)",
		"ether": "column 6: `host`, `src`, `dst`, `proto`, `broadcast` or `multicast` " +
			"behind `ether` is missing at the end",
		"ip broadcast": "column 4: `ip broadcast` is not supported (ether broadcast, ether " +
			"multicast, ip multicast and ip6 multicast are)",
		"less many":                      "column 6: a number up to 1048576 expected, got `many`",
		strings.Repeat("(", 500) + "udp": "nested more than 100 deep",
		strings.Repeat("not ", 500):      "nested more than 100 deep",
		strings.Repeat("x", 5000):        "longer than 4096 bytes",
	} {
		_, err := Parse(text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
}

// FuzzFilter checks that an expression in parentheses selects the same frames, and its
// negation the others.
func FuzzFilter(f *testing.F) {
	frames := traffic()
	for i, text := range expressions {
		f.Add(text, frames[i%len(frames)])
	}
	f.Add("tcp[ip[0]:4] > (len - -1) or host (::1 or 1.2.3.4)", frames[2])
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		x, err := Parse(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Column < 1 || e.Column > len(text)+1 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		same, err := Parse("(" + text + ")")
		opposite, err2 := Parse("not (" + text + ")")
		if err != nil || err2 != nil || strings.TrimSpace(text) == "" {
			return // too long, too deep, or empty parentheses
		}
		for _, data := range append(frames, data) {
			if x.Match(data) != same.Match(data) {
				t.Errorf("%q: %v for % x, and in parentheses %v", text, x.Match(data), data, same.Match(data))
			}
			short := frame{b: data}
			if x.keep(&short); short.short {
				if x.Match(data) || opposite.Match(data) {
					t.Errorf("%q selects % x, which is too short", text, data)
				}
			} else if x.Match(data) == opposite.Match(data) {
				t.Errorf("%q and its opposite: %v for % x", text, x.Match(data), data)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	x, err := Parse("udp port 53 or tcp[tcpflags] & tcp-syn != 0")
	if err != nil {
		b.Fatal(err)
	}
	frames := traffic()
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range frames {
			x.Match(f)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(frames)), "ns/frame")
}
