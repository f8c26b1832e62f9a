package lab

import (
	"slices"
)

func findBridge(bridges []*Bridge, name string) *Bridge {
	if i := slices.IndexFunc(bridges, func(b *Bridge) bool { return b.name == name }); i >= 0 {
		return bridges[i]
	}
	return nil
}

// LookupBridge finds a bridge from this scope outward.
func (l *Lab) LookupBridge(name string) (*Bridge, bool) {
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
func (l *Lab) Bridge(name string, opts *BridgeOpts) (*Bridge, error) {
	if err := checkName("bridge", name); err != nil {
		return nil, err
	}
	if found, ok := l.LookupBridge(name); ok {
		return found, found.fits(opts)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := findBridge(l.bridges, name); found != nil { // made meanwhile
		return found, found.fits(opts)
	}
	b := newBridge(l, name, opts)
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
		names = append(names, b.name)
	}
	slices.Sort(names)
	return names
}

// Bridges lists the bridges that are members here, and those made here that are
// members no more.
func (l *Lab) Bridges() []*Bridge {
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
func (l *Lab) closingBridges() []*Bridge {
	bridges, closing := l.bridges, l.ownedBridges
	l.bridges, l.ownedBridges = nil, nil
	for _, b := range bridges {
		if b.hold(-1) == 0 && !slices.Contains(closing, b) {
			closing = append(closing, b)
		}
	}
	return slices.DeleteFunc(slices.Clone(closing), func(b *Bridge) bool { return b.hold(0) > 0 })
}
