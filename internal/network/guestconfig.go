package network

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guest"
	"provium/internal/vnet/gateway"
)

// HostName is the name by which guests reach the loopback of the host.
const HostName = "host.provium.internal"

// firstMetric is the metric of the routes by a guest's first bridge. Those of
// later bridges are higher. The kernel's own metric for connected networks is
// lower.
const firstMetric = 2000

// guestConfig returns what the guest is to be configured to: addresses, routes and
// names. The caller must hold d.mu.
func (d *Netdevs) guestConfig() *guest.Network {
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	attached := d.net.sortedNICs(d.station)
	config := &guest.Network{}
	for _, c := range d.list {
		if c.gone {
			config.Gone = append(config.Gone, c.dev.Path())
			continue
		}
		if c.nic == nil {
			continue
		}
		face := guest.Interface{Path: c.dev.Path(), Name: c.ifname, MAC: c.nic.mac}
		// Detached, it has no address either: its network may be reached by another
		// interface now.
		if c.nic.bridge.addressing && slices.Contains(attached, c.nic) {
			for _, p := range c.nic.addresses() {
				face.Addresses = append(face.Addresses, p.String())
			}
			c.nic.addRoutes(&face, attached)
		}
		config.Interfaces = append(config.Interfaces, face)
	}
	config.Hosts = hostsFile(attached)
	config.Resolver = resolvConf(attached)
	return config
}

// addRoutes adds to an interface the networks that are reached by its bridge's
// gateway. Bridges that the VM is attached to need no gateway. The caller must
// hold the network's lock.
func (n *NIC) addRoutes(face *guest.Interface, attached []*NIC) {
	b := n.bridge
	for _, o := range b.routes {
		if !slices.ContainsFunc(attached, func(m *NIC) bool { return m.bridge == o }) {
			face.Routes = append(face.Routes, o.v4.String(), o.v6.String())
		}
	}
	if b.uplink {
		face.Routes = append(face.Routes, "0.0.0.0/0", "::/0")
	}
	if len(face.Routes) > 0 {
		face.Gateways = []string{gateway.First(b.v4).String(), gateway.First(b.v6).String()}
		face.Metric = firstMetric + uint64(slices.Index(attached, n))
	}
}

// hostsFile returns the lines of /etc/hosts for a VM with these NICs: the members
// of its bridges, then those of routed bridges, then the host. The caller must
// hold the network's lock.
func hostsFile(attached []*NIC) string {
	var text strings.Builder
	bare := map[string]bool{} // names that are there without a bridge's name behind them
	var own, routed []*Bridge
	for _, n := range attached {
		own = append(own, n.bridge)
	}
	for _, b := range own {
		b.writeHosts(&text, bare)
		for _, o := range b.routes {
			if !slices.Contains(own, o) && !slices.Contains(routed, o) {
				routed = append(routed, o)
			}
		}
	}
	slices.SortStableFunc(routed, func(a, b *Bridge) int { return cmp.Compare(a.name, b.name) })
	for _, b := range routed {
		b.writeHosts(&text, bare)
	}
	if b := firstUplink(attached); b != nil {
		fmt.Fprintf(&text, "%s %s\n", gateway.First(b.v4), HostName)
	}
	return text.String()
}

// writeHosts writes a line for each address of a member. The first bridge that
// has a member of a name also defines the name alone. The caller must hold the
// network's lock.
func (b *Bridge) writeHosts(text *strings.Builder, bare map[string]bool) {
	if !b.addressing {
		return
	}
	for _, n := range b.members {
		if n != b.nicOf(n.vmName) {
			continue
		}
		names := n.vmName + "." + b.name
		if !bare[n.vmName] {
			bare[n.vmName] = true
			names += " " + n.vmName
		}
		for _, p := range n.addresses() {
			fmt.Fprintf(text, "%s %s\n", p.Addr(), names)
		}
	}
}

// resolvConf returns the line of /etc/resolv.conf for a VM with these NICs, or "".
// The caller must hold the network's lock.
func resolvConf(attached []*NIC) string {
	if b := firstUplink(attached); b != nil {
		return fmt.Sprintf("nameserver %s\n", gateway.First(b.v4))
	}
	return ""
}

// firstUplink returns the first bridge with an uplink, or nil. The caller must
// hold the network's lock.
func firstUplink(attached []*NIC) *Bridge {
	if at := slices.IndexFunc(attached, func(n *NIC) bool { return n.bridge.uplink }); at >= 0 {
		return attached[at].bridge
	}
	return nil
}
