package netserver

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"provium/internal/vnet"
)

// routerConfig returns the configuration of a router that advertises once, and when asked.
func routerConfig() RAConfig {
	return RAConfig{Prefixes: []netip.Prefix{netip.MustParsePrefix("fd00:1::7/64")}, Autonomous: true,
		Valid: 2 * time.Hour, Preferred: time.Hour, Lifetime: 30 * time.Minute, HopLimit: 64, Interval: time.Hour}
}

// advertisement returns the next advertisement that an inbox gets, with its frame.
func advertisement(t *testing.T, i *vnet.Inbox) (*ndp.RouterAdvertisement, header.Ethernet) {
	t.Helper()
	for {
		frame := next(i, long)
		if frame == nil {
			t.Fatal("no advertisement came")
		}
		payload, from, ok := ndPayload(frame)
		if !ok {
			continue
		}
		m, err := ndp.ParseMessage(payload)
		if err != nil {
			t.Fatal(err)
		}
		if ra, ok := m.(*ndp.RouterAdvertisement); ok {
			if from.String() != "fe80::ff:fe00:0" {
				t.Errorf("from %s", from)
			}
			return ra, header.Ethernet(frame)
		}
	}
}

// solicitation returns a frame with a question for routers.
func solicitation(t testing.TB, from endpoint, options ...ndp.Option) []byte {
	t.Helper()
	to := endpoint{mac: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}, addr: netip.MustParseAddr("ff02::2")}
	m, err := ndp.MarshalMessageChecksum(&ndp.RouterSolicitation{Options: options}, from.addr, to.addr)
	if err != nil {
		t.Fatal(err)
	}
	return ndFrame(from, to, m)
}

func TestRA(t *testing.T) {
	l := newLAN(t)
	client := l.inbox(1)
	cfg := routerConfig()
	cfg.Managed, cfg.Other, cfg.Preference, cfg.MTU = true, true, ndp.High, 1400
	cfg.RDNSS, cfg.Search = addrs("fd00:1::53", "fd00:1::54"), []string{"example.test"}
	cfg.Reachable, cfg.Retransmit = 5*time.Second, time.Second
	s, err := NewRA(l.at(0), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.join(0, s)
	ra, eth := advertisement(t, client)
	if eth.DestinationAddress() != tcpip.LinkAddress("\x33\x33\x00\x00\x00\x01") {
		t.Errorf("to %s", eth.DestinationAddress())
	}
	want := &ndp.RouterAdvertisement{CurrentHopLimit: 64, ManagedConfiguration: true, OtherConfiguration: true,
		RouterSelectionPreference: ndp.High, RouterLifetime: 30 * time.Minute, ReachableTime: 5 * time.Second,
		RetransmitTimer: time.Second, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac(0)},
			ndp.NewMTU(1400), &ndp.PrefixInformation{PrefixLength: 64, OnLink: true,
				AutonomousAddressConfiguration: true, ValidLifetime: 2 * time.Hour, PreferredLifetime: time.Hour,
				Prefix: netip.MustParseAddr("fd00:1::")},
			&ndp.RecursiveDNSServer{Lifetime: 2 * time.Hour, Servers: cfg.RDNSS},
			&ndp.DNSSearchList{Lifetime: 2 * time.Hour, DomainNames: cfg.Search}}}
	if got, want := asText(t, ra), asText(t, want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	port := l.sw.AddPort("b")
	port.Send(solicitation(t, endpoint{mac: mac(1), addr: netip.MustParseAddr("fe80::1")}))
	if _, eth := advertisement(t, client); eth.DestinationAddress() != tcpip.LinkAddress(mac(1)) {
		t.Errorf("to %s", eth.DestinationAddress())
	}
	port.Send(solicitation(t, endpoint{mac: mac(1), addr: netip.IPv6Unspecified()}))
	if _, eth := advertisement(t, client); eth.DestinationAddress()[0] != 0x33 {
		t.Errorf("to %s", eth.DestinationAddress())
	}
	if sent, solicited := s.Counters(); sent != 3 || solicited != 2 {
		t.Error(sent, solicited)
	}
	damaged := solicitation(t, endpoint{mac: mac(1), addr: netip.MustParseAddr("fe80::1")})
	damaged[len(damaged)-1] ^= 1
	s.Receive(damaged)
	far := solicitation(t, endpoint{mac: mac(1), addr: netip.MustParseAddr("fe80::1")})
	header.IPv6(far[14:]).SetHopLimit(254)
	s.Receive(far)
	if _, solicited := s.Counters(); solicited != 2 {
		t.Error("damaged or routed solicitations count")
	}
	s.Close()
	s.Close()
}

func asText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A router advertises again and again until it is closed.
func TestRAInterval(t *testing.T) {
	l := newLAN(t)
	client := l.inbox(1)
	cfg := routerConfig()
	cfg.Interval = time.Millisecond
	s, err := NewRA(l.at(0), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.join(0, s)
	for range 3 {
		advertisement(t, client)
	}
	s.Close()
	sent, _ := s.Counters()
	if sent < 3 {
		t.Error(sent)
	}
}

func TestRAConfig(t *testing.T) {
	cfg := routerConfig()
	cfg.Search = []string{"bad..name"}
	if s, err := NewRA(newLAN(t).at(0), cfg); err == nil || !strings.Contains(err.Error(), "no domain name") {
		t.Error(err)
		if s != nil {
			s.Close()
		}
	}
}

func FuzzRA(f *testing.F) {
	frame := solicitation(f, endpoint{mac: mac(1), addr: netip.MustParseAddr("fe80::1")},
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac(1)})
	f.Add(frame, false)
	f.Add(slices.Clone(frame[14+header.IPv6MinimumSize:]), true)
	s, err := NewRA(Config{MAC: mac(0), Send: func([]byte) {}}, routerConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	from, to := endpoint{mac: mac(1), addr: netip.MustParseAddr("fe80::1")},
		endpoint{mac: mac(0), addr: netip.MustParseAddr("ff02::2")}
	f.Fuzz(func(_ *testing.T, data []byte, wrap bool) {
		if wrap && len(data) >= header.ICMPv6MinimumSize && len(data) <= 1400 {
			m := header.ICMPv6(slices.Clone(data))
			m.SetChecksum(0)
			m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: toAddress(from.addr),
				Dst: toAddress(to.addr)}))
			data = ndFrame(from, to, m)
		}
		s.Receive(data)
	})
}
