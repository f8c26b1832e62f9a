package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"provium/internal/jsonerror"
	"provium/internal/qemu"
	"provium/internal/vnet"
)

// State is a bridge in a lab snapshot, as JSON.
type State struct {
	Name       string     `json:"name"`
	Seed       uint64     `json:"seed"`
	Addressing bool       `json:"addressing"`
	V4         string     `json:"ipv4"`
	V6         string     `json:"ipv6"`
	NICs       []NICState `json:"nics,omitempty"`  // members in order of attaching, then those that left
	Ports      []string   `json:"ports,omitempty"` // of the test; rules may name them
	Switch     vnet.State `json:"switch"`
	Routes     []string   `json:"routes,omitempty"`         // paths of bridges in the snapshot, in order of routing
	Awaited    []string   `json:"awaited_routes,omitempty"` // names of bridges
	Uplink     bool       `json:"uplink,omitempty"`
}

// NICState is a VM's place on a bridge.
type NICState struct {
	VM       string `json:"vm"`
	NIC      string `json:"nic,omitempty"` // label
	Attached bool   `json:"attached"`
	Down     bool   `json:"down,omitempty"` // by nic:disconnect()
	Host     int    `json:"host"`           // last byte of its addresses
	MAC      string `json:"mac"`
}

// CheckName returns an error for a name that a VM or a bridge cannot have. kind is
// "vm" or "bridge".
type CheckName func(kind, name string) error

// Save returns the state of the bridge. path returns where the snapshot has
// another bridge, or "" where it does not have it. It is called with locks held.
func (b *Bridge) Save(path func(*Bridge) string) State {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	s := State{Name: b.name, Seed: b.seed, Switch: b.sw.Save(), Uplink: b.uplink, Awaited: b.awaitedNames(),
		Ports:      slices.Sorted(maps.Keys(b.ports)),
		Addressing: b.addressing, V4: b.v4.String(), V6: b.v6.String()}
	for _, o := range b.routes {
		if p := path(o); p != "" {
			s.Routes = append(s.Routes, p)
		}
	}
	nics := slices.Clone(b.members)
	for _, n := range b.nics {
		if !n.attached {
			nics = append(nics, n)
		}
	}
	slices.SortFunc(nics[len(b.members):], func(a, b *NIC) int { return a.host - b.host })
	for _, n := range nics {
		s.NICs = append(s.NICs, NICState{n.vmName, n.label, n.attached, n.down, n.host, n.mac.String()})
	}
	return s
}

// Check verifies a state that was read from a file.
func (s *State) Check(checkName CheckName) error {
	if err := checkName("bridge", s.Name); err != nil {
		return err
	}
	v4, err4 := netip.ParsePrefix(s.V4)
	v6, err6 := netip.ParsePrefix(s.V6)
	if err4 != nil || err6 != nil || !v4.Addr().Is4() || v4.Bits() != 24 || !v6.Addr().Is6() || v6.Bits() != 64 {
		return fmt.Errorf("bridge `%s`: networks %q and %q", s.Name, s.V4, s.V6)
	}
	for _, name := range s.Awaited {
		if err := checkName("bridge", name); err != nil {
			return fmt.Errorf("bridge `%s` routes: %w", s.Name, err)
		}
	}
	vms, hosts := map[string]bool{}, map[int]bool{}
	for _, n := range s.NICs {
		mac, err := net.ParseMAC(n.MAC)
		if err := checkName("vm", n.VM); err != nil {
			return fmt.Errorf("bridge `%s`: %w", s.Name, err)
		}
		at := place(n.VM, n.NIC)
		if err != nil || len(mac) != 6 || !isLabel(n.NIC) || vms[at] || hosts[n.Host] ||
			n.Host < firstHost || n.Host > lastHost {
			return fmt.Errorf("bridge `%s`: nic of vm `%s`", s.Name, n.VM)
		}
		vms[at], hosts[n.Host] = true, true
	}
	return nil
}

