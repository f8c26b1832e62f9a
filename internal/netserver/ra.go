package netserver

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// RAConfig is what a router advertises.
type RAConfig struct {
	Prefixes         []netip.Prefix // on the bridge
	Autonomous       bool           // guests make addresses from the prefixes
	Valid, Preferred time.Duration  // lifetimes of the prefixes
	Lifetime         time.Duration  // as a default router; 0: it is not one
	Managed, Other   bool           // addresses, or other things, come from DHCPv6
	HopLimit         int
	Preference       ndp.Preference
	Reachable        time.Duration
	Retransmit       time.Duration
	MTU              int // 0: none is sent
	RDNSS            []netip.Addr
	Search           []string
	Interval         time.Duration // between two advertisements that nobody has asked for
}

// RA is a router that advertises itself, and forwards nothing.
type RA struct {
	host    *Host
	mac     net.HardwareAddr
	send    func(frame []byte)
	message *ndp.RouterAdvertisement

	stop, ended chan struct{}
	close       sync.Once

	mu              sync.Mutex
	sent, solicited int
}

// NewRA starts a server, which sends the first advertisement at once. The caller must close
// it.
func NewRA(at Config, cfg RAConfig) (*RA, error) {
	for _, name := range cfg.Search {
		if _, ok := dns.IsDomainName(name); !ok {
			return nil, fmt.Errorf("search: `%s` is no domain name", name)
		}
	}
	at.Addresses = nil
	host, err := NewHost(at)
	if err != nil {
		return nil, err
	}
	s := &RA{host: host, mac: at.MAC, send: at.Send, message: cfg.message(at.MAC), stop: make(chan struct{}),
		ended: make(chan struct{})}
	if _, err := ndp.MarshalMessage(s.message); err != nil {
		host.Close()
		return nil, fmt.Errorf("router advertisement: %w", err)
	}
	go s.run(cfg.Interval)
	return s, nil
}

// Preference returns the value of low, medium or high.
func Preference(name string) ndp.Preference {
	switch name {
	case "low":
		return ndp.Low
	case "high":
		return ndp.High
	}
	return ndp.Medium
}

// message returns the advertisement.
func (c *RAConfig) message(mac net.HardwareAddr) *ndp.RouterAdvertisement {
	m := &ndp.RouterAdvertisement{CurrentHopLimit: uint8(c.HopLimit), ManagedConfiguration: c.Managed,
		OtherConfiguration: c.Other, RouterSelectionPreference: c.Preference, RouterLifetime: c.Lifetime,
		ReachableTime: c.Reachable, RetransmitTimer: c.Retransmit,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}}
	if c.MTU > 0 {
		m.Options = append(m.Options, ndp.NewMTU(uint32(c.MTU)))
	}
	for _, p := range c.Prefixes {
		m.Options = append(m.Options, &ndp.PrefixInformation{PrefixLength: uint8(p.Bits()), OnLink: true,
			AutonomousAddressConfiguration: c.Autonomous, ValidLifetime: c.Valid, PreferredLifetime: c.Preferred,
			Prefix: p.Masked().Addr()})
	}
	if len(c.RDNSS) > 0 {
		m.Options = append(m.Options, &ndp.RecursiveDNSServer{Lifetime: c.Valid, Servers: c.RDNSS})
	}
	if len(c.Search) > 0 {
		m.Options = append(m.Options, &ndp.DNSSearchList{Lifetime: c.Valid, DomainNames: c.Search})
	}
	return m
}

// run advertises until Close.
func (s *RA) run(interval time.Duration) {
	defer close(s.ended)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.advertise(endpoint{addr: netip.IPv6LinkLocalAllNodes()})
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

// advertise sends an advertisement to an address.
func (s *RA) advertise(to endpoint) {
	from := s.host.LinkLocal()
	message, err := ndp.MarshalMessageChecksum(s.message, from, to.addr)
	if err != nil {
		return // not after NewRA has tried it
	}
	if to.addr.IsMulticast() {
		to.mac = net.HardwareAddr(header.EthernetAddressFromMulticastIPv6Address(toAddress(to.addr)))
	}
	s.mu.Lock()
	s.sent++
	s.mu.Unlock()
	s.send(ndFrame(endpoint{mac: s.mac, addr: from}, to, message))
}

// Receive accepts a frame from the bridge.
func (s *RA) Receive(frame []byte) {
	s.host.Receive(frame)
	payload, from, ok := ndPayload(frame)
	if !ok {
		return
	}
	message, err := ndp.ParseMessage(payload)
	if _, ok := message.(*ndp.RouterSolicitation); !ok || err != nil {
		return
	}
	s.mu.Lock()
	s.solicited++
	s.mu.Unlock()
	to := endpoint{addr: netip.IPv6LinkLocalAllNodes()}
	if from.IsValid() && !from.IsUnspecified() && !from.IsMulticast() {
		source := header.Ethernet(frame).SourceAddress()
		if source[0]&1 != 0 || source == tcpip.LinkAddress(s.mac) {
			return
		}
		to = endpoint{mac: net.HardwareAddr(source), addr: from}
	}
	s.advertise(to)
}

// LinkLocal returns the address that the advertisements come from.
func (s *RA) LinkLocal() netip.Addr { return s.host.LinkLocal() }

// Counters returns how many advertisements were sent, and how many solicitations came.
func (s *RA) Counters() (sent, solicited int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent, s.solicited
}

// Close ends the server. Guests keep what it has told them.
func (s *RA) Close() {
	s.close.Do(func() {
		close(s.stop)
		<-s.ended
		s.host.Close()
	})
}
