package netserver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// guest is a host that asks.
type guest struct {
	t    *testing.T
	host *Host
}

// guest connects a host as number 1.
func (l *lan) guest(t *testing.T, addresses ...string) *guest {
	t.Helper()
	h, err := NewHost(l.at(1, addresses...))
	if err != nil {
		t.Fatal(err)
	}
	l.join(1, h)
	return &guest{t, h}
}

// dial connects to a server.
func (g *guest) dial(protocol, server string) net.Conn {
	g.t.Helper()
	a := netip.MustParseAddr(server)
	to := tcpip.FullAddress{NIC: nicID, Addr: toAddress(a), Port: namePort}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	var c net.Conn
	var err error
	if protocol == "tcp" {
		c, err = gonet.DialContextTCP(ctx, g.host.ip, to, protocolOf(a))
	} else {
		c, err = gonet.DialUDP(g.host.ip, nil, &to, protocolOf(a))
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// ask asks by the library's client.
func (g *guest) ask(protocol, server, name string, kind uint16, change ...func(*dns.Msg)) *dns.Msg {
	g.t.Helper()
	c := g.dial(protocol, server)
	defer c.Close()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	for _, do := range change {
		do(q)
	}
	client := dns.Client{Net: protocol, Timeout: long}
	reply, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: c})
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return reply
}

// said returns the result and the records of an answer.
func said(m *dns.Msg) string {
	all := []string{rcodeName(m.Rcode)}
	for _, rr := range m.Answer {
		all = append(all, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(all, "; ")
}

func (l *lan) names(t *testing.T, cfg DNSConfig) *DNS {
	t.Helper()
	cfg.TTL = time.Minute
	s, err := NewDNS(l.at(0, "192.0.2.53/24", "fd00:1::53/64"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.join(0, s)
	return s
}

func TestDNS(t *testing.T) {
	l := newLAN(t)
	s := l.names(t, DNSConfig{
		Records: map[string]Record{
			"web.example.test":   {Addrs: addrs("192.0.2.9", "192.0.2.10", "fd00:1::9")},
			"*.wild.test":        {Addrs: addrs("192.0.2.11"), TTL: 5 * time.Second},
			"in.wild.test":       {Addrs: addrs("192.0.2.12")},
			"bad.example.test":   {RCode: dns.RcodeServerFailure},
			"slow.example.test.": {Addrs: addrs("192.0.2.13"), Delay: time.Millisecond},
		},
		Zone: "alias.example.test. IN CNAME WEB.example.test.\n" +
			"example.test. IN MX 10 mail.example.test.\ntext.test. IN TXT \"a b\" c\n" +
			"loop.test. 7 IN CNAME loop.test.\n",
		Unknown: Record{RCode: dns.RcodeNameError},
	})
	g := l.guest(t, "192.0.2.2/24", "fd00:1::2/64")
	loop := strings.Repeat("; loop.test. 7 IN CNAME loop.test.", maxAliases)
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web.example.test", dns.TypeA,
			"noerror; web.example.test. 60 IN A 192.0.2.9; web.example.test. 60 IN A 192.0.2.10"},
		{"WEB.example.TEST", dns.TypeAAAA, "noerror; WEB.example.TEST. 60 IN AAAA fd00:1::9"},
		{"web.example.test", dns.TypeTXT, "noerror"},
		{"example.test", dns.TypeA, "noerror"},
		{"example.test", dns.TypeMX, "noerror; example.test. 60 IN MX 10 mail.example.test."},
		{"test", dns.TypeA, "noerror"}, // there are names below it
		{"none.example.test", dns.TypeA, "nxdomain"},
		{"x.wild.test", dns.TypeA, "noerror; x.wild.test. 5 IN A 192.0.2.11"},
		{"y.x.wild.test", dns.TypeA, "noerror; y.x.wild.test. 5 IN A 192.0.2.11"},
		{"in.wild.test", dns.TypeA, "noerror; in.wild.test. 60 IN A 192.0.2.12"},
		{"x.in.wild.test", dns.TypeA, "nxdomain"},
		{"bad.example.test", dns.TypeA, "servfail"},
		{"slow.example.test", dns.TypeA, "noerror; slow.example.test. 60 IN A 192.0.2.13"},
		{"alias.example.test", dns.TypeAAAA,
			"noerror; alias.example.test. 60 IN CNAME WEB.example.test.; WEB.example.test. 60 IN AAAA fd00:1::9"},
		{"loop.test", dns.TypeA, "noerror" + loop},
		{"text.test", dns.TypeTXT, `noerror; text.test. 60 IN TXT "a b" "c"`},
		{"web.example.test", dns.TypeANY, "noerror; web.example.test. 60 IN A 192.0.2.9; web.example.test. 60 IN A " +
			"192.0.2.10; web.example.test. 60 IN AAAA fd00:1::9"},
	} {
		for _, by := range [][2]string{{"udp", "192.0.2.53"}, {"tcp", "fd00:1::53"}} {
			if got := said(g.ask(by[0], by[1], c.name, c.kind)); got != c.want {
				t.Errorf("%s %s by %s:\ngot  %s\nwant %s", c.name, dns.Type(c.kind), by[0], got, c.want)
			}
		}
	}
	all := s.Queries()
	if len(all) != 34 {
		t.Fatalf("%d queries", len(all))
	}
	first, second := all[0], all[1]
	if got := strings.Join([]string{first.Name, first.Type, first.From.Addr().String(), first.Protocol, first.Answer,
		second.From.Addr().String(), second.Protocol}, " "); got !=
		"web.example.test A 192.0.2.2 udp noerror fd00:1::2 tcp" || first.At.IsZero() {
		t.Error(got)
	}
	if got := said(g.ask("udp", "192.0.2.53", "web.example.test", dns.TypeA, func(m *dns.Msg) {
		m.Opcode = dns.OpcodeNotify
	})); got != "notimp" {
		t.Error(got)
	}

	if err := s.Set("new.test", &Record{Addrs: addrs("192.0.2.14")}); err != nil {
		t.Error(err)
	}
	if err := s.Set("WEB.example.test", nil); err != nil {
		t.Error(err)
	}
	if got := said(g.ask("udp", "fd00:1::53", "new.test", dns.TypeA)); got != "noerror; new.test. 60 IN A 192.0.2.14" {
		t.Error(got)
	}
	if got := said(g.ask("udp", "fd00:1::53", "web.example.test", dns.TypeA)); got != "nxdomain" {
		t.Error(got)
	}
	if err := s.Set("a..b", &Record{}); err == nil || !strings.Contains(err.Error(), "`a..b` is no domain name") {
		t.Error(err)
	}
}

// Long answers are cut in a datagram, and whole over TCP.
func TestDNSTruncation(t *testing.T) {
	l := newLAN(t)
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	l.names(t, DNSConfig{Records: map[string]Record{"many.test": {Addrs: many}}})
	g := l.guest(t, "192.0.2.2/24")
	plain := g.ask("udp", "192.0.2.53", "many.test", dns.TypeA)
	large := g.ask("udp", "192.0.2.53", "many.test", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, false) })
	whole := g.ask("tcp", "192.0.2.53", "many.test", dns.TypeA)
	if !plain.Truncated || !large.Truncated || len(large.Answer) <= len(plain.Answer) || large.IsEdns0() == nil ||
		whole.Truncated || len(whole.Answer) != 100 {
		t.Error(len(plain.Answer), len(large.Answer), len(whole.Answer))
	}
}

