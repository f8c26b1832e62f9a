package netapi

import (
	"math"
	"net"
	"time"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

func newDHCPType(x *env) *lua.Type {
	return newServerType(x, "dhcp", func(s *network.DHCPServer) *network.Server { return s.Server },
		map[string]binding.Method[*env, *network.DHCPServer]{"leases": dhcpLeases})
}

// serveDHCP is bridge:serve_dhcp{…}.
func serveDHCP(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var opts network.DHCPOpts
	if err := readDHCP(o, &opts); err != nil {
		return nil, err
	}
	if opts.Hosts, err = dhcpHosts(x, a, b, o); err != nil {
		return nil, err
	}
	s, err := b.ServeDHCP(opts, x.Site(a.Call))
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return own(x, s.Server, x.Types.DHCPServer, s), nil
}

// readDHCP reads the options of a server except its hosts.
func readDHCP(o value.Options, opts *network.DHCPOpts) (err error) {
	if o.Has("subnet") {
		if opts.Subnet, err = networkOf(o, "subnet", o.Get("subnet"), 4); err != nil {
			return err
		}
		if opts.Subnet.Bits() < 8 || opts.Subnet.Bits() > 30 {
			return o.Errorf("subnet", "must have 8 to 30 bits, got %s", opts.Subnet)
		}
	}
	if opts.Address, err = address(o, "address", 4); err != nil {
		return err
	}
	ends, err := addresses(o, "range", 4)
	if err != nil {
		return err
	}
	if ends != nil {
		if len(ends) != 2 {
			return o.Errorf("range", "must be an array of the first and the last address")
		}
		opts.First, opts.Last = ends[0], ends[1]
	}
	if opts.Routers, err = addresses(o, "router", 4); err != nil {
		return err
	}
	if opts.Resolvers, err = addresses(o, "dns", 4); err != nil {
		return err
	}
	if opts.TimeServers, err = addresses(o, "ntp", 4); err != nil {
		return err
	}
	if opts.Domain, err = o.Str("domain", ""); err != nil {
		return err
	}
	mtu, err := o.IntegerWithin("mtu", 0, 68, 9216)
	if err != nil {
		return err
	}
	opts.MTU = int(mtu)
	if opts.Lease, err = within(o, "lease", time.Hour, time.Second, math.MaxUint32*time.Second); err != nil {
		return err
	}
	if opts.BootFile, err = o.Str("boot_file", ""); err != nil {
		return err
	}
	if len(opts.BootFile) > 127 {
		return o.Errorf("boot_file", "has %d bytes, at most 127 are possible", len(opts.BootFile))
	}
	if opts.NextServer, err = address(o, "next_server", 4); err != nil {
		return err
	}
	opts.Options, err = dhcpOptions(o)
	return err
}

// dhcpOptions reads the table of further options by number.
func dhcpOptions(o value.Options) (map[uint8][]byte, error) {
	switch t := o.Get("options").(type) {
	case nil:
		return nil, nil
	case *lua.Table:
		all := map[uint8][]byte{}
		for _, p := range value.SortedPairs(t) {
			code, ok := value.ToInteger(p.Key)
			text, isText := p.Value.(string)
			if !ok || code < 1 || code > 254 || !isText {
				return nil, o.Errorf("options", "must have numbers from 1 to 254 as keys and strings as values, "+
					"got %s = %s", value.FormatKey(p.Key), lua.TypeName(p.Value))
			}
			all[uint8(code)] = []byte(text)
		}
		return all, nil
	}
	return nil, o.TypeError("options", "a table")
}

// dhcpHosts reads the table of clients that have an address or a name of their own.
func dhcpHosts(x *env, a value.Args, b *network.Bridge, o value.Options) (all []network.DHCPHost, err error) {
	t, ok := o.Get("hosts").(*lua.Table)
	if !ok {
		if o.Has("hosts") {
			return nil, o.TypeError("hosts", "a table")
		}
		return nil, nil
	}
	for _, p := range value.SortedPairs(t) {
		h, err := dhcpClient(x, a, b, p.Key)
		if err != nil {
			return nil, err
		}
		if err := dhcpHost(o, value.FormatKey(p.Key), p.Value, &h); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// dhcpClient reads who a client is: a VM, its name, or a hardware address.
func dhcpClient(x *env, a value.Args, b *network.Bridge, key lua.Value) (h network.DHCPHost, err error) {
	if text, ok := key.(string); ok {
		if mac, err := net.ParseMAC(text); err == nil && len(mac) == 6 {
			h.MAC = mac
			return h, nil
		}
	}
	e, err := endpoint(x, a, b, key, "opts.hosts: key "+value.FormatKey(key))
	h.VM = e.Name
	return h, err
}

// dhcpHost reads what a client gets: an address, or a table.
func dhcpHost(o value.Options, name string, v lua.Value, h *network.DHCPHost) error {
	a, ok := toAddress(v, 4)
	if ok {
		h.Addr = a
		return nil
	}
	entry, isTable := v.(*lua.Table)
	if !isTable {
		return o.Errorf("hosts", "%s must be an IPv4 address or a table {address=, hostname=}, got %s", name,
			value.Format(v))
	}
	of, err := value.NewOptions(o.Func+": opts.hosts: "+name, entry, []string{"address", "hostname"})
	if err != nil {
		return err
	}
	if h.Addr, err = address(of, "address", 4); err != nil {
		return err
	}
	if h.Hostname, err = of.Str("hostname", ""); err != nil {
		return err
	}
	if len(h.Hostname) > 63 {
		return of.Errorf("hostname", "has %d bytes, at most 63 are possible", len(h.Hostname))
	}
	return nil
}

// dhcpLeases is server:leases().
func dhcpLeases(x *env, _ value.Args, s *network.DHCPServer) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, s.Leases(), func(l network.Lease) lua.Value {
		t := x.State.NewTable()
		value.MustSet(t, "address", l.Addr.String())
		value.MustSet(t, "mac", l.MAC.String())
		value.MustSet(t, "expires", float64(l.Expires.UnixNano())/1e9)
		if l.Hostname != "" {
			value.MustSet(t, "hostname", l.Hostname)
		}
		if l.VM != "" {
			value.MustSet(t, "vm", l.VM)
		}
		return t
	})}, nil
}
