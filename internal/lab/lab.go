package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"provium/internal/network"
	"provium/internal/parallel"
)

// Member is what a lab can hold: a *VM, a *Bridge or a *Lab.
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

// Lab is a container of VMs and sub-labs.
type Lab struct {
	host   *Host
	name   string
	root   bool // of the file
	parent *Lab // enclosing scope, for lookups; nil for the file's root and for sub-labs

	mu      sync.Mutex
	vms     []*VM // members in order of joining
	bridges []*network.Bridge
	subLabs []*Lab
	holders int // labs that hold this one, for sub-labs

	nextAnonymous int // number of the next sub-lab without a name

	// What was made here, in order of creation. It is closed with the scope
	// even after its membership was ended.
	ownedVMs     []*VM
	ownedBridges []*network.Bridge
	ownedLabs    []*Lab
}

const rootName = "provium"

// New makes the root lab of file scope.
func New(h *Host) *Lab { return &Lab{host: h, name: rootName, root: true} }

// OpenScope makes the root lab of a test body. Lookups that miss in it go on
// in l.
func (l *Lab) OpenScope() *Lab { return &Lab{host: l.host, name: rootName, parent: l} }

// Apart makes a lab of its own on the same host: a fixture's, while it is built.
func (l *Lab) Apart() *Lab { return &Lab{host: l.host, name: rootName} }

// Name is the lab's name; a root lab is called "provium".
func (l *Lab) Name() string { return l.name }

// reserved are the names that dot-lookup on a lab needs for itself.
var reserved = [...]string{"pack", "unpack", "vm_fixture", "lab_fixture"}

const maxName = 63

// checkName verifies a name of a VM or lab.
func checkName(kind, name string) error {
	if slices.Contains(reserved[:], name) {
		return fmt.Errorf("%s name `%s` is reserved (reserved: %s)", kind, name, strings.Join(reserved[:], ", "))
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
	if name == "" || len(name) > maxName || bad >= 0 {
		return fmt.Errorf("%s name `%s` is not valid (1 to %d of A-Z, a-z, 0-9, _ and -)", kind, name, maxName)
	}
	return nil
}

// DeclareVM makes a VM in state created.
func (l *Lab) DeclareVM(name, profile string, opts *BootOpts) (*VM, error) {
	if err := checkName("vm", name); err != nil {
		return nil, err
	}
	p, err := l.host.profile(profile)
	if err != nil {
		return nil, err
	}
	if opts != nil {
		if err := opts.validate(); err != nil {
			return nil, err
		}
	}
	vm, err := l.declare(name, p, opts)
	if err != nil {
		return nil, err
	}
	l.host.network().Bind(vm)
	return vm, nil
}

// declare makes a VM that is not bound to the network yet.
func (l *Lab) declare(name string, p *Profile, opts *BootOpts) (*VM, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.freeVMName(name); err != nil {
		return nil, err
	}
	vm := newVM(l.host, name, p, opts)
	vm.holders++
	l.vms = append(l.vms, vm)
	l.ownedVMs = append(l.ownedVMs, vm)
	return vm, nil
}

// freeVMName fails when the name is taken here or shadows one of file scope.
// Held: l.mu.
func (l *Lab) freeVMName(name string) error {
	if findVM(l.vms, name) != nil {
		return &DuplicateNameError{Kind: "vm", Name: name, Lab: l.name}
	}
	for up := l.parent; up != nil; up = up.parent {
		up.mu.Lock()
		taken := findVM(up.vms, name) != nil
		up.mu.Unlock()
		if taken {
			return fmt.Errorf("vm `%s`: name already declared at parent scope (lab `%s`); rename it, or use `%s:vm(\"%s\")` to get that one",
				name, up.name, up.name, name)
		}
	}
	return nil
}

func findVM(vms []*VM, name string) *VM {
	if i := slices.IndexFunc(vms, func(v *VM) bool { return v.name == name }); i >= 0 {
		return vms[i]
	}
	return nil
}

func findLab(labs []*Lab, name string) *Lab {
	if i := slices.IndexFunc(labs, func(s *Lab) bool { return s.name == name }); i >= 0 {
		return labs[i]
	}
	return nil
}

// VM finds a declared VM from this scope outward.
func (l *Lab) VM(name string) (*VM, bool) {
	for at := l; at != nil; at = at.parent {
		at.mu.Lock()
		vm := findVM(at.vms, name)
		at.mu.Unlock()
		if vm != nil {
			return vm, true
		}
	}
	return nil, false
}

// MustVM is VM with an error that lists the known names.
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
		return nil, fmt.Errorf("no vm named `%s` (none is declared; declare it with a profile: lab:vm(\"%s\", \"PROFILE\"))", name, name)
	}
	return nil, fmt.Errorf("no vm named `%s` (known: %s)", name, strings.Join(known, ", "))
}

