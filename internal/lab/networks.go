package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"provium/internal/guest"
	"provium/internal/network"
	"provium/internal/topology"
)

// network returns the bridges of the file.
func (h *Host) network() *network.Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.net == nil {
		h.net = network.New(network.Env{File: h.File, Seed: h.Seed})
	}
	return h.net
}

// NIC returns the VM's NIC by the name of its bridge, or by a guest's name for it.
func (v *VM) NIC(name string) (*network.NIC, error) { return v.host.network().FindNIC(v, name) }

// SyncNetwork updates the network devices and the configuration of the guest, if
// one runs, to what the VM is attached to.
func (v *VM) SyncNetwork(ctx context.Context) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	v.mu.Lock()
	state, inst := v.state, v.inst
	v.mu.Unlock()
	if inst == nil || state != topology.Booted && state != topology.Paused {
		return nil
	}
	err = inst.syncNetwork(ctx, state == topology.Booted)
	if err != nil && inst.IsOver() {
		return nil // its next boot begins with what is right then
	}
	if err != nil {
		return fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	return nil
}

// syncNetwork is SyncNetwork for this guest. One that does not run is told when it
// does.
func (i *guestRun) syncNetwork(ctx context.Context, runs bool) error {
	if !runs || i.IsSuspended() {
		return i.netdevs.Sync(ctx, i.machine, nil)
	}
	if i.isForeign() {
		return i.netdevs.Sync(ctx, i.machine, network.Foreign{})
	}
	if i.IsAgentless() { // the agent is told when it answers
		return i.netdevs.Sync(ctx, i.machine, nil)
	}
	link, err := i.Client(ctx)
	if err != nil {
		return err
	}
	return i.netdevs.Sync(ctx, i.machine, link)
}

// refreshNetwork tells a guest that runs again what it has missed.
func (i *guestRun) refreshNetwork(ctx context.Context) error {
	if !i.netdevs.IsStale() {
		return nil
	}
	return i.syncNetwork(ctx, true)
}

// reconfigure configures the network for the agent of a boot that the guest itself,
// or a reset, has begun.
func (i *guestRun) reconfigure(ctx context.Context, link *guest.Client) error {
	if i.isForeign() {
		return nil
	}
	return i.netdevs.Configure(ctx, link)
}

// isForeign reports whether the guest configures its network itself: it boots an image
// that Provium adds no agent to. Its NICs have their MACs on the device.
func (i *guestRun) isForeign() bool { return i.vm.profile.Image.NoAgent }

// fixedMACs returns the MACs that the state of a planned boot depends on: those that no
// agent can change afterwards.
func (v *VM) fixedMACs(p *startPlan) (macs []string) {
	if v.profile.Image.NoAgent {
		for _, n := range p.nics {
			macs = append(macs, n.NIC.MAC())
		}
	}
	return macs
}

// digest returns a fingerprint of names.
func digest(names ...string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(names, "\x00")))
}

// Bridge returns the bridge of that name from this scope outward, and creates it here
// when there is none. The opts of an existing bridge must be those it was created with;
// nil fits any.
func (l *Lab) Bridge(name string, opts *network.BridgeOpts) (*network.Bridge, error) {
	if err := topology.CheckName("bridge", name); err != nil {
		return nil, err
	}
	if found, ok := l.LookupBridge(name); ok {
		return found, found.Fits(opts)
	}
	l.mu.Lock()
	if found := find(l.bridges, name); found != nil { // made meanwhile
		l.mu.Unlock()
		return found, found.Fits(opts)
	}
	b := l.host.network().NewBridge(network.BridgeConfig{Name: name, Lab: l.name, Scope: Scope{l}, Opts: opts})
	l.bridges = append(l.bridges, b)
	l.ownedBridges = append(l.ownedBridges, b)
	l.mu.Unlock()
	return b, b.ConnectAwaited()
}

// Bridges returns the bridges that are members here, then those created here whose
// membership was ended.
func (l *Lab) Bridges() []*network.Bridge {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.bridges)
	for _, b := range l.ownedBridges {
		if !slices.Contains(all, b) {
			all = append(all, b)
		}
	}
	return all
}

// Scope is a lab as bridges see it.
type Scope struct{ *Lab }

// Station implements network.Scope.
func (s Scope) Station(name string) (network.Station, bool) {
	vm, ok := s.VM(name)
	if !ok {
		return nil, false
	}
	return vm, true
}

// Bridge implements network.Scope.
func (s Scope) Bridge(name string) (*network.Bridge, bool) { return s.LookupBridge(name) }

// VMNames implements network.Scope.
func (s Scope) VMNames() []string { return s.VisibleVMs() }

// restoreBridge restores a bridge of the lab, and creates it when it is missing. It does
// not change guests. Routes and uplink are restored when all bridges exist.
func (l *Lab) restoreBridge(s *network.State, asCopy bool) (*network.Bridge, error) {
	_, bridges, _ := l.targets()
	b := find(bridges, s.Name)
	l.mu.Lock()
	if b == nil {
		b = l.host.network().NewBridgeFrom(s, l.name, Scope{l}, asCopy)
		l.bridges = append(l.bridges, b)
		l.ownedBridges = append(l.ownedBridges, b)
	}
	l.mu.Unlock()
	return b, b.Load(s, asCopy)
}
