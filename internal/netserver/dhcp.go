package netserver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// DHCPConfig is what a server gives its clients.
type DHCPConfig struct {
	// Address is the server's, with the length of the network in which clients get theirs.
	Address netip.Prefix
	// First and Last bound the addresses for any client. Without them, only clients with a
	// fixed one get an address.
	First, Last netip.Addr
	// Fixed returns the address of a client that has one of its own, else the zero Addr.
	Fixed func(mac net.HardwareAddr) netip.Addr
	// Taken reports whether an address of the range is not for any client.
	Taken func(a netip.Addr) bool
	// Routers and Resolvers are asked for at each reply.
	Routers, Resolvers func() []netip.Addr
	TimeServers        []netip.Addr
	Domain             string
	MTU                int // 0: none is sent
	Lease              time.Duration
	// Hostname returns the name for a client, or "".
	Hostname func(mac net.HardwareAddr) string
	// BootFile and NextServer are for clients that boot from the network.
	BootFile   string
	NextServer netip.Addr
	// Options are sent to clients that ask for them, as they are.
	Options map[uint8][]byte
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const (
	serverPort, clientPort = 67, 68
	// maxRange limits the addresses for any client.
	maxRange = 4096
	// maxOptions is the size of options of the test that fit into a reply.
	maxOptions = 900
)

// DHCP is a DHCP server.
type DHCP struct {
	cfg  DHCPConfig
	host *Host
	mac  net.HardwareAddr
	send func(frame []byte)

	mu     sync.Mutex
	leases leases
}

// NewDHCP starts a server. The caller must close it.
func NewDHCP(at Config, cfg DHCPConfig) (*DHCP, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	at.Addresses = []netip.Prefix{cfg.Address}
	host, err := NewHost(at)
	if err != nil {
		return nil, err
	}
	s := &DHCP{cfg: cfg, host: host, mac: at.MAC, send: at.Send}
	s.leases = leases{&s.cfg, map[netip.Addr]*lease{}}
	return s, nil
}

func (c *DHCPConfig) check() error {
	network := c.Address.Masked()
	if c.First.IsValid() {
		for _, a := range []netip.Addr{c.First, c.Last} {
			if !network.Contains(a) || !isHost(a, network) {
				return fmt.Errorf("range: %s is no address of a host in %s", a, network)
			}
		}
		switch n := addressCount(c.First, c.Last); {
		case n < 1:
			return fmt.Errorf("range: %s is behind %s", c.First, c.Last)
		case n > maxRange:
			return fmt.Errorf("range: %d addresses, at most %d are possible", n, maxRange)
		}
	}
	size := len(c.Domain) + len(c.BootFile)
	for code, value := range c.Options {
		if code == 0 || code == 255 || len(value) > 255 {
			return fmt.Errorf("options: option %d with %d bytes (1 to 254, at most 255 bytes)", code, len(value))
		}
		if slices.Contains(reserved, code) {
			return fmt.Errorf("options: the server sets option %d itself", code)
		}
		size += 2 + len(value)
	}
	if size > maxOptions {
		return fmt.Errorf("domain, boot_file and options have %d bytes, at most %d fit into a reply", size, maxOptions)
	}
	return nil
}

// reserved are the options that only the server can set.
var reserved = []uint8{dhcpv4.OptionDHCPMessageType.Code(), dhcpv4.OptionServerIdentifier.Code(),
	dhcpv4.OptionIPAddressLeaseTime.Code(), dhcpv4.OptionClientIdentifier.Code(),
	dhcpv4.OptionRelayAgentInformation.Code(), dhcpv4.OptionOptionOverload.Code(),
	dhcpv4.OptionRequestedIPAddress.Code(), dhcpv4.OptionSubnetMask.Code()}

// isHost reports whether an address of a network is neither its first nor its last one.
func isHost(a netip.Addr, network netip.Prefix) bool {
	return network.Bits() >= 31 || a != network.Addr() && a != lastOf(network)
}

// HostRange returns the first and the last address of a host in an IPv4 network, at most
// 4,096 addresses.
func HostRange(network netip.Prefix) (first, last netip.Addr) {
	first, last = network.Masked().Addr(), LastHost(network)
	if network.Bits() < 31 {
		first = first.Next()
	}
	if n := addressCount(first, last); n > maxRange {
		last = first
		for range maxRange - 1 {
			last = last.Next()
		}
	}
	return first, last
}

// LastHost returns the last address of a host in an IPv4 network.
func LastHost(network netip.Prefix) netip.Addr {
	last := lastOf(network)
	if network.Bits() < 31 {
		last = last.Prev()
	}
	return last
}

// lastOf returns the broadcast address of an IPv4 network.
func lastOf(network netip.Prefix) netip.Addr {
	b := network.Masked().Addr().As4()
	for bit := network.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// Close ends the server.
func (s *DHCP) Close() { s.host.Close() }

// Leases returns the leases that have not expired, by address.
func (s *DHCP) Leases() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases.bound(s.cfg.Now())
}

// Receive accepts a frame from the bridge.
func (s *DHCP) Receive(frame []byte) {
	payload, ok := udpPayload(frame, serverPort)
	if !ok {
		s.host.Receive(frame)
		return
	}
	request, err := dhcpv4.FromBytes(payload)
	if err != nil || request.OpCode != dhcpv4.OpcodeBootRequest || request.HWType != iana.HWTypeEthernet ||
		len(request.ClientHWAddr) != 6 || request.ClientHWAddr[0]&1 != 0 || !request.GatewayIPAddr.IsUnspecified() {
		return // damaged, or of a relay
	}
	reply := s.answer(request)
	if reply == nil {
		return
	}
	s.send(udpFrame(endpoint{s.mac, s.cfg.Address.Addr(), serverPort}, receiver(request, reply), reply.ToBytes()))
}

// receiver returns where the reply to a request goes.
func receiver(request, reply *dhcpv4.DHCPv4) endpoint {
	to := endpoint{broadcastMAC, netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort}
	address := toIP(request.ClientIPAddr)
	switch {
	case reply.MessageType() == dhcpv4.MessageTypeNak:
		return to
	case address.IsValid():
	case request.IsBroadcast():
		return to
	default:
		address = toIP(reply.YourIPAddr)
	}
	if address.IsValid() {
		to.mac, to.addr = request.ClientHWAddr, address
	}
	return to
}

// answer returns the reply to a request, or nil.
func (s *DHCP) answer(request *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, mac, key := s.cfg.Now(), request.ClientHWAddr, clientKey(request)
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, ok := s.leases.choose(key, mac, toIP(request.RequestedIPAddress()), now)
		if !ok {
			return nil
		}
		if held := s.leases.byKey(key, now); held == nil || held.Addr != a || !held.bound {
			s.leases.put(key, mac, a, request.HostName(), false, now.Add(offerTime))
		}
		return s.reply(request, dhcpv4.MessageTypeOffer, a)
	case dhcpv4.MessageTypeRequest:
		return s.answerRequest(request, key, now)
	case dhcpv4.MessageTypeRelease:
		if s.isMine(request) {
			s.leases.drop(key)
		}
	case dhcpv4.MessageTypeDecline:
		a := toIP(request.RequestedIPAddress())
		if held := s.leases.get(a, now); s.isMine(request) && held != nil && held.key == key {
			s.leases.put("", mac, a, "", false, now.Add(s.cfg.Lease))
		}
	case dhcpv4.MessageTypeInform:
		return s.reply(request, dhcpv4.MessageTypeAck, netip.Addr{})
	default:
	}
	return nil
}

