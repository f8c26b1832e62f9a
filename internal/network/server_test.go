package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"provium/internal/netserver"
	"provium/internal/stream"
)

func dhcpOpts() DHCPOpts {
	return DHCPOpts{DHCPConfig: netserver.DHCPConfig{Lease: time.Hour}}
}

func raConfig() netserver.RAConfig {
	return netserver.RAConfig{Valid: time.Hour, Preferred: time.Hour, HopLimit: 64, Interval: 10 * time.Millisecond}
}

// Servers have the last free addresses, which no NIC gets.
func TestServerAddresses(t *testing.T) {
	s := newSite(t)
	s.vm("a")
	lan := s.bridge("lan", nil)
	attach(t, lan, "a")
	one, err := lan.ServeDHCP(dhcpOpts(), stream.Site{})
	must(t, err)
	two, err := lan.ServeDNS(nil, netserver.DNSConfig{}, stream.Site{})
	must(t, err)
	host := func(n int) string {
		addrs := (&NIC{bridge: lan, host: n}).addresses()
		return addrs[0].Addr().String() + " " + addrs[1].Addr().String()
	}
	have := one.Addresses()[0].String() + " " + two.Addresses()[0].String() + " " + two.Addresses()[1].String()
	if want := strings.Fields(host(254))[0] + " " + host(253); have != want {
		t.Errorf("%s, want %s", have, want)
	}
	nic, err := lan.NIC("a", "")
	must(t, err)
	for _, a := range []netip.Addr{netip.MustParseAddr(nic.IP()), one.Addresses()[0], two.Addresses()[1],
		lan.v4.Addr().Next()} {
		_, err := lan.ServeDNS([]netip.Addr{a}, netserver.DNSConfig{}, stream.Site{})
		if err == nil || !strings.Contains(err.Error(), "address "+a.String()+" is in use") {
			t.Errorf("%s: %v", a, err)
		}
	}
	if !lan.hostTaken(254) || !lan.hostTaken(253) || lan.hostTaken(252) {
		t.Error("hosts")
	}
	var many []Endpoint
	for range maxNICs - 2 {
		n := rune(len(many))
		many = append(many, Endpoint{Name: "x" + string('a'+n/26) + string('a'+n%26)})
	}
	if err := lan.Attach(t.Context(), many); err == nil || !strings.Contains(err.Error(), "1 of at most 251 VMs") {
		t.Error(err)
	}
	must(t, lan.Attach(t.Context(), many[:maxNICs-3]))
	if lan.nicOf(many[maxNICs-4].Name).host != 252 {
		t.Error("the last one")
	}
	one.Stop()
	one.Stop()
	if !one.IsStopped() || two.IsStopped() || lan.hostTaken(254) {
		t.Error("stopped")
	}
	must(t, lan.Close(t.Context()))
	if _, err := lan.ServeRA(raConfig(), stream.Site{}); err == nil || !two.IsStopped() ||
		!strings.Contains(err.Error(), "bridge `lan` is closed") {
		t.Error(err)
	}
}

