package lab

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"provium/internal/guest"
	"provium/internal/vnet"
	"provium/internal/vnet/gateway"
	"provium/internal/vnet/uplink"
)

// services are what a bridge offers beyond its switch. The host's routing lock
// guards those of all bridges, for a route concerns two.
type services struct {
	routes   []*Bridge // in order of routing
	uplink   bool
	forwards []*forward
	gate     *gate // nil while nothing needs it
}

// gate is the gateway of a bridge.
type gate struct {
	inside *vnet.Inside
	router *gateway.Gateway
	stack  *uplink.Stack // ends the connections of uplink and forwards
}

// openGate puts the gateway on the switch. Held: the routing lock.
func (b *Bridge) openGate() error {
	s := &b.services
	if s.gate != nil {
		return nil
	}
	id := digest(b.owner.name, vnet.GatewayName, b.name)
	port := b.sw.AddPort(vnet.GatewayName)
	g := &gate{}
	var err error
	g.router, err = gateway.New(gateway.Config{MAC: net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]},
		V4: b.v4, V6: b.v6, Send: port.Send, Isolated: b.sw.IsolatedAddress})
	if err != nil {
		b.sw.RemovePort(vnet.GatewayName)
		return err
	}
	g.stack, err = uplink.New(uplink.Config{V4: b.v4, V6: b.v6, Deliver: g.router.Deliver, Refuse: g.router.Refuse, Resolvers: resolvers})
	if err != nil {
		b.sw.RemovePort(vnet.GatewayName)
		g.router.Close()
		return err
	}
	g.inside = port.Join(g.router.Receive)
	s.gate = g
	return nil
}

// resolvers are the name servers of the host.
func resolvers() []netip.AddrPort {
	text, _ := os.ReadFile("/etc/resolv.conf") // without the file: the default
	return uplink.ParseResolvers(text)
}

// settleGate has the gateway do what is wanted of it, and takes it off the switch
// when nothing is. Held: the routing lock.
func (b *Bridge) settleGate() {
	s := &b.services
	if s.gate == nil {
		return
	}
	if len(s.routes) == 0 && !s.uplink && len(s.forwards) == 0 {
		// From the inside out: guests still hear that their connections end.
		s.gate.stack.Close()
		s.gate.router.Close()
		b.sw.RemovePort(vnet.GatewayName)
		s.gate.inside.Close()
		s.gate = nil
		return
	}
	var peers []*gateway.Gateway
	for _, to := range s.routes {
		peers = append(peers, to.services.gate.router)
	}
	s.gate.router.SetPeers(peers)
	if s.uplink {
		s.gate.stack.Enable()
	} else {
		s.gate.stack.Disable()
	}
	if s.uplink || len(s.forwards) > 0 {
		s.gate.router.SetUplink(s.gate.stack)
	} else {
		s.gate.router.SetUplink(nil)
	}
}

// mayServe tells why a bridge cannot have a gateway.
func (b *Bridge) mayServe() error {
	if b.isClosed() {
		return fmt.Errorf("bridge `%s` is closed", b.name)
	}
	if !b.addressing {
		return fmt.Errorf("bridge `%s` has no addressing (addressing = \"none\"), and a gateway needs an address", b.name)
	}
	return nil
}

// Route joins the bridge with others by way of their gateways, each pair both ways:
// all or, if one cannot be, none. It returns when running guests have the routes.
func (b *Bridge) Route(ctx context.Context, others []*Bridge) error {
	if err := b.mayServe(); err != nil {
		return err
	}
	for _, o := range others {
		if o == b {
			return fmt.Errorf("bridge `%s` cannot be routed to itself", b.name)
		}
		if err := o.mayServe(); err != nil {
			return err
		}
	}
	if err := b.joinRoutes(others); err != nil {
		return fmt.Errorf("bridge `%s` route: %w", b.name, err)
	}
	return tellBridges(ctx, append([]*Bridge{b}, others...))
}

func (b *Bridge) joinRoutes(others []*Bridge) error {
	h := b.host
	h.routing.Lock()
	defer h.routing.Unlock()
	all := append([]*Bridge{b}, others...)
	for _, o := range all {
		if err := o.openGate(); err != nil {
			for _, p := range all {
				p.settleGate()
			}
			return err
		}
	}
	for _, o := range others {
		if !slices.Contains(b.services.routes, o) {
			b.services.routes = append(b.services.routes, o)
			o.services.routes = append(o.services.routes, b)
		}
	}
	for _, o := range all {
		o.settleGate()
	}
	return nil
}