// isMine reports whether a message names this server.
func (s *DHCP) isMine(m *dhcpv4.DHCPv4) bool {
	return toIP(m.ServerIdentifier()) == s.cfg.Address.Addr()
}

// answerRequest answers a client that has chosen an offer, has started again, or renews.
// The caller must hold s.mu.
func (s *DHCP) answerRequest(request *dhcpv4.DHCPv4, key string, now time.Time) *dhcpv4.DHCPv4 {
	wanted := toIP(request.RequestedIPAddress())
	if !wanted.IsValid() {
		wanted = toIP(request.ClientIPAddr)
	}
	if request.Options.Has(dhcpv4.OptionServerIdentifier) && !s.isMine(request) {
		if held := s.leases.byKey(key, now); held != nil && !held.bound {
			s.leases.drop(key) // the client has chosen another server
		}
		return nil
	}
	a, ok := s.leases.choose(key, request.ClientHWAddr, wanted, now)
	if !ok || a != wanted {
		return s.reply(request, dhcpv4.MessageTypeNak, netip.Addr{})
	}
	s.leases.put(key, request.ClientHWAddr, a, request.HostName(), true, now.Add(s.cfg.Lease))
	return s.reply(request, dhcpv4.MessageTypeAck, a)
}

// reply builds a reply with the address for the client, which may be the zero Addr.
func (s *DHCP) reply(request *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr) *dhcpv4.DHCPv4 {
	own := s.cfg.Address.Addr()
	m, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(own.AsSlice())))
	if err != nil {
		return nil
	}
	if kind == dhcpv4.MessageTypeNak {
		return m
	}
	m.ClientIPAddr = request.ClientIPAddr
	if a.IsValid() {
		m.YourIPAddr = a.AsSlice()
		m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(s.cfg.Lease))
		m.UpdateOption(dhcpv4.OptRenewTimeValue(s.cfg.Lease / 2))
		m.UpdateOption(dhcpv4.OptRebindingTimeValue(s.cfg.Lease / 8 * 7))
	}
	m.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.cfg.Address.Bits(), 32)))
	for _, o := range s.options(request) {
		if request.IsOptionRequested(o.Code) {
			m.UpdateOption(o)
		}
	}
	if s.cfg.NextServer.IsValid() {
		m.ServerIPAddr = s.cfg.NextServer.AsSlice()
	}
	m.BootFileName = s.cfg.BootFile
	return m
}

