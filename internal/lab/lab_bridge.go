package lab

import (
	"slices"

	"provium/internal/network"
)

// Bridge returns the bridge of that name from this scope outward, and creates it here
// when there is none. The opts of an existing bridge must be those it was created with;
// nil fits any.
func (l *Lab) Bridge(name string, opts *network.BridgeOpts) (*network.Bridge, error) {
	if err := checkName("bridge", name); err != nil {
		return nil, err
	}
	if found, ok := l.LookupBridge(name); ok {
		return found, found.Fits(opts)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := find(l.bridges, name); found != nil { // made meanwhile
		return found, found.Fits(opts)
	}
	b := l.host.network().NewBridge(network.BridgeConfig{Name: name, Lab: l.name, Lookup: l.station, Opts: opts})
	l.bridges = append(l.bridges, b)
	l.ownedBridges = append(l.ownedBridges, b)
	return b, nil
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

// station is VM, for bridges that are created here.
func (l *Lab) station(name string) (network.Station, bool) {
	vm, ok := l.VM(name)
	if !ok {
		return nil, false
	}
	return vm, true
}

// restoreBridge restores a bridge of the lab, and creates it when it is missing. It does
// not change guests. Routes and uplink are restored when all bridges exist.
func (l *Lab) restoreBridge(s *network.State, asCopy bool) (*network.Bridge, error) {
	l.mu.Lock()
	b := find(l.bridges, s.Name)
	if b == nil {
		b = l.host.network().NewBridgeFrom(s, l.name, l.station, asCopy)
		l.bridges = append(l.bridges, b)
		l.ownedBridges = append(l.ownedBridges, b)
	}
	l.mu.Unlock()
	return b, b.Load(s, asCopy)
}
