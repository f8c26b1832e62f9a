package netserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"provium/internal/vnet"
)

// raw is a socket of a client that may have no address yet.
type raw struct {
	mac   net.HardwareAddr
	port  *vnet.Port
	inbox *vnet.Inbox
}

func (r *raw) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		frame, err := r.inbox.Receive(context.Background())
		if err != nil {
			return 0, nil, net.ErrClosed
		}
		if payload, ok := udpPayload(frame, clientPort); ok {
			return copy(p, payload), &net.UDPAddr{}, nil
		}
	}
}

func (r *raw) WriteTo(p []byte, _ net.Addr) (int, error) {
	r.port.Send(udpFrame(endpoint{r.mac, netip.IPv4Unspecified(), clientPort},
		endpoint{broadcastMAC, netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort}, p))
	return len(p), nil
}

func (r *raw) Close() error {
	r.inbox.Close()
	return nil
}
func (r *raw) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (r *raw) SetDeadline(time.Time) error      { return nil }
func (r *raw) SetReadDeadline(time.Time) error  { return nil }
func (r *raw) SetWriteDeadline(time.Time) error { return nil }

// client returns the library's client number n.
func (l *lan) client(n byte) *nclient4.Client {
	l.t.Helper()
	conn := &raw{mac(n), l.sw.AddPort(string('a' + rune(n))), l.inbox(n)}
	c, err := nclient4.NewWithConn(conn, mac(n), nclient4.WithTimeout(long), nclient4.WithRetry(1))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

// dhcpConfig returns the configuration of a server at 192.0.2.1 with three addresses.
func dhcpConfig() DHCPConfig {
	none := func() []netip.Addr { return nil }
	return DHCPConfig{Address: netip.MustParsePrefix("192.0.2.1/24"), First: netip.MustParseAddr("192.0.2.10"),
		Last: netip.MustParseAddr("192.0.2.12"), Lease: time.Hour, Routers: none, Resolvers: none,
		Fixed:    func(net.HardwareAddr) netip.Addr { return netip.Addr{} },
		Taken:    func(netip.Addr) bool { return false },
		Hostname: func(net.HardwareAddr) string { return "" }}
}

// serve starts a server as number 0.
func (l *lan) serve(cfg DHCPConfig) *DHCP {
	l.t.Helper()
	s, err := NewDHCP(l.at(0), cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.join(0, s)
	return s
}

// held returns the leases as text.
func held(s *DHCP) string {
	var all []string
	for _, l := range s.Leases() {
		all = append(all, l.Addr.String()+" "+l.MAC.String())
	}
	return strings.Join(all, ", ")
}

func TestDHCP(t *testing.T) {
	l := newLAN(t)
	cfg := dhcpConfig()
	cfg.Routers = func() []netip.Addr { return addrs("192.0.2.254") }
	cfg.Resolvers = func() []netip.Addr { return addrs("192.0.2.53", "198.51.100.53") }
	cfg.TimeServers, cfg.Domain, cfg.MTU = addrs("192.0.2.123"), "example.test", 1400
	cfg.BootFile, cfg.NextServer = "boot.efi", netip.MustParseAddr("192.0.2.69")
	cfg.Hostname = func(m net.HardwareAddr) string { return fmt.Sprintf("host%d", m[5]) }
	cfg.Options = map[uint8][]byte{224: []byte("own")}
	s := l.serve(cfg)
	ctx := t.Context()
	all := dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionNTPServers,
		dhcpv4.OptionDomainName, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionBootfileName,
		dhcpv4.OptionTFTPServerName, dhcpv4.GenericOptionCode(224))
	client := l.client(1)
	lease, err := client.Request(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	ack := lease.ACK
	got := fmt.Sprintln(ack.YourIPAddr, ack.SubnetMask(), ack.Router(), ack.DNS(), ack.NTPServers(), ack.DomainName(),
		ack.HostName(), ack.GetOneOption(dhcpv4.OptionInterfaceMTU), ack.BootFileName, ack.BootFileNameOption(),
		ack.TFTPServerName(), ack.ServerIPAddr, string(ack.GetOneOption(dhcpv4.GenericOptionCode(224))),
		ack.ServerIdentifier(), ack.IPAddressLeaseTime(0), ack.IPAddressRenewalTime(0), ack.IPAddressRebindingTime(0))
	if want := "192.0.2.10 ffffff00 [192.0.2.254] [192.0.2.53 198.51.100.53] [192.0.2.123] example.test host1 " +
		"[5 120] boot.efi boot.efi 192.0.2.69 192.0.2.69 own 192.0.2.1 1h0m0s 30m0s 52m30s\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	few, err := l.client(2).Request(ctx, dhcpv4.WithOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionRouter)))
	if err != nil {
		t.Fatal(err)
	}
	if few.ACK.YourIPAddr.String() != "192.0.2.11" || few.ACK.Router() == nil || few.ACK.DNS() != nil ||
		few.ACK.HostName() != "" || few.ACK.SubnetMask() == nil {
		t.Error(few.ACK.Summary())
	}
	if got := held(s); got != "192.0.2.10 02:00:00:00:00:01, 192.0.2.11 02:00:00:00:00:02" {
		t.Error(got)
	}
	if lease, err = client.Renew(ctx, lease); err != nil || lease.ACK.YourIPAddr.String() != "192.0.2.10" {
		t.Error(lease, err)
	}
	if info, err := client.Inform(ctx, net.IPv4(192, 0, 2, 99)); err != nil ||
		info.IPAddressLeaseTime(0) != 0 || !info.YourIPAddr.IsUnspecified() || info.SubnetMask() == nil {
		t.Error(info, err)
	}
	if err := client.Release(lease); err != nil {
		t.Error(err)
	}
	if _, err := client.Inform(ctx, net.IPv4(192, 0, 2, 99)); err != nil { // the server has seen what came before
		t.Error(err)
	}
	if got := held(s); got != "192.0.2.11 02:00:00:00:00:02" {
		t.Error(got)
	}
}

// message returns a message of client n.
func message(t testing.TB, n byte, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(mac(n))}, with...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wants(ip string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
}

func from(server string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
}

// TestDHCPAnswers has clients in all states.
func TestDHCPAnswers(t *testing.T) {
	l := newLAN(t)
	cfg := dhcpConfig()
	now := time.Unix(1000, 0)
	cfg.Now = func() time.Time { return now }
	cfg.Fixed = func(m net.HardwareAddr) netip.Addr {
		if m[5] == 9 {
			return netip.MustParseAddr("192.0.2.99")
		}
		return netip.Addr{}
	}
	cfg.Taken = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.11") }
	s := l.serve(cfg)
	const discover, request = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	for i, c := range []struct {
		m    *dhcpv4.DHCPv4
		want string // type and address of the answer
		held string
	}{
		{message(t, 1, discover), "OFFER 192.0.2.10", ""},
		{message(t, 2, discover, wants("192.0.2.10")), "OFFER 192.0.2.12", ""}, // .10 is offered, .11 is taken
		{message(t, 3, discover), "", ""},                                      // nothing is left
		{message(t, 2, request, wants("192.0.2.12"), from("192.0.2.7")), "", ""},
		{message(t, 3, discover, wants("192.0.2.12")), "OFFER 192.0.2.12", ""}, // 2 has chosen another server
		{message(t, 1, request, wants("192.0.2.10"), from("192.0.2.1")), "ACK 192.0.2.10", "10"},
		{message(t, 1, discover), "OFFER 192.0.2.10", "10"}, // keeps its lease
		{message(t, 1, request, wants("192.0.2.10")), "ACK 192.0.2.10", "10"},
		{message(t, 1, request, wants("203.0.113.5")), "NAK ", "10"},
		{message(t, 4, request, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 10))), "NAK ", "10"}, // of another client
		{message(t, 1, request, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 10))), "ACK 192.0.2.10", "10"},
		{message(t, 9, discover), "OFFER 192.0.2.99", "10"},
		{message(t, 9, request, wants("192.0.2.99"), from("192.0.2.1")), "ACK 192.0.2.99", "10 99"},
		{message(t, 9, request, wants("192.0.2.12")), "NAK ", "10 99"},
		{message(t, 4, dhcpv4.MessageTypeRelease, from("192.0.2.1")), "", "10 99"},
		{message(t, 1, dhcpv4.MessageTypeRelease, from("192.0.2.7")), "", "10 99"},
		{message(t, 3, request, wants("192.0.2.12"), from("192.0.2.1")), "ACK 192.0.2.12", "10 12 99"},
		{message(t, 3, dhcpv4.MessageTypeDecline, wants("192.0.2.12"), from("192.0.2.1")), "", "10 99"},
		{message(t, 3, discover), "", "10 99"}, // the address is in use by somebody
		{message(t, 1, discover, dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("x")))), "", "10 99"},
		{message(t, 1, dhcpv4.MessageTypeRelease, from("192.0.2.1")), "", "99"},
		{message(t, 1, discover, dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("x")))), "OFFER 192.0.2.10", "99"},
		{message(t, 1, dhcpv4.MessageTypeNone), "", "99"},
	} {
		got := ""
		if a := s.answer(c.m); a != nil {
			got = a.MessageType().String() + " "
			if !a.YourIPAddr.IsUnspecified() {
				got += a.YourIPAddr.String()
			}
		}
		if got != c.want {
			t.Errorf("%d: %s: got %q, want %q", i, c.m.MessageType(), got, c.want)
		}
		var last []string
		for _, lease := range s.Leases() {
			last = append(last, fmt.Sprint(lease.Addr.As4()[3]))
		}
		if got := strings.Join(last, " "); got != c.held {
			t.Errorf("%d: leases %q, want %q", i, got, c.held)
		}
	}
	now = now.Add(time.Hour)
	if got := held(s); got != "" {
		t.Errorf("after the lease: %s", got)
	}
	if a := s.answer(message(t, 5, discover, wants("192.0.2.12"))); a == nil || a.YourIPAddr.String() != "192.0.2.12" {
		t.Error(a)
	}
}

