package lab

import (
	"slices"

	"provium/internal/network"
)

func findBridge(bridges []*network.Bridge, name string) *network.Bridge {
	if i := slices.IndexFunc(bridges, func(b *network.Bridge) bool { return b.Name() == name }); i >= 0 {
		return bridges[i]
	}
	return nil
}

// LookupBridge finds a bridge from this scope outward.
func (l *Lab) LookupBridge(name string) (*network.Bridge, bool) {
	for at := l; at != nil; at = at.parent {
		at.mu.Lock()
		b := findBridge(at.bridges, name)
		at.mu.Unlock()
		if b != nil {
			return b, true
		}
	}
	return nil, false
}

// Bridge finds the bridge of that name from this scope outward, or makes it here.
// opts of an existing one must be what it was created with; nil are any.
func (l *Lab) Bridge(name string, opts *network.BridgeOpts) (*network.Bridge, error) {
	if err := checkName("bridge", name); err != nil {
		return nil, err
	}
	if found, ok := l.LookupBridge(name); ok {
		return found, found.Fits(opts)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := findBridge(l.bridges, name); found != nil { // made meanwhile
		return found, found.Fits(opts)
	}
	b := l.host.network().NewBridge(network.BridgeConfig{Name: name, Lab: l.name, Lookup: l.station, Opts: opts})
	l.bridges = append(l.bridges, b)
	l.ownedBridges = append(l.ownedBridges, b)
	return b, nil
}

// BridgeNames lists the names of the bridges of this lab, sorted.
func (l *Lab) BridgeNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.bridges))
	for _, b := range l.bridges {
		names = append(names, b.Name())
	}
	slices.Sort(names)
	return names
}

// Bridges lists the bridges that are members here, and those made here that are
// members no more.
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

// closingBridges takes the bridges out of a lab that is closed and gives those
// that no other holds. Held: l.mu.
func (l *Lab) closingBridges() []*network.Bridge {
	bridges, closing := l.bridges, l.ownedBridges
	l.bridges, l.ownedBridges = nil, nil
	for _, b := range bridges {
		if b.Hold(-1) == 0 && !slices.Contains(closing, b) {
			closing = append(closing, b)
		}
	}
	return slices.DeleteFunc(slices.Clone(closing), func(b *network.Bridge) bool { return b.Hold(0) > 0 })
}

// station is VM for bridges that are created here.
func (l *Lab) station(name string) (network.Station, bool) {
	vm, ok := l.VM(name)
	if !ok {
		return nil, false
	}
	return vm, true
}

// restoreBridge makes a bridge of the lab the one that was saved, and creates it if
// it is missing. No guest is told. Routes and uplink follow when all bridges are
// there.
func (l *Lab) restoreBridge(s *network.State, asCopy bool) (*network.Bridge, error) {
	l.mu.Lock()
	b := findBridge(l.bridges, s.Name)
	if b == nil {
		b = l.host.network().NewBridgeFrom(s, l.name, l.station, asCopy)
		l.bridges = append(l.bridges, b)
		l.ownedBridges = append(l.ownedBridges, b)
	}
	l.mu.Unlock()
	return b, b.Load(s, asCopy)
}
