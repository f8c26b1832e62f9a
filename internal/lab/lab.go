package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"provium/internal/lab/shaped"
	"provium/internal/network"
	"provium/internal/parallel"
	"provium/internal/topology"
)

// Lab is a container of VMs, bridges and sub-labs.
type Lab struct {
	host   *Host
	world  *shaped.World
	name   string
	root   bool // of the file
	parent *Lab // enclosing scope, for lookups; nil for the file's root and for sub-labs

	mu      sync.Mutex
	vms     []*VM // members in order of joining
	bridges []*network.Bridge
	subLabs []*Lab
	holders int // labs that hold this one, for sub-labs

	nextAnonymous int // number of the next sub-lab without a name

	// What was created here, in order of creation. It is closed with the scope, even
	// when its membership was ended before.
	ownedVMs     []*VM
	ownedBridges []*network.Bridge
	ownedLabs    []*Lab
}

const rootName = "provium"

// New returns the root lab of a test file.
func New(h *Host) *Lab {
	return &Lab{host: h, world: shaped.NewWorld(h.Seed, h.Check), name: rootName, root: true}
}

// OpenScope returns the root lab of a test body. Its lookups go on in l.
func (l *Lab) OpenScope() *Lab { return &Lab{host: l.host, world: l.world, name: rootName, parent: l} }

// Apart returns a root lab on the same host that shares nothing with l: that of a
// fixture, while it is built.
func (l *Lab) Apart() *Lab {
	return &Lab{host: l.host, world: shaped.NewWorld(l.host.Seed, nil), name: rootName}
}

// KeepNumbers is (*network.Network).KeepNumbers.
func (l *Lab) KeepNumbers() (free func()) { return l.host.network().KeepNumbers() }

// Name returns the lab's name; a root lab is called "provium".
func (l *Lab) Name() string { return l.name }