// Replies go where RFC 2131, section 4.1, wants them.
func TestDHCPReceiver(t *testing.T) {
	l := newLAN(t)
	s := l.serve(dhcpConfig())
	const request = dhcpv4.MessageTypeRequest
	for _, c := range []struct {
		m    *dhcpv4.DHCPv4
		want string
	}{
		{message(t, 1, request, wants("192.0.2.10")), "192.0.2.10 02:00:00:00:00:01"},
		{message(t, 1, request, wants("192.0.2.10"), dhcpv4.WithBroadcast(true)), "255.255.255.255 ff:ff:ff:ff:ff:ff"},
		{message(t, 1, request, wants("192.0.2.77")), "255.255.255.255 ff:ff:ff:ff:ff:ff"},
		{message(t, 1, request, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 10)), dhcpv4.WithBroadcast(true)),
			"192.0.2.10 02:00:00:00:00:01"},
	} {
		to := receiver(c.m, s.answer(c.m))
		if got := to.addr.String() + " " + to.mac.String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.m.Summary(), got, c.want)
		}
	}
}

func TestDHCPConfig(t *testing.T) {
	for want, change := range map[string]func(*DHCPConfig){
		"range: 192.0.3.1 is no address of a host in 192.0.2.0/24": func(c *DHCPConfig) {
			c.Last = addrs("192.0.3.1")[0]
		},
		"range: 192.0.2.0 is no address of a host in 192.0.2.0/24": func(c *DHCPConfig) {
			c.First = addrs("192.0.2.0")[0]
		},
		"range: 192.0.2.255 is no address of a host in 192.0.2.0/24": func(c *DHCPConfig) {
			c.Last = addrs("192.0.2.255")[0]
		},
		"range: 192.0.2.10 is behind 192.0.2.9": func(c *DHCPConfig) { c.Last = addrs("192.0.2.9")[0] },
		"range: 65534 addresses, at most 4096": func(c *DHCPConfig) {
			c.Address = netip.MustParsePrefix("10.0.0.1/16")
			c.First, c.Last = addrs("10.0.0.1")[0], addrs("10.0.255.254")[0]
		},
		"options: the server sets option 53 itself": func(c *DHCPConfig) { c.Options = map[uint8][]byte{53: {1}} },
		"options: option 255 with 0 bytes":          func(c *DHCPConfig) { c.Options = map[uint8][]byte{255: nil} },
		"options: option 7 with 256 bytes": func(c *DHCPConfig) {
			c.Options = map[uint8][]byte{7: make([]byte, 256)}
		},
		"domain, boot_file and options have 1000 bytes, at ": func(c *DHCPConfig) {
			c.Domain = strings.Repeat("x", 1000)
		},
	} {
		cfg := dhcpConfig()
		change(&cfg)
		if s, err := NewDHCP(newLAN(t).at(0), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			if s != nil {
				s.Close()
			}
		}
	}
}

// The server is a host that answers ARP, and a frame with anything in it does no harm.
func FuzzDHCP(f *testing.F) {
	for _, m := range []*dhcpv4.DHCPv4{message(f, 1, dhcpv4.MessageTypeDiscover), message(f, 2,
		dhcpv4.MessageTypeRequest, wants("192.0.2.10")), message(f, 3, dhcpv4.MessageTypeDecline,
		wants("192.0.2.11"))} {
		f.Add(m.ToBytes(), true)
		f.Add(slices.Clip(udpFrame(endpoint{mac(1), netip.IPv4Unspecified(), clientPort},
			endpoint{broadcastMAC, netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort}, m.ToBytes())), false)
	}
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"), false)
	at := Config{MAC: mac(0), Send: func([]byte) {}}
	s, err := NewDHCP(at, dhcpConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, data []byte, wrap bool) {
		if wrap && len(data) <= 1400 {
			data = udpFrame(endpoint{mac(1), netip.IPv4Unspecified(), clientPort},
				endpoint{broadcastMAC, netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort}, data)
		}
		s.Receive(data)
		if len(s.leases.of) > 3 {
			t.Fatal("more leases than addresses")
		}
	})
}
