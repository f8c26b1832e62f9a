package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"provium/internal/vnet"
)

// bridgeState is a bridge in a lab snapshot.
type bridgeState struct {
	Name       string     `json:"name"`
	Seed       uint64     `json:"seed"`
	Addressing bool       `json:"addressing"`
	V4         string     `json:"ipv4"`
	V6         string     `json:"ipv6"`
	NICs       []nicState `json:"nics,omitempty"` // members in order of attaching, then those that left
	Switch     vnet.State `json:"switch"`
	Routes     []string   `json:"routes,omitempty"` // bridges of the snapshot: labs and name, joined by slashes
	Uplink     bool       `json:"uplink,omitempty"`
}

// nicState is a VM's place on a bridge.
type nicState struct {
	VM       string `json:"vm"`
	Attached bool   `json:"attached"`
	Down     bool   `json:"down,omitempty"` // by nic:disconnect()
	Host     int    `json:"host"`           // last byte of its addresses
	MAC      string `json:"mac"`
}

// save describes the bridge; paths tells where the snapshot has bridges.
func (b *Bridge) save(paths map[*Bridge]string) bridgeState {
	s := bridgeState{Name: b.name, Seed: b.seed, Switch: b.sw.Save(), Uplink: b.hasUplink()}
	for _, o := range b.routed() {
		if path, ok := paths[o]; ok {
			s.Routes = append(s.Routes, path)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Addressing, s.V4, s.V6 = b.addressing, b.v4.String(), b.v6.String()
	describe := func(n *NIC) {
		s.NICs = append(s.NICs, nicState{n.vmName, n.attached, n.down, n.host, n.mac.String()})
	}
	for _, n := range b.members {
		describe(n)
	}
	var left []*NIC
	for _, n := range b.nics {
		if !n.attached {
			left = append(left, n)
		}
	}
	slices.SortFunc(left, func(a, b *NIC) int { return a.host - b.host })
	for _, n := range left {
		describe(n)
	}
	return s
}

// check verifies what comes from a file.
func (s *bridgeState) check() error {
	if err := checkName("bridge", s.Name); err != nil {
		return err
	}
	v4, err4 := netip.ParsePrefix(s.V4)
	v6, err6 := netip.ParsePrefix(s.V6)
	if err4 != nil || err6 != nil || !v4.Addr().Is4() || v4.Bits() != 24 || !v6.Addr().Is6() || v6.Bits() != 64 {
		return fmt.Errorf("bridge `%s`: networks %q and %q", s.Name, s.V4, s.V6)
	}
	vms, hosts := map[string]bool{}, map[int]bool{}
	for _, n := range s.NICs {
		mac, err := net.ParseMAC(n.MAC)
		if err := checkName("vm", n.VM); err != nil {
			return fmt.Errorf("bridge `%s`: %w", s.Name, err)
		}
		if err != nil || len(mac) != 6 || vms[n.VM] || hosts[n.Host] || n.Host < firstHost || n.Host > lastHost {
			return fmt.Errorf("bridge `%s`: nic of vm `%s`", s.Name, n.VM)
		}
		vms[n.VM], hosts[n.Host] = true, true
	}
	return nil
}

// restoreBridge makes a bridge of the lab the one that was saved. Guests are told
// later; routes and uplink follow when all bridges are there. A copy gets networks,
// addresses and MACs of its own.
func (l *Lab) restoreBridge(s *bridgeState, asCopy bool) (*Bridge, error) {
	l.mu.Lock()
	b := findBridge(l.bridges, s.Name)
	if b == nil {
		seed := s.Seed
		b = newBridge(l, s.Name, &BridgeOpts{Seed: &seed, NoAddressing: !s.Addressing})
		if !asCopy {
			b.address(netip.MustParsePrefix(s.V4), netip.MustParsePrefix(s.V6)) // checked
		}
		l.bridges = append(l.bridges, b)
		l.ownedBridges = append(l.ownedBridges, b)
	}
	l.mu.Unlock()
	for _, name := range b.Members() {
		i := slices.IndexFunc(s.NICs, func(n nicState) bool { return n.VM == name })
		if i < 0 || !s.NICs[i].Attached {
			b.mu.Lock()
			n := b.nics[name]
			b.mu.Unlock()
			b.leave(n)
		}
	}
	for i := range s.NICs {
		if !asCopy {
			b.reserve(&s.NICs[i])
		}
	}
	for i := range s.NICs {
		if !s.NICs[i].Attached {
			continue
		}
		if _, err := b.join([]Endpoint{{Name: s.NICs[i].VM}}); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	for _, saved := range s.NICs {
		n := b.nics[saved.VM]
		if n == nil {
			continue // a copy has none for those that left
		}
		n.down = saved.Down
		n.port.SetUp(n.attached && !n.down)
	}
	place := func(n *NIC) int { return slices.IndexFunc(s.NICs, func(o nicState) bool { return o.VM == n.vmName }) }
	slices.SortStableFunc(b.members, func(x, y *NIC) int { return place(x) - place(y) })
	b.mu.Unlock()
	return b, b.sw.Load(s.Switch)
}

// address gives a new bridge the networks that it had, unless another has one.
func (b *Bridge) address(v4, v6 netip.Prefix) {
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	taken := slices.ContainsFunc(b.host.bridges, func(o *Bridge) bool { return o != b && (o.v4 == v4 || o.v6 == v6) })
	if !taken {
		b.v4, b.v6 = v4, v6
	}
}

// reserve makes the NIC of a VM with the address and MAC that it had.
func (b *Bridge) reserve(s *nicState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nics[s.VM] != nil {
		return
	}
	host := s.Host
	for _, n := range b.nics {
		if n.host == s.Host {
			host = b.freeHost()
			break
		}
	}
	mac, _ := net.ParseMAC(s.MAC) // checked
	b.nics[s.VM] = &NIC{bridge: b, vmName: s.VM, host: host, port: b.sw.AddPort(s.VM), mac: mac}
}

// freeHost is the first last byte of an address that nobody has. Held: b.mu.
func (b *Bridge) freeHost() int {
	used := map[int]bool{}
	for _, n := range b.nics {
		used[n.host] = true
	}
	host := firstHost
	for used[host] {
		host++
	}
	return host
}

// restoreServices brings routes and uplink of the bridges of a snapshot back.
func restoreServices(bridges map[string]*Bridge, states map[string]*bridgeState) error {
	var errs []error
	for path, b := range bridges {
		s := states[path]
		var routes []*Bridge
		for _, other := range s.Routes {
			if o := bridges[other]; o != nil && o != b {
				routes = append(routes, o)
			}
		}
		for _, o := range b.routed() {
			if !slices.Contains(routes, o) {
				b.unroute(o)
			}
		}
		if len(routes) > 0 {
			errs = append(errs, b.joinRoutes(routes))
		}
		if s.Uplink != b.hasUplink() {
			errs = append(errs, b.setUplink(s.Uplink))
		}
	}
	return errors.Join(errs...)
}

// unroute undoes Route for one other bridge.
func (b *Bridge) unroute(o *Bridge) {
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	without := func(list []*Bridge, x *Bridge) []*Bridge {
		return slices.DeleteFunc(slices.Clone(list), func(y *Bridge) bool { return y == x })
	}
	b.services.routes, o.services.routes = without(b.services.routes, o), without(o.services.routes, b)
	b.settleGate()
	o.settleGate()
}
