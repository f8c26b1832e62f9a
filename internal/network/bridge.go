package network

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"provium/internal/qemu"
	"provium/internal/vnet"
)

// BridgeOpts are the options of a bridge at its creation.
type BridgeOpts struct {
	Seed         *uint64 // of the impairments; nil: from the run's seed, file, lab and name
	NoAddressing bool    // guests get neither addresses nor names
}

// BridgeConfig describes a bridge to be created.
type BridgeConfig struct {
	Name  string
	Lab   string // that creates it; MACs and the seed follow from it
	Scope Scope  // finds the VMs and bridges that may be named
	Opts  *BridgeOpts
}

// Bridge is a layer-2 switch between VMs. It outlives their guests.
type Bridge struct {
	net        *Network
	scope      Scope
	lab        string
	name       string
	seed       uint64
	addressing bool
	sw         *vnet.Switch

	// Guarded by net.mu.
	v4, v6        netip.Prefix
	nics          map[string]*NIC    // by place. A NIC stays when its VM leaves, with MAC and address.
	members       []*NIC             // attached, in order of attaching
	ports         map[string]*Port   // open ones
	servers       []*Server          // that run, in order of starting
	awaited       map[string]Station // VMs that are not attached, of which there are rules
	holders       int                // number of labs that hold the bridge
	closed        bool
	routes        []*Bridge // in order of routing
	awaitedRoutes []awaitedRoute
	paced         int    // interfaces of deterministic guests
	unpaced       int    // and of others
	wires         *Wires // unless paced is 0
	unsynced      bool   // there are routes that guests have not been told of
	uplink        bool
	forwards      []*forward
	gateway       *bridgeGateway // nil while nothing needs it
}

const (
	// firstHost and lastHost bound the last byte of a guest's IPv4 address. The
	// gateway has 1.
	firstHost, lastHost = 2, 254
	// maxNICs is the number of NICs that a bridge can have, with those that left.
	maxNICs = lastHost - firstHost + 1
)

// NewBridge creates a bridge, with one holder.
func (n *Network) NewBridge(cfg BridgeConfig) *Bridge {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := digest(n.env.File, cfg.Lab, cfg.Name)
	b := &Bridge{net: n, scope: cfg.Scope, lab: cfg.Lab, name: cfg.Name, addressing: true,
		// Mixing by XOR: a run without a seed draws the same numbers each time.
		seed: binary.BigEndian.Uint64(id[8:]) ^ n.env.Seed*0x9e3779b97f4a7c15,
		nics: map[string]*NIC{}, ports: map[string]*Port{}, awaited: map[string]Station{}, holders: 1}
	if cfg.Opts != nil {
		b.addressing = !cfg.Opts.NoAddressing
		if cfg.Opts.Seed != nil {
			b.seed = *cfg.Opts.Seed
		}
	}
	for { // a restored bridge may have the networks of this number
		b.v4, b.v6 = prefixes(n.created, id)
		n.created++
		if !n.inUse(b.v4, b.v6, b) {
			break
		}
	}
	b.sw = vnet.New(vnet.Config{Seed: b.seed})
	n.bridges = append(n.bridges, b)
	return b
}

// prefixes returns the networks of the bridge with that number.
func prefixes(number int, id [sha256.Size]byte) (v4, v6 netip.Prefix) {
	v4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(77 + number>>8), byte(number), 0}), 24)
	a := [16]byte{0: 0xfd, 6: byte(number >> 8), 7: byte(number)}
	copy(a[1:6], id[:])
	return v4, netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// inUse reports whether a bridge other than b has one of the networks. The caller
// must hold n.mu.
func (n *Network) inUse(v4, v6 netip.Prefix, b *Bridge) bool {
	return slices.ContainsFunc(n.bridges, func(o *Bridge) bool { return o != b && (o.v4 == v4 || o.v6 == v6) })
}

// digest returns a fingerprint of names.
func digest(names ...string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(names, "\x00")))
}