// A query that is dropped or delayed does not keep others, or the end of the server, waiting.
func TestDNSSilence(t *testing.T) {
	l := newLAN(t)
	s := l.names(t, DNSConfig{Records: map[string]Record{"lost.test": {Drop: true}, "late.test": {Delay: time.Hour},
		"web.test": {Addrs: addrs("192.0.2.9")}}, Unknown: Record{Drop: true}})
	g := l.guest(t, "192.0.2.2/24")
	c := g.dial("udp", "192.0.2.53")
	defer c.Close()
	conn := &dns.Conn{Conn: c}
	for _, name := range []string{"lost.test.", "late.test.", "unknown.test.", "web.test."} {
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if m, err := conn.ReadMsg(); err != nil || said(m) != "noerror; web.test. 60 IN A 192.0.2.9" {
		t.Error(m, err)
	}
	answers := map[string]string{}
	for len(answers) < 4 || answers["lost.test"] == "" || answers["unknown.test"] == "" {
		for _, q := range s.Queries() {
			answers[q.Name] = q.Answer
		}
		time.Sleep(time.Millisecond)
	}
	if answers["lost.test"] != "dropped" || answers["late.test"] != "" || answers["unknown.test"] != "dropped" {
		t.Error(answers)
	}
	lost := g.dial("tcp", "192.0.2.53")
	defer lost.Close()
	if err := (&dns.Conn{Conn: lost}).WriteMsg(new(dns.Msg).SetQuestion("lost.test.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if err := lost.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if n, err := lost.Read(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes", n)
	}
	s.Close()
}

func TestDNSConfig(t *testing.T) {
	for want, cfg := range map[string]DNSConfig{
		"`x..y` is no domain name":       {Records: map[string]Record{"x..y": {}}},
		"dns: bad A A: \"7\" at line: 1": {Zone: "x. IN A 7"},
	} {
		if s, err := NewDNS(newLAN(t).at(0, "192.0.2.53/24"), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			if s != nil {
				s.Close()
			}
		}
	}
	if code, err := ParseRCode("refused"); code != dns.RcodeRefused || err != nil {
		t.Error(code, err)
	}
	if _, err := ParseRCode("x"); err == nil {
		t.Error("no error")
	}
}

// Any frame with any datagram to the port does no harm.
func FuzzDNS(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeANY, dns.TypeMX} {
		q, err := new(dns.Msg).SetQuestion("web.test.", kind).SetEdns0(1232, true).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(q, true)
	}
	s, err := NewDNS(Config{MAC: mac(0), Send: func([]byte) {}, Addresses: []netip.Prefix{
		netip.MustParsePrefix("192.0.2.53/24")}}, DNSConfig{Zone: "web.test. IN MX 10 web.test.", TTL: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	from := endpoint{mac(1), netip.MustParseAddr("192.0.2.2"), 4000}
	to := endpoint{mac(0), netip.MustParseAddr("192.0.2.53"), namePort}
	f.Fuzz(func(_ *testing.T, data []byte, wrap bool) {
		if wrap && len(data) <= 1400 {
			data = udpFrame(from, to, data)
		}
		s.Receive(data)
	})
}
