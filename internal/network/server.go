package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"provium/internal/netserver"
	"provium/internal/stream"
	"provium/internal/vnet"
)

// Server is a server of Provium on a bridge. It is no part of snapshots.
type Server struct {
	bridge *Bridge
	kind   string // dhcp, ra or dns
	port   string // on the switch
	addrs  []netip.Addr
	site   stream.Site
	inside *vnet.Inside
	serves serves
}

// serves is what all servers are.
type serves interface {
	Receive(frame []byte)
	Close()
}

// DHCPServer is a running DHCP server.
type DHCPServer struct {
	*Server
	dhcp *netserver.DHCP
}

// Lease is an address that a client of a DHCP server has.
type Lease struct {
	netserver.Lease
	VM string // "" for a client that is not on the bridge by a NIC
}

// Leases returns the leases that have not expired, by address.
func (d *DHCPServer) Leases() (all []Lease) {
	for _, l := range d.dhcp.Leases() {
		d.bridge.net.mu.Lock()
		lease := Lease{Lease: l}
		if nic := d.bridge.nicAt(l.MAC); nic != nil {
			lease.VM = nic.vmName
		}
		d.bridge.net.mu.Unlock()
		all = append(all, lease)
	}
	return all
}

// RAServer is a router that advertises itself.
type RAServer struct {
	*Server
	ra *netserver.RA
}

// Counters returns how many advertisements were sent, and how many solicitations came.
func (r *RAServer) Counters() (sent, solicited int) { return r.ra.Counters() }

// DNSServer is a running name server.
type DNSServer struct {
	*Server
	dns *netserver.DNS
}

// Set replaces what is said of a name, or with nil forgets it.
func (d *DNSServer) Set(name string, r *netserver.Record) error { return d.dns.Set(name, r) }

// Queries returns the queries that came, oldest first.
func (d *DNSServer) Queries() []netserver.Query { return d.dns.Queries() }

// DHCPHost is a client that has an address or a name of its own.
type DHCPHost struct {
	VM       string           // or
	MAC      net.HardwareAddr // else nil
	Addr     netip.Addr       // may be the zero Addr
	Hostname string           // may be ""
}

// DHCPOpts are the options of a DHCP server.
type DHCPOpts struct {
	netserver.DHCPConfig              // without Address and functions
	Subnet               netip.Prefix // zero: that of the bridge
	Address              netip.Addr   // of the server; zero: the last free one
	Routers, Resolvers   []netip.Addr // nil: the gateway, where it serves the subnet
	Hosts                []DHCPHost
}