// NewBridgeFrom creates the bridge of a checked state, without members and rules.
// It has the networks that were saved unless another bridge has them. A copy has
// networks of its own.
func (n *Network) NewBridgeFrom(s *State, lab string, scope Scope, asCopy bool) *Bridge {
	b := n.NewBridge(BridgeConfig{Name: s.Name, Lab: lab, Scope: scope,
		Opts: &BridgeOpts{Seed: &s.Seed, NoAddressing: !s.Addressing}})
	if asCopy {
		return b
	}
	v4, v6 := netip.MustParsePrefix(s.V4), netip.MustParsePrefix(s.V6) // checked
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.inUse(v4, v6, b) {
		b.v4, b.v6 = v4, v6
	}
	return b
}

// Load restores members and rules from a checked state. No guest is told. Rules that name
// ports of the test are restored for those that are open, which lose what waits. Routes
// and uplink follow with LoadServices, when all bridges are there. In a copy, NICs
// have addresses and MACs of their own.
func (b *Bridge) Load(s *State, asCopy bool) error {
	b.net.mu.Lock()
	for _, n := range slices.Clone(b.members) {
		if at := s.find(n); at < 0 || !s.NICs[at].Attached {
			n.leave()
		}
	}
	stay := map[string]bool{} // also VMs of another lab, such as copies of members
	for _, n := range b.members {
		stay[place(n.vmName, n.label)] = true
	}
	if !asCopy {
		if err := b.reserve(s.NICs); err != nil {
			b.net.mu.Unlock()
			return err
		}
	}
	b.net.mu.Unlock()
	var ends []Endpoint
	for _, n := range s.NICs {
		if n.Attached && !stay[place(n.VM, n.NIC)] {
			ends = append(ends, Endpoint{Name: n.VM, NIC: n.NIC})
		}
	}
	if _, err := b.join(ends); err != nil {
		return err
	}
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.awaitedRoutes = nil
	for _, name := range s.Awaited {
		b.awaitedRoutes = append(b.awaitedRoutes, awaitedRoute{name, b.scope})
	}
	for _, saved := range s.NICs {
		if n := b.nics[place(saved.VM, saved.NIC)]; n != nil { // a copy has no NICs of VMs that left
			n.down = saved.Down
			n.port.SetUp(n.attached && !n.down)
		}
	}
	slices.SortStableFunc(b.members, func(x, y *NIC) int { return s.find(x) - s.find(y) })
	rules := s.Switch
	for _, name := range s.Ports {
		if b.ports[name] == nil {
			rules.Forget(name)
		}
	}
	for _, p := range b.ports {
		p.inbox.Clear()
	}
	return b.sw.Load(rules)
}

// find returns the index of a NIC, or -1.
func (s *State) find(n *NIC) int {
	return slices.IndexFunc(s.NICs, func(o NICState) bool { return o.VM == n.vmName && o.NIC == n.label })
}

// reserve creates the NICs that were saved, except those there are, with their MACs
// and, unless other NICs have them, their addresses. The caller must hold net.mu.
func (b *Bridge) reserve(saved []NICState) error {
	for _, s := range saved {
		if b.nics[place(s.VM, s.NIC)] != nil {
			continue
		}
		if len(b.nics) >= maxNICs {
			return fmt.Errorf("bridge `%s` is full: there is no room for vm `%s` among %d", b.name, s.VM, maxNICs)
		}
		host := s.Host
		if b.hostTaken(host) {
			host = b.freeHost()
		}
		mac, _ := net.ParseMAC(s.MAC) // checked
		b.newNIC(s.VM, s.NIC, host, mac)
	}
	return nil
}

// Loaded is a bridge that was loaded from a snapshot.
type Loaded struct {
	Bridge *Bridge
	State  *State
}