// Clients of a DHCP server get what belongs to their VMs.
func TestDHCPDefaults(t *testing.T) {
	s := newSite(t)
	s.vm("a")
	s.vm("b")
	lan := s.bridge("lan", nil)
	attach(t, lan, "a", "b")
	a, err := lan.NIC("a", "")
	must(t, err)
	b, err := lan.NIC("b", "")
	must(t, err)
	stranger := net.HardwareAddr{2, 9, 9, 9, 9, 9}

	o := dhcpOpts()
	o.Subnet = lan.v4
	o.Hosts = []DHCPHost{{VM: "b", Addr: lan.v4.Addr().Next().Next().Next().Next(), Hostname: "bee"},
		{MAC: stranger, Hostname: "odd"}}
	must(t, lan.setDHCPDefaults(&o))
	if o.Fixed(a.mac).String() != a.IP() || o.Fixed(b.mac) != o.Hosts[0].Addr || o.Fixed(stranger).IsValid() {
		t.Error(o.Fixed(a.mac), o.Fixed(b.mac), o.Fixed(stranger))
	}
	if o.Hostname(a.mac) != "a" || o.Hostname(b.mac) != "bee" || o.Hostname(stranger) != "odd" {
		t.Error(o.Hostname(a.mac), o.Hostname(b.mac), o.Hostname(stranger))
	}
	if !o.Taken(netip.MustParseAddr(a.IP())) || !o.Taken(o.Hosts[0].Addr) || !o.Taken(lan.v4.Addr().Next()) ||
		o.Taken(lan.v4.Addr().Next().Next().Next().Next().Next()) {
		t.Error("taken")
	}
	if o.DHCPConfig.Routers() != nil || o.DHCPConfig.Resolvers() != nil || o.First.IsValid() {
		t.Error("there is no gateway")
	}
	must(t, lan.EnableUplink(t.Context()))
	gateway := lan.v4.Addr().Next().String()
	for _, got := range [][]netip.Addr{o.DHCPConfig.Routers(), o.DHCPConfig.Resolvers()} {
		if len(got) != 1 || got[0].String() != gateway {
			t.Error(got)
		}
	}

	o = dhcpOpts()
	o.Subnet, o.Routers = netip.MustParsePrefix("192.0.2.77/24"), []netip.Addr{}
	o.Subnet = o.Subnet.Masked()
	must(t, lan.setDHCPDefaults(&o))
	if o.Address.String() != "192.0.2.254" || o.First.String() != "192.0.2.1" || o.Last.String() != "192.0.2.254" ||
		o.Fixed(a.mac).IsValid() || o.Taken(o.First) || o.DHCPConfig.Resolvers() != nil {
		t.Errorf("%+v", o)
	}
	o = dhcpOpts()
	o.Subnet = netip.MustParsePrefix("10.0.0.0/8")
	must(t, lan.setDHCPDefaults(&o))
	if o.Address.String() != "10.255.255.254" || o.First.String() != "10.0.0.1" || o.Last.String() != "10.0.16.0" {
		t.Error(o.Address, o.First, o.Last)
	}
	far := netip.MustParseAddr("10.0.0.1")
	for want, change := range map[string]func(*DHCPOpts){
		"address 10.0.0.1 is not in 192.0.2.0/24": func(o *DHCPOpts) { o.Address = far },
		"hosts: address 10.0.0.1 is not in 192":   func(o *DHCPOpts) { o.Hosts = []DHCPHost{{Addr: far}} },
		"range: 10.0.0.1 is no address":           func(o *DHCPOpts) { o.First, o.Last = far, far },
	} {
		o := dhcpOpts()
		o.Subnet = netip.MustParsePrefix("192.0.2.0/24")
		change(&o)
		if _, err := lan.ServeDHCP(o, stream.Site{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if len(lan.servers) != 0 || lan.sw.AddPort(".dhcp0").IsLive() {
		t.Error("a server that did not start is on the bridge")
	}
}

// A server reaches guests that are cut off from each other.
func TestServerAndIsolation(t *testing.T) {
	s := newSite(t)
	vm := s.vm("a")
	lan := s.bridge("lan", &BridgeOpts{NoAddressing: true})
	attach(t, lan, "a")
	lan.Switch().Isolate("a", true)
	lan.Switch().PartitionAll()
	vm.boot(t, s)
	awaitLive(t, lan)
	r, err := lan.ServeRA(raConfig(), stream.Site{})
	must(t, err)
	other, err := lan.ServeRA(raConfig(), stream.Site{})
	must(t, err)
	if r.String() != "ra server on lan" || r.Kind() != "ra" || r.Bridge() != lan ||
		r.Addresses()[0] == other.Addresses()[0] {
		t.Error(r, other.Addresses())
	}
	frame := vm.awaitFrame(t, vm.machine.slots()[0], func(f []byte) bool {
		return len(f) > 54 && f[20] == 58 && f[54] == 134 && netip.AddrFrom16([16]byte(f[22:38])) == r.Addresses()[0]
	})
	if string(frame[86:]) == "" {
		t.Error("no options")
	}
	if sent, _ := r.Counters(); sent == 0 {
		t.Error("nothing was sent")
	}
	r.Stop()
}