// ServeDHCP starts a DHCP server. VMs get the addresses that their NICs have on the bridge,
// unless the options give another subnet. The caller must stop it.
func (b *Bridge) ServeDHCP(o DHCPOpts, site stream.Site) (*DHCPServer, error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	o.Subnet = o.Subnet.Masked()
	if !o.Subnet.IsValid() {
		o.Subnet = b.v4
	}
	if err := b.setDHCPDefaults(&o); err != nil {
		return nil, fmt.Errorf("bridge `%s` dhcp: %w", b.name, err)
	}
	d := &DHCPServer{}
	var err error
	d.Server, err = b.serve("dhcp", []netip.Addr{o.Address}, site, func(at netserver.Config) (serves, error) {
		d.dhcp, err = netserver.NewDHCP(at, o.DHCPConfig)
		return d.dhcp, err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// setDHCPDefaults completes the options of a DHCP server. The caller must hold net.mu.
func (b *Bridge) setDHCPDefaults(o *DHCPOpts) error {
	own := o.Subnet == b.v4
	if !o.Address.IsValid() {
		o.Address = netserver.LastHost(o.Subnet)
		for own && b.hostTaken(int(o.Address.As4()[3])) {
			o.Address = o.Address.Prev()
		}
	}
	if !o.Subnet.Contains(o.Address) {
		return fmt.Errorf("address %s is not in %s", o.Address, o.Subnet)
	}
	o.DHCPConfig.Address = netip.PrefixFrom(o.Address, o.Subnet.Bits())
	if !own && !o.First.IsValid() {
		o.First, o.Last = netserver.HostRange(o.Subnet)
	}
	for _, h := range o.Hosts {
		if h.Addr.IsValid() && !o.Subnet.Contains(h.Addr) {
			return fmt.Errorf("hosts: address %s is not in %s", h.Addr, o.Subnet)
		}
	}
	host := func(mac net.HardwareAddr) (h DHCPHost, nic *NIC) {
		nic = b.nicAt(mac)
		for _, h := range o.Hosts {
			if h.MAC != nil && slices.Equal(h.MAC, mac) || h.MAC == nil && nic != nil && h.VM == nic.vmName {
				return h, nic
			}
		}
		return DHCPHost{}, nic
	}
	o.Fixed = func(mac net.HardwareAddr) netip.Addr {
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		h, nic := host(mac)
		if !h.Addr.IsValid() && own && nic != nil {
			return nic.addresses()[0].Addr()
		}
		return h.Addr
	}
	o.Hostname = func(mac net.HardwareAddr) string {
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		h, nic := host(mac)
		if h.Hostname == "" && nic != nil {
			return nic.vmName
		}
		return h.Hostname
	}
	o.Taken = func(a netip.Addr) bool {
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		return own && (a == b.v4.Addr().Next() || b.hostTaken(int(a.As4()[3]))) ||
			slices.ContainsFunc(o.Hosts, func(h DHCPHost) bool { return h.Addr == a })
	}
	o.DHCPConfig.Routers = b.orGateway(o.Routers, own, func() bool { return b.uplink || len(b.routes) > 0 })
	o.DHCPConfig.Resolvers = b.orGateway(o.Resolvers, own, func() bool { return b.uplink })
	return nil
}

// orGateway returns a function that returns the given addresses, or if they are nil the
// gateway's while it serves.
func (b *Bridge) orGateway(given []netip.Addr, own bool, serves func() bool) func() []netip.Addr {
	return func() []netip.Addr {
		if given != nil || !own {
			return given
		}
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		if !serves() {
			return nil
		}
		return []netip.Addr{b.v4.Addr().Next()}
	}
}

// nicAt returns the NIC with a hardware address, or nil. The caller must hold net.mu.
func (b *Bridge) nicAt(mac net.HardwareAddr) *NIC {
	for _, n := range b.nics {
		if slices.Equal(n.mac, mac) {
			return n
		}
	}
	return nil
}

// hostTaken reports whether a NIC or a server has the last byte of an address of the
// bridge's networks. The caller must hold net.mu.
func (b *Bridge) hostTaken(host int) bool {
	for _, n := range b.nics {
		if n.host == host {
			return true
		}
	}
	return slices.ContainsFunc(b.servers, func(s *Server) bool {
		return slices.ContainsFunc(s.addrs, func(a netip.Addr) bool { return b.hostOf(a) == host })
	})
}

// hostOf returns the last byte of an address of the bridge's networks, or -1 for another
// address.
func (b *Bridge) hostOf(a netip.Addr) int {
	if b.v4.Contains(a) {
		return int(a.As4()[3])
	}
	if b.v6.Contains(a) {
		bytes := a.As16()
		last := bytes[15]
		if bytes[15] = 0; netip.AddrFrom16(bytes) == b.v6.Addr() {
			return int(last)
		}
	}
	return -1
}

// ServeRA starts a router that advertises itself. Without prefixes it advertises that of the
// bridge. The caller must stop it.
func (b *Bridge) ServeRA(cfg netserver.RAConfig, site stream.Site) (*RAServer, error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if cfg.Prefixes == nil {
		cfg.Prefixes = []netip.Prefix{b.v6}
	}
	r := &RAServer{}
	var err error
	r.Server, err = b.serve("ra", nil, site, func(at netserver.Config) (serves, error) {
		r.ra, err = netserver.NewRA(at, cfg)
		return r.ra, err
	})
	if err != nil {
		return nil, err
	}
	r.addrs = []netip.Addr{r.ra.LinkLocal()}
	return r, nil
}

// ServeDNS starts a name server. Without addresses it has the last free ones of the bridge's
// networks. The caller must stop it.
func (b *Bridge) ServeDNS(addrs []netip.Addr, cfg netserver.DNSConfig, site stream.Site) (*DNSServer, error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if len(addrs) == 0 {
		host := lastHost
		for b.hostTaken(host) {
			host--
		}
		free := (&NIC{bridge: b, host: host}).addresses()
		addrs = []netip.Addr{free[0].Addr(), free[1].Addr()}
	}
	d := &DNSServer{}
	var err error
	d.Server, err = b.serve("dns", addrs, site, func(at netserver.Config) (serves, error) {
		d.dns, err = netserver.NewDNS(at, cfg)
		return d.dns, err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// serve starts a server on a port of its own. The caller must hold net.mu.
func (b *Bridge) serve(kind string, addrs []netip.Addr, site stream.Site,
	start func(at netserver.Config) (serves, error)) (*Server, error) {
	if b.closed {
		return nil, fmt.Errorf("bridge `%s` is closed", b.name)
	}
	if err := b.mayAnswer("a server"); err != nil {
		return nil, err
	}
	s := &Server{bridge: b, kind: kind, addrs: addrs, site: site}
	for n := 0; s.port == "" || slices.ContainsFunc(b.servers, func(o *Server) bool { return o.port == s.port }); n++ {
		s.port = "." + kind + strconv.Itoa(n)
	}
	id := digest(b.lab, s.port, b.name)
	at := netserver.Config{MAC: net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]}}
	for _, a := range addrs {
		host := b.hostOf(a)
		if host >= 0 && (b.hostTaken(host) || b.addressing && host < firstHost) {
			return nil, fmt.Errorf("bridge `%s` %s: address %s is in use", b.name, kind, a)
		}
		at.Addresses = append(at.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	port := b.sw.AddPort(s.port)
	at.Send = port.Send
	var err error
	if s.serves, err = start(at); err != nil {
		b.sw.RemovePort(s.port)
		return nil, fmt.Errorf("bridge `%s` %s: %w", b.name, kind, err)
	}
	s.inside = port.Join(s.serves.Receive)
	b.servers = append(b.servers, s)
	return s, nil
}

// Kind returns dhcp, ra or dns.
func (s *Server) Kind() string { return s.kind }

// Bridge returns the bridge.
func (s *Server) Bridge() *Bridge { return s.bridge }

// Addresses returns the server's addresses.
func (s *Server) Addresses() []netip.Addr { return s.addrs }

// IsStopped reports whether Stop was called.
func (s *Server) IsStopped() bool {
	s.bridge.net.mu.Lock()
	defer s.bridge.net.mu.Unlock()
	return !slices.Contains(s.bridge.servers, s)
}

// Stop takes the server off the bridge. It may be called again.
func (s *Server) Stop() {
	b := s.bridge
	b.net.mu.Lock()
	at := slices.Index(b.servers, s)
	if at >= 0 {
		b.servers = slices.Delete(b.servers, at, at+1)
		b.sw.RemovePort(s.port)
	}
	b.net.mu.Unlock()
	if at >= 0 {
		s.inside.Close()
		s.serves.Close()
	}
}

// String returns the kind of the server, its bridge, and where it was started.
func (s *Server) String() string {
	text := s.kind + " server on " + s.bridge.name
	if s.site.Line > 0 {
		text += fmt.Sprintf(" at %s:%d", s.site.File, s.site.Line)
	}
	return text
}