// LoadServices restores routes, in the order in which they were declared, and
// uplinks of all bridges of a snapshot. The keys are their paths in it. No guest
// is told.
func (n *Network) LoadServices(bridges map[string]Loaded) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	paths := slices.Sorted(maps.Keys(bridges))
	wanted := wantedRoutes(bridges, paths)
	var errs []error
	for _, path := range paths {
		b := bridges[path].Bridge
		for _, o := range b.routes {
			if !slices.Contains(wanted[b], o) {
				b.disconnect(o)
				o.syncGateway()
			}
		}
		if len(wanted[b]) > 0 || bridges[path].State.Uplink {
			err := b.mayServe()
			if err == nil {
				err = b.openGateway()
			}
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		for _, l := range bridges {
			l.Bridge.routes, l.Bridge.uplink = wanted[l.Bridge], l.State.Uplink
		}
	}
	for _, path := range paths {
		bridges[path].Bridge.syncGateway()
	}
	return err
}

// wantedRoutes returns the routes of each bridge in the order of its state. paths
// are the keys of bridges.
func wantedRoutes(bridges map[string]Loaded, paths []string) map[*Bridge][]*Bridge {
	wanted := map[*Bridge][]*Bridge{}
	add := func(b, o *Bridge) {
		if b != o && !slices.Contains(wanted[b], o) {
			wanted[b] = append(wanted[b], o)
		}
	}
	for _, l := range bridges {
		for _, path := range l.State.Routes {
			if o, ok := bridges[path]; ok {
				add(l.Bridge, o.Bridge)
			}
		}
	}
	for _, path := range paths { // a file may name a route in one direction only
		b := bridges[path].Bridge
		for _, o := range slices.Clone(wanted[b]) {
			add(o, b)
		}
	}
	return wanted
}

// savedNIC is a network interface in the snapshot of a VM.
type savedNIC struct {
	Bridge string `json:"bridge"`
	NIC    string `json:"nic,omitempty"` // label
	Slot   int    `json:"slot"`
	Name   string `json:"name"` // in the guest
	Gone   bool   `json:"gone,omitempty"`
}

// EncodeNICs returns the section of a VM's snapshot that has its interfaces.
func EncodeNICs(planned []PlannedNIC) ([]byte, error) {
	saved := make([]savedNIC, len(planned))
	for i, p := range planned {
		saved[i] = savedNIC{p.Bridge, p.Label, p.Slot, p.Name, p.Gone}
	}
	return json.Marshal(saved)
}

// decodeNICs verifies a section of EncodeNICs.
func decodeNICs(text []byte, checkName CheckName) ([]savedNIC, error) {
	var saved []savedNIC
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, fmt.Errorf("network interfaces: %w", jsonerror.Plain(err))
	}
	if len(saved) > qemu.MaxSlot {
		return nil, fmt.Errorf("network interfaces: %d, at most %d are possible", len(saved), qemu.MaxSlot)
	}
	for i, n := range saved {
		if n.Slot < 1 || n.Slot > qemu.MaxSlot || i > 0 && n.Slot <= saved[i-1].Slot ||
			n.Gone && n.Slot > qemu.RootSlots {
			return nil, fmt.Errorf("network interfaces: slot %d", n.Slot)
		}
		if !ethName.MatchString(n.Name) || !isLabel(n.NIC) || checkName("bridge", n.Bridge) != nil {
			return nil, fmt.Errorf("network interfaces: name %q on bridge %q", n.Name, n.Bridge)
		}
	}
	return saved, nil
}

// DecodeNICs returns the interfaces of a section of EncodeNICs, for a restore of s.
// s is attached to the bridges of their names in its lab, where there are any with
// room.
func (n *Network) DecodeNICs(s Station, text []byte, checkName CheckName) ([]PlannedNIC, error) {
	saved, err := decodeNICs(text, checkName)
	if err != nil {
		return nil, err
	}
	planned := make([]PlannedNIC, len(saved))
	for i, v := range saved {
		planned[i] = PlannedNIC{Bridge: v.Bridge, Label: v.NIC, Slot: v.Slot, Name: v.Name, Gone: v.Gone}
		if !v.Gone {
			planned[i].NIC = n.rejoin(s, v.Bridge, v.NIC)
		}
	}
	return planned, nil
}