// Routes lists the names of the bridges that this one is routed to, in order.
func (b *Bridge) Routes() []string {
	routed := b.routed()
	names := make([]string, len(routed))
	for i, o := range routed {
		names[i] = o.name
	}
	return names
}

func (b *Bridge) routed() []*Bridge {
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	return slices.Clone(b.services.routes)
}

// EnableUplink lets guests reach out. It may be repeated.
func (b *Bridge) EnableUplink(ctx context.Context) error {
	if err := b.mayServe(); err != nil {
		return err
	}
	if err := b.setUplink(true); err != nil {
		return fmt.Errorf("bridge `%s` uplink: %w", b.name, err)
	}
	return b.tell(ctx, nil)
}

// DisableUplink takes that away and ends the connections. It may be repeated.
func (b *Bridge) DisableUplink(ctx context.Context) error {
	if err := b.setUplink(false); err != nil {
		return err
	}
	return b.tell(ctx, nil)
}

func (b *Bridge) setUplink(on bool) error {
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	if on {
		if err := b.openGate(); err != nil {
			return err
		}
	}
	b.services.uplink = on
	b.settleGate()
	return nil
}

func (b *Bridge) hasUplink() bool {
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	return b.services.uplink
}

// endServices takes routes, uplink and forwards away, and gives the bridges that
// were routed to.
func (b *Bridge) endServices() []*Bridge {
	for _, f := range b.takeForwards() {
		f.close()
	}
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	routed := b.services.routes
	b.services.routes, b.services.uplink = nil, false
	for _, o := range routed {
		o.services.routes = slices.DeleteFunc(o.services.routes, func(r *Bridge) bool { return r == b })
		o.settleGate()
	}
	b.settleGate()
	return routed
}

// tellBridges has the running members of several bridges know what is new.
func tellBridges(ctx context.Context, bridges []*Bridge) error {
	var vms []*VM
	for _, b := range bridges {
		for _, v := range b.memberVMs() {
			if !slices.Contains(vms, v) {
				vms = append(vms, v)
			}
		}
	}
	if err := eachVM(vms, func(v *VM) error { return v.syncNetwork(ctx) }); err != nil {
		return fmt.Errorf("bridge `%s` routes: %w", bridges[0].name, err)
	}
	return nil
}

// memberVMs are the members that are declared.
func (b *Bridge) memberVMs() (vms []*VM) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.members {
		if n.vm != nil {
			vms = append(vms, n.vm)
		}
	}
	return vms
}

// HostName is the name by which guests reach the loopback of the host.
const HostName = "host.provium.internal"

// firstMetric is that of the routes by a guest's first bridge. Those of later ones
// are higher, and the kernel's own for networks on the spot lower.
const firstMetric = 2000

// giveRoutes adds to an interface what is reached by way of its bridge. Bridges
// that the VM is on itself need no gateway.
func (n *NIC) giveRoutes(face *guest.Interface, own []*NIC) {
	b := n.bridge
	on := func(o *Bridge) bool { return slices.ContainsFunc(own, func(m *NIC) bool { return m.bridge == o }) }
	for _, o := range b.routed() {
		if !on(o) {
			face.Routes = append(face.Routes, o.v4.String(), o.v6.String())
		}
	}
	if b.hasUplink() {
		face.Routes = append(face.Routes, "0.0.0.0/0", "::/0")
	}
	if len(face.Routes) > 0 {
		face.Gateways = []string{gateway.First(b.v4).String(), gateway.First(b.v6).String()}
		face.Metric = firstMetric + uint64(slices.Index(own, n))
	}
}

// names is what a VM's /etc/hosts and /etc/resolv.conf get.
func (v *VM) names() (hosts, resolver string) {
	var text strings.Builder
	bare := map[string]bool{}
	var own, routed []*Bridge
	for _, n := range v.attached() {
		own = append(own, n.bridge)
	}
	for _, b := range own {
		b.hosts(&text, bare)
		for _, o := range b.routed() {
			if !slices.Contains(own, o) && !slices.Contains(routed, o) {
				routed = append(routed, o)
			}
		}
	}
	slices.SortStableFunc(routed, func(a, b *Bridge) int { return cmp.Compare(a.name, b.name) })
	for _, b := range routed {
		b.hosts(&text, bare)
	}
	for _, b := range own {
		if b.hasUplink() {
			first := gateway.First(b.v4).String()
			fmt.Fprintf(&text, "%s %s\n", first, HostName)
			resolver = "nameserver " + first + "\n"
			break
		}
	}
	return text.String(), resolver
}
