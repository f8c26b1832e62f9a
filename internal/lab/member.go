package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"provium/internal/network"
	"provium/internal/topology"
)

// Member is what a lab can hold: a *VM, a *network.Bridge or a *Lab.
type Member interface {
	Name() string
	// Hold adds n to the number of labs that hold it and returns that number.
	Hold(n int) int
}

// kindOf returns what MemberInfo calls a member.
func kindOf(m Member) string {
	switch m.(type) {
	case *VM:
		return "vm"
	case *network.Bridge:
		return "bridge"
	}
	return "sub_lab"
}

// MemberInfo names one member; Kind is "vm", "bridge" or "sub_lab".
type MemberInfo struct{ Kind, Name string }

// Include makes existing VMs, bridges and labs members here too: all of them or, when
// one cannot be, none. A member stays a member.
func (l *Lab) Include(members []Member) error {
	// The host's lock lets contains work without holding a lab's: two labs have no order
	// of locking.
	l.host.membership.Lock()
	defer l.host.membership.Unlock()
	for _, m := range members {
		if sub, ok := m.(*Lab); ok && (sub == l || sub.contains(l)) {
			return fmt.Errorf("lab `%s` cannot include lab `%s`: it would contain itself", l.name, sub.name)
		}
	}
	added, err := l.join(members)
	if err != nil {
		return err
	}
	for _, m := range added {
		m.Hold(1)
	}
	return nil
}

// join adds those that are not members yet, all of them or none, and returns them. The
// caller must hold host.membership.
func (l *Lab) join(members []Member) (added []Member, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var vms []*VM
	var bridges []*network.Bridge
	var labs []*Lab
	for _, m := range members {
		switch m := m.(type) {
		case *VM:
			if slices.Contains(l.vms, m) || slices.Contains(vms, m) {
				continue
			}
			if err := l.freeVMName(m.name); err != nil {
				return nil, err
			}
			if find(vms, m.name) != nil {
				return nil, &topology.DuplicateNameError{Kind: "vm", Name: m.name}
			}
			vms = append(vms, m)
		case *network.Bridge:
			if slices.Contains(l.bridges, m) || slices.Contains(bridges, m) {
				continue
			}
			if find(l.bridges, m.Name()) != nil || find(bridges, m.Name()) != nil {
				return nil, &topology.DuplicateNameError{Kind: "bridge", Name: m.Name(), Lab: l.name}
			}
			bridges = append(bridges, m)
		case *Lab:
			if slices.Contains(l.subLabs, m) || slices.Contains(labs, m) {
				continue
			}
			if find(l.subLabs, m.name) != nil || find(labs, m.name) != nil {
				return nil, &topology.DuplicateNameError{Kind: "lab", Name: m.name, Lab: l.name}
			}
			labs = append(labs, m)
		}
		added = append(added, m)
	}
	l.vms = append(l.vms, vms...)
	l.bridges = append(l.bridges, bridges...)
	l.subLabs = append(l.subLabs, labs...)
	return added, nil
}

// contains reports whether other is somewhere below l. The caller must hold
// host.membership and no lab's lock.
func (l *Lab) contains(other *Lab) bool {
	l.mu.Lock()
	subs := slices.Clone(l.subLabs)
	l.mu.Unlock()
	for _, s := range subs {
		if s == other || s.contains(other) {
			return true
		}
	}
	return false
}

// Remove ends a membership; nothing is stopped.
func (l *Lab) Remove(m Member) error {
	l.host.membership.Lock()
	defer l.host.membership.Unlock()
	if !l.leave(m) {
		return fmt.Errorf("%s `%s` is no member of lab `%s`", kindOf(m), m.Name(), l.name)
	}
	m.Hold(-1)
	return nil
}

// leave ends a membership and reports whether there was one. The caller must hold
// host.membership.
func (l *Lab) leave(m Member) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch m := m.(type) {
	case *VM:
		l.vms, was = without(l.vms, m)
	case *network.Bridge:
		l.bridges, was = without(l.bridges, m)
	case *Lab:
		l.subLabs, was = without(l.subLabs, m)
	}
	return was
}

func without[T comparable](list []T, v T) (rest []T, was bool) {
	if i := slices.Index(list, v); i >= 0 {
		return slices.Delete(list, i, i+1), true
	}
	return list, false
}

// RemoveName ends the membership of the VM of that name, else of the bridge, else of
// the sub-lab.
func (l *Lab) RemoveName(name string) error {
	l.mu.Lock()
	vm, bridge, sub := find(l.vms, name), find(l.bridges, name), find(l.subLabs, name)
	l.mu.Unlock()
	switch {
	case vm != nil:
		return l.Remove(vm)
	case bridge != nil:
		return l.Remove(bridge)
	case sub != nil:
		return l.Remove(sub)
	}
	var known []string
	for _, m := range l.Members() {
		known = append(known, m.Name)
	}
	return fmt.Errorf("lab `%s` has no member `%s` (members: %s)", l.name, name,
		cmp.Or(strings.Join(known, ", "), "none"))
}

// unheld returns the members and the owned ones that no lab holds any more, after the
// members' lab has released them.
func unheld[T interface {
	Member
	comparable
}](members, owned []T) []T {
	for _, m := range members {
		m.Hold(-1)
		if !slices.Contains(owned, m) {
			owned = append(owned, m)
		}
	}
	return slices.DeleteFunc(slices.Clone(owned), func(m T) bool { return m.Hold(0) > 0 })
}

// Members returns the VMs, the bridges, then the sub-labs, each in order of joining.
func (l *Lab) Members() []MemberInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]MemberInfo, 0, len(l.vms)+len(l.subLabs))
	for _, v := range l.vms {
		all = append(all, MemberInfo{kindOf(v), v.name})
	}
	for _, b := range l.bridges {
		all = append(all, MemberInfo{kindOf(b), b.Name()})
	}
	for _, s := range l.subLabs {
		all = append(all, MemberInfo{kindOf(s), s.name})
	}
	return all
}

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
	known := l.VisibleVMs()
	if len(known) == 0 {
		return nil, fmt.Errorf("no vm named `%s` (none is declared; "+
			"declare it with a profile: lab:vm(\"%s\", \"PROFILE\"))", name, name)
	}
	return nil, fmt.Errorf("no vm named `%s` (known: %s)", name, strings.Join(known, ", "))
}

// VisibleVMs returns the names of the VMs from this scope outward, sorted.
func (l *Lab) VisibleVMs() (names []string) {
	for at := l; at != nil; at = at.parent {
		names = append(names, at.VMNames()...)
	}
	slices.Sort(names)
	return names
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