// Name returns the name given at creation.
func (b *Bridge) Name() string { return b.name }

// Lab returns the name of the lab that the bridge was created in.
func (b *Bridge) Lab() string { return b.lab }

// Scope returns what finds the VMs and bridges that may be named here.
func (b *Bridge) Scope() Scope { return b.scope }

// Seed returns the seed of the bridge's impairments, which the run's seed is part
// of.
func (b *Bridge) Seed() uint64 { return b.seed }

// Switch returns the switch, which has the bridge's rules. Its ports are named
// like the VMs.
func (b *Bridge) Switch() *vnet.Switch { return b.sw }

// Hold adds n to the number of labs that hold the bridge and returns the result.
func (b *Bridge) Hold(n int) int {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.holders += n
	return b.holders
}

// Fits returns an error if opts ask for something that the bridge was not created
// with. It accepts nil.
func (b *Bridge) Fits(opts *BridgeOpts) error {
	if opts == nil {
		return nil
	}
	if opts.Seed != nil && *opts.Seed != b.seed {
		return fmt.Errorf("bridge `%s` exists with seed %d, not %d", b.name, int64(b.seed), int64(*opts.Seed))
	}
	if opts.NoAddressing && b.addressing {
		return fmt.Errorf("bridge `%s` exists with addressing", b.name)
	}
	return nil
}

// Find returns the VM that a name means here: the member, else the VM that is declared in
// the bridge's lab or outward.
func (b *Bridge) Find(name string) (Endpoint, bool) {
	b.net.mu.Lock()
	if n := b.nicOf(name); n != nil {
		defer b.net.mu.Unlock()
		return Endpoint{VM: n.station, Name: name}, true
	}
	b.net.mu.Unlock()
	if found, ok := b.scope.Station(name); ok {
		return Endpoint{VM: found, Name: name}, true
	}
	return Endpoint{}, false
}

// VMNames returns the names of the VMs that are members, or are declared in the bridge's
// lab or outward, sorted.
func (b *Bridge) VMNames() []string {
	names := append(b.Members(), b.scope.VMNames()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// Await makes the rules that name VMs wait for those that are not attached. They end with
// the VM.
func (b *Bridge) Await(ends ...Endpoint) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	for _, e := range ends {
		if e.VM != nil && b.nicOf(e.Name) == nil {
			b.awaited[e.Name] = e.VM
		}
	}
}

// Endpoint is a VM, or the name of one that may not be declared yet.
type Endpoint struct {
	VM   Station // nil where only the name is known
	Name string
	NIC  string // name of a further NIC on the bridge; "" is the first one
}

// Attach attaches VMs to the bridge: all of them or, if one cannot be attached,
// none. It returns when running guests have their addresses.
func (b *Bridge) Attach(ctx context.Context, ends []Endpoint) error {
	added, err := b.join(ends)
	if err != nil {
		return err
	}
	b.net.mu.Lock()
	joined := stationsOf(added)
	b.net.mu.Unlock()
	if err := b.net.syncAll(ctx, joined); err != nil {
		b.net.mu.Lock()
		for _, n := range added {
			n.leave()
		}
		b.net.mu.Unlock()
		return fmt.Errorf("bridge `%s` attach: %w", b.name, err)
	}
	return b.announce(ctx, joined)
}

// join makes VMs members and returns the NICs of those that were none before.
// No guest is told.
func (b *Bridge) join(ends []Endpoint) (added []*NIC, err error) {
	ends = slices.Clone(ends)
	for i := range ends {
		if ends[i].VM == nil {
			if found, ok := b.scope.Station(ends[i].Name); ok {
				ends[i].VM = found
			}
		}
	}
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if err := b.mayJoin(ends); err != nil {
		return nil, err
	}
	for _, e := range ends {
		n := b.nics[place(e.Name, e.NIC)]
		if n == nil {
			names := []string{b.lab, e.Name, b.name}
			if e.NIC != "" {
				names = append(names, e.NIC)
			}
			id := digest(names...)
			n = b.newNIC(e.Name, e.NIC, b.freeHost(), net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]})
		}
		if n.attached {
			continue
		}
		n.attached, n.station = true, e.VM
		delete(b.awaited, e.Name)
		n.port.SetUp(!n.down)
		b.members = append(b.members, n)
		added = append(added, n)
		if e.VM != nil {
			b.net.attached[e.VM] = append(b.net.attached[e.VM], n)
		}
	}
	return added, nil
}

