package lab

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/network"
)

// find returns the member of that name, the zero value when there is none.
func find[T Member](list []T, name string) (found T) {
	if i := slices.IndexFunc(list, func(m T) bool { return m.Name() == name }); i >= 0 {
		return list[i]
	}
	return found
}

// lookup returns the member of that name from this scope outward. members returns the
// members of one lab, whose lock is held.
func lookup[T interface {
	Member
	comparable
}](l *Lab, name string, members func(*Lab) []T) (T, bool) {
	var none T
	for at := l; at != nil; at = at.parent {
		at.mu.Lock()
		m := find(members(at), name)
		at.mu.Unlock()
		if m != none {
			return m, true
		}
	}
	return none, false
}

// VM returns the VM of that name from this scope outward.
func (l *Lab) VM(name string) (*VM, bool) { return lookup(l, name, (*Lab).lockedVMs) }

// LookupLab returns the sub-lab of that name from this scope outward.
func (l *Lab) LookupLab(name string) (*Lab, bool) { return lookup(l, name, (*Lab).lockedLabs) }

// LookupBridge returns the bridge of that name from this scope outward.
func (l *Lab) LookupBridge(name string) (*network.Bridge, bool) {
	return lookup(l, name, (*Lab).lockedBridges)
}

// The members of a lab by kind. The caller must hold l.mu.
func (l *Lab) lockedVMs() []*VM                 { return l.vms }
func (l *Lab) lockedLabs() []*Lab               { return l.subLabs }
func (l *Lab) lockedBridges() []*network.Bridge { return l.bridges }

// MustVM is VM. Its error lists the known names.
func (l *Lab) MustVM(name string) (*VM, error) {
	if vm, ok := l.VM(name); ok {
		return vm, nil
	}
	var known []string
	for at := l; at != nil; at = at.parent {
		known = append(known, at.VMNames()...)
	}
	slices.Sort(known)
	if len(known) == 0 {
		return nil, fmt.Errorf("no vm named `%s` (none is declared; "+
			"declare it with a profile: lab:vm(\"%s\", \"PROFILE\"))", name, name)
	}
	return nil, fmt.Errorf("no vm named `%s` (known: %s)", name, strings.Join(known, ", "))
}

// VMNames returns the names of the VMs of this lab, sorted.
func (l *Lab) VMNames() []string { return memberNames(l, (*Lab).lockedVMs) }

// SubLabNames returns the names of the sub-labs, sorted.
func (l *Lab) SubLabNames() []string { return memberNames(l, (*Lab).lockedLabs) }

// BridgeNames returns the names of the bridges of this lab, sorted.
func (l *Lab) BridgeNames() []string { return memberNames(l, (*Lab).lockedBridges) }

func memberNames[T Member](l *Lab, members func(*Lab) []T) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := []string{}
	for _, m := range members(l) {
		names = append(names, m.Name())
	}
	slices.Sort(names)
	return names
}