// VMNames lists the names of the VMs of this lab, sorted.
func (l *Lab) VMNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.vms))
	for _, v := range l.vms {
		names = append(names, v.name)
	}
	slices.Sort(names)
	return names
}

// SubLabNames lists the names of the sub-labs, sorted.
func (l *Lab) SubLabNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.subLabs))
	for _, s := range l.subLabs {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return names
}

// Lab finds the sub-lab of that name from this scope outward, or makes it here.
// The empty name makes a new one, __lab_0, __lab_1 and so on.
func (l *Lab) Lab(name string) (*Lab, error) {
	if name != "" {
		if err := checkName("lab", name); err != nil {
			return nil, err
		}
		if found, ok := l.LookupLab(name); ok {
			return found, nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == "" {
		var n int
		name, n = firstFree(l.nextAnonymous, func(n int) string { return fmt.Sprintf("__lab_%d", n) },
			func(name string) bool { return findLab(l.subLabs, name) != nil })
		l.nextAnonymous = n + 1
	} else if found := findLab(l.subLabs, name); found != nil { // made meanwhile
		return found, nil
	}
	return l.addLab(name), nil
}

// addLab makes a sub-lab. The caller must hold l.mu and know that the name is free.
func (l *Lab) addLab(name string) *Lab {
	sub := &Lab{host: l.host, name: name, holders: 1}
	l.subLabs = append(l.subLabs, sub)
	l.ownedLabs = append(l.ownedLabs, sub)
	return sub
}

// firstFree returns the first name that is not taken of those with the numbers from
// "from" on, and its number.
func firstFree(from int, name func(int) string, taken func(string) bool) (string, int) {
	for n := from; ; n++ {
		if s := name(n); !taken(s) {
			return s, n
		}
	}
}

// numbered returns base with a suffix and a number. A base that is too long for a name
// is cut.
func numbered(base, suffix string, n int) string {
	tail := fmt.Sprintf("%s%d", suffix, n)
	return base[:min(len(base), maxName-len(tail))] + tail
}

// declareFree declares a VM under the first free name of name(1), name(2), ...
func (l *Lab) declareFree(name func(n int) string, p *Profile, opts *BootOpts) (*VM, error) {
	taken := func(name string) bool {
		_, found := l.VM(name)
		return found
	}
	for n := 1; ; {
		var free string
		free, n = firstFree(n, name, taken)
		vm, err := l.declare(free, p, opts)
		if err == nil {
			l.host.network().Bind(vm)
			return vm, nil
		}
		if !taken(free) {
			return nil, err
		}
	}
}

// LookupLab finds a sub-lab from this scope outward.
func (l *Lab) LookupLab(name string) (*Lab, bool) {
	for at := l; at != nil; at = at.parent {
		at.mu.Lock()
		sub := findLab(at.subLabs, name)
		at.mu.Unlock()
		if sub != nil {
			return sub, true
		}
	}
	return nil, false
}

// Include makes existing VMs and labs members here too: all of them or none.
// Something that is a member already stays one.
func (l *Lab) Include(members []Member) error {
	// One at a time: whether a lab contains another is asked without any lab's lock,
	// since of two labs neither comes first.
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

// join makes members of all that are none yet, or of none of them, and returns those.
// The caller must hold host.membership.
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
			if findVM(vms, m.name) != nil {
				return nil, &DuplicateNameError{Kind: "vm", Name: m.name}
			}
			vms = append(vms, m)
		case *network.Bridge:
			if slices.Contains(l.bridges, m) || slices.Contains(bridges, m) {
				continue
			}
			if findBridge(l.bridges, m.Name()) != nil || findBridge(bridges, m.Name()) != nil {
				return nil, &DuplicateNameError{Kind: "bridge", Name: m.Name(), Lab: l.name}
			}
			bridges = append(bridges, m)
		case *Lab:
			if slices.Contains(l.subLabs, m) || slices.Contains(labs, m) {
				continue
			}
			if findLab(l.subLabs, m.name) != nil || findLab(labs, m.name) != nil {
				return nil, &DuplicateNameError{Kind: "lab", Name: m.name, Lab: l.name}
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

// Hold adds n to the number of labs that hold l and returns that number.
func (l *Lab) Hold(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders += n
	return l.holders
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

// RemoveName ends the membership of the VM of that name, or else of the
// bridge, or else of the sub-lab.
func (l *Lab) RemoveName(name string) error {
	l.mu.Lock()
	vm, bridge, sub := findVM(l.vms, name), findBridge(l.bridges, name), findLab(l.subLabs, name)
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
	return fmt.Errorf("lab `%s` has no member `%s` (members: %s)", l.name, name, listOr(known, "none"))
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// Members lists VMs, bridges, then sub-labs, each in order of joining.
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

// Claim makes the file's one claim on the pool; zero is a field that was not
// given.
func (l *Lab) Claim(ctx context.Context, memory int64, cpus int) error {
	if l.host.Pool == nil {
		return nil
	}
	return l.host.claim(ctx, memory, cpus)
}

// memberVMs collects the VMs of this lab and of its sub-labs, each once.
func (l *Lab) memberVMs() []*VM {
	var all []*VM
	_ = l.walk(func(at *Lab, _ string) error {
		vms, _ := at.vmsAndLabs()
		for _, v := range vms {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
		return nil
	})
	return all
}

// walk calls visit for l and the labs below it, each once and before those below it.
// The path of l is "", that of a sub-lab of a sub-lab "outer/inner/". It stops at the
// first error and returns it.
func (l *Lab) walk(visit func(at *Lab, path string) error) error {
	seen := map[*Lab]bool{}
	var walk func(at *Lab, path string) error
	walk = func(at *Lab, path string) error {
		if seen[at] {
			return nil
		}
		seen[at] = true
		if err := visit(at, path); err != nil {
			return err
		}
		_, subs := at.vmsAndLabs()
		for _, s := range subs {
			if err := walk(s, path+s.name+"/"); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(l, "")
}

func (l *Lab) vmsAndLabs() ([]*VM, []*Lab) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.vms), slices.Clone(l.subLabs)
}

// Boot boots all VMs of the lab and its sub-labs at once, except those that run
// already.
func (l *Lab) Boot(ctx context.Context) error {
	return l.batch(ctx, "boot", nil, []State{Booted}, func(ctx context.Context, v *VM) error { return v.Boot(ctx, nil) })
}

// Shutdown ends all guests.
func (l *Lab) Shutdown(ctx context.Context) error {
	return l.batch(ctx, "shutdown", nil, []State{Shutdown}, func(ctx context.Context, v *VM) error { return v.Shutdown(ctx) })
}

// Pause pauses all guests. All are checked before one is touched.
func (l *Lab) Pause(ctx context.Context) error {
	return l.batch(ctx, "pause", []State{Booted}, []State{Paused}, func(ctx context.Context, v *VM) error { return v.Pause(ctx) })
}

// Resume resumes all guests. All are checked before one is touched.
func (l *Lab) Resume(ctx context.Context) error {
	return l.batch(ctx, "resume", []State{Paused}, []State{Booted}, func(ctx context.Context, v *VM) error { return v.Resume(ctx) })
}

// batch runs one action on all VMs at once. VMs in a state of skip are left
// out; unless need is nil, all others must be in one of its states before any
// is touched.
func (l *Lab) batch(ctx context.Context, action string, need, skip []State, do func(context.Context, *VM) error) error {
	var todo []*VM
	var failed []string
	for _, v := range l.memberVMs() {
		state := v.State()
		if slices.Contains(skip, state) {
			continue
		}
		if need != nil && !slices.Contains(need, state) {
			failed = append(failed, fmt.Sprintf("`%s`: %v", v.name, v.stateError(action, need[0])))
		}
		todo = append(todo, v)
	}
	if len(failed) > 0 {
		return fmt.Errorf("lab `%s` %s failed, nothing was changed: %s", l.name, action, strings.Join(failed, "; "))
	}
	return l.batchError(action, todo, parallel.Each(todo, func(v *VM) error { return do(ctx, v) }))
}

// batchError returns the errors of VMs as one that names those VMs, nil when there are
// none.
func (l *Lab) batchError(action string, vms []*VM, errs []error) error {
	var failed []string
	for i, err := range errs {
		if err != nil {
			failed = append(failed, fmt.Sprintf("`%s`: %v", vms[i].name, err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	text := fmt.Sprintf("lab `%s` %s failed for %s", l.name, action, strings.Join(failed, "; "))
	return &BatchError{text: text, errs: errs}
}

// BatchError is a lab-wide action that failed for some members.
type BatchError struct {
	text string
	errs []error
}

func (e *BatchError) Error() string { return e.text }

// Unwrap gives the errors of the members.
func (e *BatchError) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e.errs), func(err error) bool { return err == nil })
}

// AllVMs lists the VMs that this scope owns, those of its sub-labs included,
// in order of creation.
func (l *Lab) AllVMs() []*VM {
	l.mu.Lock()
	all, subs := slices.Clone(l.ownedVMs), slices.Clone(l.ownedLabs)
	l.mu.Unlock()
	for _, s := range subs {
		all = append(all, s.AllVMs()...)
	}
	return all
}

// CloseScope ends what the scope owns. A VM or lab that another scope holds too
// stays until the last of them is closed. Errors are warnings: the rest is
// closed all the same.
func (l *Lab) CloseScope(ctx context.Context) []error {
	closingVMs, closingLabs, closingBridges := l.leaveAll()
	errs := parallel.Each(closingVMs, func(v *VM) error {
		if v.Hold(0) > 0 {
			return nil
		}
		err := v.Close(ctx)
		if err != nil {
			err = fmt.Errorf("vm `%s` close: %w", v.name, err)
		}
		return errors.Join(err, v.host.network().Leave(ctx, v))
	})
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	for _, s := range closingLabs {
		if s.Hold(0) <= 0 {
			errs = append(errs, s.CloseScope(ctx)...)
		}
	}
	if l.root {
		l.host.prewarmed.Close()
		if err := l.host.snapshots.Close(); err != nil {
			errs = append(errs, fmt.Errorf("snapshots close: %w", err))
		}
	}
	for _, b := range closingBridges {
		if err := b.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("bridge `%s` close: %w", b.Name(), err))
		}
	}
	if l.root {
		if err := l.host.network().Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("bridges: %w", err))
		}
	}
	return errs
}

// leaveAll ends all memberships and returns what is to be closed: what was made here,
// and what no lab holds any more.
func (l *Lab) leaveAll() (vms []*VM, labs []*Lab, bridges []*network.Bridge) {
	l.host.membership.Lock()
	defer l.host.membership.Unlock()
	l.mu.Lock()
	memberVMs, memberLabs := l.vms, l.subLabs
	vms, labs = l.ownedVMs, l.ownedLabs
	bridges = l.closingBridges()
	l.vms, l.subLabs, l.ownedVMs, l.ownedLabs = nil, nil, nil, nil
	l.mu.Unlock()
	for _, v := range memberVMs {
		if v.Hold(-1) == 0 && !slices.Contains(vms, v) {
			vms = append(vms, v)
		}
	}
	for _, s := range memberLabs {
		if s.Hold(-1) == 0 && !slices.Contains(labs, s) {
			labs = append(labs, s)
		}
	}
	return vms, labs, bridges
}

// errNoGuest is what guest operations return where no guests are booted.
var errNoGuest = errors.New("this run boots no guests (--vmm local)")