// mayJoin returns an error if one of ends cannot become a member. The caller must
// hold net.mu.
func (b *Bridge) mayJoin(ends []Endpoint) error {
	if b.closed {
		return fmt.Errorf("bridge `%s` is closed", b.name)
	}
	fresh := map[string]Station{}
	for _, e := range ends {
		if !isLabel(e.NIC) {
			return fmt.Errorf("nic name `%s` is not valid (1 to 32 of A-Z, a-z, 0-9, _ and -)", e.NIC)
		}
		at := place(e.Name, e.NIC)
		n, had := b.nics[at], b.nicOf(e.Name)
		other, twice := fresh[at]
		if b.ports[e.Name] != nil {
			return fmt.Errorf("%w: a port has the name", b.twoOf(e.Name))
		}
		if twice && other != e.VM || had != nil && had.station != nil && had.station != e.VM {
			return b.twoOf(e.Name)
		}
		if n == nil {
			fresh[at] = e.VM
		}
		if e.VM != nil && (n == nil || !n.attached) && len(b.net.attached[e.VM]) >= qemu.MaxNICs {
			return fmt.Errorf("vm `%s` has %d NICs already, which is the most", e.Name, qemu.MaxNICs)
		}
	}
	held := 0 // by servers
	for host := firstHost; host <= lastHost; host++ {
		if b.hostTaken(host) {
			held++
		}
	}
	held -= len(b.nics)
	if had := len(b.nics); had+len(fresh) > maxNICs-held {
		return fmt.Errorf("bridge `%s` is full: it has had %d of at most %d VMs, and %d more do not fit",
			b.name, had, maxNICs-held, len(fresh))
	}
	return nil
}

// newNIC creates a NIC of a VM, which is not attached. The caller must hold net.mu.
func (b *Bridge) newNIC(vm, label string, host int, mac net.HardwareAddr) *NIC {
	at := place(vm, label)
	n := &NIC{bridge: b, vmName: vm, label: label, host: host, mac: mac, port: b.sw.AddPort(at)}
	b.nics[at] = n
	return n
}

// nicOf returns the first attached NIC of a VM, which is the one without a label if there
// is one, or nil. The caller must hold net.mu.
func (b *Bridge) nicOf(vm string) *NIC {
	if n := b.nics[vm]; n != nil && n.attached {
		return n
	}
	if at := slices.IndexFunc(b.members, func(n *NIC) bool { return n.vmName == vm }); at >= 0 {
		return b.members[at]
	}
	return nil
}

// freeHost returns the lowest last byte of an address that no NIC or server has. The caller
// must hold net.mu.
func (b *Bridge) freeHost() int {
	host := firstHost
	for b.hostTaken(host) {
		host++
	}
	return host
}

// Detach takes a VM off the bridge, with all its NICs, and drops all rules that name it.
// With a label, only that NIC is taken off.
func (b *Bridge) Detach(ctx context.Context, name, label string) error {
	b.net.mu.Lock()
	var gone []*NIC
	for _, n := range b.members {
		if n.vmName == name && (label == "" || n.label == label) {
			gone = append(gone, n)
		}
	}
	if len(gone) == 0 {
		defer b.net.mu.Unlock()
		return b.notAttached(name, label)
	}
	s := gone[0].station
	for _, n := range gone {
		n.leave()
	}
	b.net.mu.Unlock()
	var err error
	if s != nil {
		err = s.SyncNetwork(ctx)
	}
	return errors.Join(err, b.announce(ctx, nil))
}