// DeclareVM creates a VM in state created.
func (l *Lab) DeclareVM(name, profile string, opts *topology.BootOpts) (*VM, error) {
	if err := topology.CheckName("vm", name); err != nil {
		return nil, err
	}
	p, err := l.host.profile(profile)
	if err != nil {
		return nil, err
	}
	if opts != nil {
		if err := opts.Validate(); err != nil {
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

// declare creates a VM that is not bound to the network yet.
func (l *Lab) declare(name string, p *Profile, opts *topology.BootOpts) (*VM, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.freeVMName(name); err != nil {
		return nil, err
	}
	vm := newVM(l.host, l.world, name, p, opts)
	vm.holders++
	l.vms = append(l.vms, vm)
	l.ownedVMs = append(l.ownedVMs, vm)
	return vm, nil
}

// freeVMName returns an error when the name is taken here, or in a scope around l. The
// caller must hold l.mu.
func (l *Lab) freeVMName(name string) error {
	if find(l.vms, name) != nil {
		return &topology.DuplicateNameError{Kind: "vm", Name: name, Lab: l.name}
	}
	for up := l.parent; up != nil; up = up.parent {
		up.mu.Lock()
		taken := find(up.vms, name) != nil
		up.mu.Unlock()
		if taken {
			return fmt.Errorf("vm `%s`: name already declared at parent scope (lab `%s`); rename it, "+
				"or use `%s:vm(\"%s\")` to get that one", name, up.name, up.name, name)
		}
	}
	return nil
}

// Lab returns the sub-lab of that name from this scope outward, and creates it here
// when there is none. An empty name creates a new one: __lab_0, __lab_1 and so on.
func (l *Lab) Lab(name string) (*Lab, error) {
	if name != "" {
		if err := topology.CheckName("lab", name); err != nil {
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
		name, n = topology.FirstFree(l.nextAnonymous, func(n int) string { return fmt.Sprintf("__lab_%d", n) },
			func(name string) bool { return find(l.subLabs, name) != nil })
		l.nextAnonymous = n + 1
	} else if found := find(l.subLabs, name); found != nil { // made meanwhile
		return found, nil
	}
	return l.addLab(name), nil
}

// addLab creates a sub-lab. The caller must hold l.mu, and the name must be free.
func (l *Lab) addLab(name string) *Lab {
	sub := &Lab{host: l.host, world: l.world, name: name, holders: 1}
	l.subLabs = append(l.subLabs, sub)
	l.ownedLabs = append(l.ownedLabs, sub)
	return sub
}

// declareFree declares a VM under the first free name of name(1), name(2), ...
func (l *Lab) declareFree(name func(n int) string, p *Profile, opts *topology.BootOpts) (*VM, error) {
	taken := func(name string) bool {
		_, found := l.VM(name)
		return found
	}
	for n := 1; ; {
		var free string
		free, n = topology.FirstFree(n, name, taken)
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

// DeclareExpendable declares a VM like another one, booted with the same options,
// without its disks and networks. Its name is that of the other with suffix and a
// number. See (*VM).Expendable.
func (l *Lab) DeclareExpendable(like *VM, suffix string) (*VM, error) {
	like.mu.Lock()
	opts := like.opts
	if like.inst != nil {
		opts = like.inst.plan.opts
	}
	like.mu.Unlock()
	if like.host.Local {
		return nil, errNoGuest
	}
	own := opts.Merge(nil)
	own.Disks = nil
	profile := *like.profile
	profile.Disks = nil
	vm, err := l.declareFree(func(n int) string { return topology.Numbered(like.name, suffix, n) }, &profile, own)
	if err != nil {
		return nil, err
	}
	vm.expendable = true
	return vm, nil
}

// Forget removes a closed VM from the lab for good.
func (l *Lab) Forget(v *VM) error {
	err := l.Remove(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ownedVMs = slices.DeleteFunc(l.ownedVMs, func(o *VM) bool { return o == v })
	return err
}

// Hold adds n to the number of labs that hold l and returns that number.
func (l *Lab) Hold(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders += n
	return l.holders
}

// Claim makes the one claim of the file on the pool; zero means not given.
func (l *Lab) Claim(ctx context.Context, memory int64, cpus int) error {
	return l.host.gate().Claim(ctx, memory, cpus)
}

// TargetVMs returns the VMs that operations on the lab act on, those of its sub-labs
// too, each once.
func (l *Lab) TargetVMs() []*VM {
	var all []*VM
	_ = l.walk(func(at *Lab, _ string) error {
		vms, _, _ := at.targets()
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
		_, _, subs := at.targets()
		for _, s := range subs {
			if err := walk(s, path+s.name+"/"); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(l, "")
}

// targets returns what operations on the lab act on: its members, and for the lab of a
// test also the members of the file's.
func (l *Lab) targets() (vms []*VM, bridges []*network.Bridge, subLabs []*Lab) {
	if l.parent != nil {
		vms, bridges, subLabs = l.parent.targets()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(vms, l.vms...), append(bridges, l.bridges...), append(subLabs, l.subLabs...)
}

// AllVMs returns the VMs that this scope and its sub-labs own, in order of creation.
func (l *Lab) AllVMs() []*VM {
	l.mu.Lock()
	all, subs := slices.Clone(l.ownedVMs), slices.Clone(l.ownedLabs)
	l.mu.Unlock()
	for _, s := range subs {
		all = append(all, s.AllVMs()...)
	}
	return all
}

// CloseScope closes what the scope owns, except members that another lab holds too:
// the last of their labs closes them. Errors are warnings: everything else is closed
// all the same.
func (l *Lab) CloseScope(ctx context.Context) []error {
	closingVMs, closingLabs, closingBridges := l.leaveAll()
	errs := parallel.Each(closingVMs, func(v *VM) error {
		if err := v.Close(ctx); err != nil {
			return fmt.Errorf("vm `%s` close: %w", v.name, err)
		}
		return nil
	})
	each := network.Each[*VM](l.host.network())
	errs = append(errs, each(closingVMs, func(v *VM) error { return v.host.network().Leave(ctx, v) })...)
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	for _, s := range closingLabs {
		errs = append(errs, s.CloseScope(ctx)...)
	}
	if l.root {
		l.host.prewarmed.Close()
		l.host.Templates.EndFile()
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

// leaveAll ends all memberships and returns what is to be closed: of what was created
// here, and of the members, those that no other lab holds.
func (l *Lab) leaveAll() (vms []*VM, labs []*Lab, bridges []*network.Bridge) {
	l.host.membership.Lock()
	defer l.host.membership.Unlock()
	l.mu.Lock()
	memberVMs, memberLabs, memberBridges := l.vms, l.subLabs, l.bridges
	ownedVMs, ownedLabs, ownedBridges := l.ownedVMs, l.ownedLabs, l.ownedBridges
	l.vms, l.subLabs, l.bridges = nil, nil, nil
	l.ownedVMs, l.ownedLabs, l.ownedBridges = nil, nil, nil
	l.mu.Unlock()
	return unheld(memberVMs, ownedVMs), unheld(memberLabs, ownedLabs), unheld(memberBridges, ownedBridges)
}

// errNoGuest is returned by guest operations under --vmm local.
var errNoGuest = errors.New("this run boots no guests (--vmm local)")