// options returns what clients can ask for.
func (s *DHCP) options(request *dhcpv4.DHCPv4) (all []dhcpv4.Option) {
	add := func(given bool, o dhcpv4.Option) {
		if given {
			all = append(all, o)
		}
	}
	routers, resolvers := s.cfg.Routers(), s.cfg.Resolvers()
	name := s.cfg.Hostname(request.ClientHWAddr)
	add(len(routers) > 0, dhcpv4.OptRouter(toIPs(routers)...))
	add(len(resolvers) > 0, dhcpv4.OptDNS(toIPs(resolvers)...))
	add(len(s.cfg.TimeServers) > 0, dhcpv4.OptNTPServers(toIPs(s.cfg.TimeServers)...))
	add(s.cfg.Domain != "", dhcpv4.OptDomainName(s.cfg.Domain))
	add(name != "", dhcpv4.OptHostName(name))
	add(s.cfg.MTU > 0, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(s.cfg.MTU >> 8), byte(s.cfg.MTU)}))
	add(s.cfg.BootFile != "", dhcpv4.OptBootFileName(s.cfg.BootFile))
	if s.cfg.NextServer.IsValid() {
		add(true, dhcpv4.OptTFTPServerName(s.cfg.NextServer.String()))
	}
	for code, value := range s.cfg.Options {
		add(true, dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value))
	}
	return all
}

// clientKey returns what a client is known by: the identifier that it sends, else its
// hardware address.
func clientKey(m *dhcpv4.DHCPv4) string {
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		return "id " + strings.Clone(string(id))
	}
	return "mac " + m.ClientHWAddr.String()
}

// toIP returns an IPv4 address, or the zero Addr for none and 0.0.0.0.
func toIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func toIPs(addrs []netip.Addr) (ips []net.IP) {
	for _, a := range addrs {
		ips = append(ips, a.AsSlice())
	}
	return ips
}