// notAttached returns the error for a VM that is no member. The caller must hold
// net.mu.
func (b *Bridge) notAttached(name, label string) error {
	if label != "" && b.nicOf(name) != nil {
		return fmt.Errorf("vm `%s` has no NIC `%s` on bridge `%s`; attach it with bridge:attach(vm, {nic = \"%s\"})",
			name, label, b.name, label)
	}
	members := strings.Join(b.memberNames(), ", ")
	if members == "" {
		members = "none"
	}
	return fmt.Errorf("vm `%s` is not attached to bridge `%s` (members: %s); attach it with bridge:attach first",
		name, b.name, members)
}

// announce updates the guests of all members, and those of routed bridges, except
// the listed ones. It does nothing without addressing.
func (b *Bridge) announce(ctx context.Context, except []Station) error {
	if !b.addressing {
		return nil
	}
	b.net.mu.Lock()
	all := membersOf(append(slices.Clone(b.routes), b)...)
	b.net.mu.Unlock()
	all = slices.DeleteFunc(all, func(s Station) bool { return slices.Contains(except, s) })
	if err := b.net.syncAll(ctx, all); err != nil {
		return fmt.Errorf("bridge `%s` names: %w", b.name, err)
	}
	return nil
}

// membersOf returns the declared VMs that are members of the bridges, each once.
// The caller must hold net.mu.
func membersOf(bridges ...*Bridge) (all []Station) {
	for _, b := range bridges {
		for _, s := range stationsOf(b.members) {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// stationsOf returns the declared VMs of NICs. The caller must hold net.mu.
func stationsOf(nics []*NIC) (all []Station) {
	for _, n := range nics {
		if n.station != nil {
			all = append(all, n.station)
		}
	}
	return all
}

// Members returns the names of the attached VMs in order of attaching.
func (b *Bridge) Members() []string {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.memberNames()
}

// memberNames is Members. The caller must hold net.mu.
func (b *Bridge) memberNames() []string {
	names := make([]string, 0, len(b.members))
	for _, n := range b.members {
		if !slices.Contains(names, n.vmName) {
			names = append(names, n.vmName)
		}
	}
	return names
}

// NIC returns the first NIC of an attached VM, or the one with that label.
func (b *Bridge) NIC(name, label string) (*NIC, error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	n := b.nicOf(name)
	if label != "" {
		n = b.nics[place(name, label)]
	}
	if n == nil || !n.attached {
		return nil, b.notAttached(name, label)
	}
	return n, nil
}

// Close detaches all members, unplugs the NICs of running guests, and closes ports, servers,
// forwards, gateway and switch. Closing again does nothing.
func (b *Bridge) Close(ctx context.Context) error {
	n := b.net
	n.mu.Lock()
	b.closed = true
	ports, servers := slices.Collect(maps.Values(b.ports)), slices.Clone(b.servers)
	forwards := b.forwards
	b.forwards = nil
	n.bridges = slices.DeleteFunc(n.bridges, func(o *Bridge) bool { return o == b })
	n.mu.Unlock()
	for _, p := range ports {
		p.Close()
	}
	for _, s := range servers {
		s.Stop()
	}
	for _, f := range forwards {
		f.close()
	}
	n.mu.Lock()
	routed := b.dropServices()
	for _, nic := range slices.Clone(b.members) {
		nic.leave()
	}
	all := membersOf(routed...)
	for _, at := range slices.Sorted(maps.Keys(b.nics)) { // also those that left: their interfaces are still plugged
		if nic := b.nics[at]; nic.station != nil && !slices.Contains(all, nic.station) {
			all = append(all, nic.station)
		}
	}
	n.mu.Unlock()
	err := b.net.syncAll(ctx, all)
	b.sw.Close()
	return err
}

// IsClosed reports whether Close was called.
func (b *Bridge) IsClosed() bool {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.closed
}
