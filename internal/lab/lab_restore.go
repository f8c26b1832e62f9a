package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"provium/internal/network"
	"provium/internal/snapshot"
)

// labReturn is the restore of a lab snapshot.
type labReturn struct {
	lab     *Lab
	dir     string
	asCopy  bool
	readers map[string]*snapshot.Reader // by file
	vms     []*vmReturn
	byFile  map[string]*VM
	bridges map[string]network.Loaded // by path
}

// vmReturn is one VM of it.
type vmReturn struct {
	vm    *VM
	saved *vmState
}

// Restore makes the lab what was saved in a directory: its own members in place,
// so that handles stay good, and missing ones anew. Everything is checked before
// anything is touched. Other members stay.
func (l *Lab) Restore(ctx context.Context, dir string) error { return l.restore(ctx, dir, false) }

// restore is Restore; as a copy it has bridges with identities of their own.
func (l *Lab) restore(ctx context.Context, dir string, asCopy bool) error {
	lf, err := readLabFile(dir)
	if err != nil {
		return fmt.Errorf("lab `%s` restore: %w", l.name, err)
	}
	release, err := l.host.wholeLab(ctx)
	if err != nil {
		return err
	}
	defer release()
	r := &labReturn{lab: l, dir: dir, asCopy: asCopy, readers: map[string]*snapshot.Reader{}, byFile: map[string]*VM{},
		bridges: map[string]network.Loaded{}}
	defer r.close()
	if err := r.check(ctx, l, &lf.Lab); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", l.name, err)
	}
	if err := r.declare(l, &lf.Lab, ""); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", l.name, err)
	}
	return r.run(ctx, &lf.Lab)
}

func (r *labReturn) close() {
	for _, s := range r.readers {
		s.Close()
	}
}

// check opens and verifies all files, and looks for names that are taken. l is nil
// where the lab is not there yet.
func (r *labReturn) check(ctx context.Context, l *Lab, s *labState) error {
	for i := range s.VMs {
		v := &s.VMs[i]
		if _, err := r.lab.host.profile(v.Profile); err != nil {
			return fmt.Errorf("vm `%s`: %w", v.Name, err)
		}
		if v.File != "" && r.readers[v.File] == nil {
			file, err := snapshot.Open(filepath.Join(r.dir, v.File))
			if err != nil {
				return fmt.Errorf("vm `%s`: %w", v.Name, err)
			}
			r.readers[v.File] = file
			if err := r.lab.host.snapshots.Verify(ctx, file); err != nil {
				return fmt.Errorf("vm `%s`: %w", v.Name, err)
			}
		}
		if l == nil {
			continue
		}
		if err := l.mayReturn("vm", v.Name, v.Profile); err != nil {
			return err
		}
	}
	for _, b := range s.Bridges {
		if l != nil {
			if err := l.mayReturn("bridge", b.Name, ""); err != nil {
				return err
			}
		}
	}
	for i := range s.Labs {
		var sub *Lab
		if l != nil {
			if err := l.mayReturn("lab", s.Labs[i].Name, ""); err != nil {
				return err
			}
			_, subs := l.vmsAndLabs()
			sub = findLab(subs, s.Labs[i].Name)
		}
		if err := r.check(ctx, sub, &s.Labs[i]); err != nil {
			return err
		}
	}
	return nil
}

// mayReturn tells whether a member of that kind and name can come back.
func (l *Lab) mayReturn(kind, name, profile string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	vm := findVM(l.vms, name)
	have := map[string]bool{"vm": vm != nil, "bridge": findBridge(l.bridges, name) != nil, "lab": findLab(l.subLabs, name) != nil}
	if have[kind] {
		if vm != nil && kind == "vm" && vm.profile.Name != profile {
			return fmt.Errorf("vm `%s` of the snapshot has profile `%s`, the one of lab `%s` has profile `%s`", name, profile, l.name, vm.profile.Name)
		}
		return nil
	}
	for _, other := range []string{"vm", "bridge", "lab"} {
		if have[other] {
			return fmt.Errorf("%s `%s` of the snapshot cannot come back: the name is taken by a %s of lab `%s`", kind, name, other, l.name)
		}
	}
	if kind == "vm" {
		return l.freeVMName(name)
	}
	return nil
}

// declare makes what is missing and collects what is to be restored.
func (r *labReturn) declare(l *Lab, s *labState, path string) error {
	for i := range s.VMs {
		saved := &s.VMs[i]
		vms, _ := l.vmsAndLabs()
		vm := findVM(vms, saved.Name)
		if vm == nil && r.byFile[saved.File] != nil {
			vm = r.byFile[saved.File] // a member of several labs
			if err := l.Include([]Member{vm}); err != nil {
				return err
			}
			continue
		}
		if vm == nil {
			var err error
			if vm, err = l.DeclareVM(saved.Name, saved.Profile, saved.Opts); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(r.vms, func(o *vmReturn) bool { return o.vm == vm }) {
			continue
		}
		if saved.File != "" {
			r.byFile[saved.File] = vm
		}
		r.vms = append(r.vms, &vmReturn{vm, saved})
	}
	for i := range s.Labs {
		if err := r.declare(l.ownLab(s.Labs[i].Name), &s.Labs[i], path+s.Labs[i].Name+"/"); err != nil {
			return err
		}
	}
	return nil
}

// ownLab is the sub-lab of that name here, made when it is missing.
func (l *Lab) ownLab(name string) *Lab {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sub := findLab(l.subLabs, name); sub != nil {
		return sub
	}
	return l.addLab(name)
}

// run ends the guests there are, then brings bridges and VMs back.
func (r *labReturn) run(ctx context.Context, s *labState) error {
	vms := make([]*VM, len(r.vms))
	for i, v := range r.vms {
		vms[i] = v.vm
	}
	if err := r.lab.each("restore", vms, func(v *VM) error { return v.Shutdown(ctx) }); err != nil {
		return err
	}
	if err := r.restoreBridges(r.lab, s, ""); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", r.lab.name, err)
	}
	if err := r.lab.host.network().LoadServices(r.bridges); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", r.lab.name, err)
	}
	return r.lab.each("restore", vms, func(v *VM) error {
		return r.bringBack(ctx, r.vms[slices.Index(vms, v)])
	})
}

func (r *labReturn) restoreBridges(l *Lab, s *labState, path string) error {
	for i := range s.Bridges {
		b, err := l.restoreBridge(&s.Bridges[i], r.asCopy)
		if err != nil {
			return fmt.Errorf("bridge `%s`: %w", s.Bridges[i].Name, err)
		}
		r.bridges[path+b.Name()] = network.Loaded{Bridge: b, State: &s.Bridges[i]}
	}
	for i := range s.Labs {
		sub := l.ownLab(s.Labs[i].Name)
		if err := r.restoreBridges(sub, &s.Labs[i], path+s.Labs[i].Name+"/"); err != nil {
			return err
		}
	}
	return nil
}

// bringBack gives a VM, which has no guest now, its state.
func (r *labReturn) bringBack(ctx context.Context, v *vmReturn) error {
	if !v.saved.runs() {
		state := v.saved.State
		if state == Dead {
			state = Shutdown // it has no reason any more
		}
		v.vm.settle(state)
		return nil
	}
	release, err := v.vm.lifecycle(ctx)
	if err != nil {
		return err
	}
	err = v.vm.restoreReader(ctx, r.readers[v.saved.File])
	release()
	if err == nil && v.saved.State == Paused {
		err = v.vm.Pause(ctx)
	}
	return err
}

// Prepare restores the VMs of a lab snapshot ahead of need, see (*VM).Prepare.
func (l *Lab) Prepare(ctx context.Context, dir string) error {
	lf, err := readLabFile(dir)
	if err != nil {
		return err
	}
	var errs []error
	var walk func(l *Lab, s *labState)
	walk = func(l *Lab, s *labState) {
		vms, subs := l.vmsAndLabs()
		for _, saved := range s.VMs {
			if vm := findVM(vms, saved.Name); vm != nil && saved.runs() {
				errs = append(errs, vm.Prepare(ctx, filepath.Join(dir, saved.File)))
			}
		}
		for i := range s.Labs {
			if sub := findLab(subs, s.Labs[i].Name); sub != nil {
				walk(sub, &s.Labs[i])
			}
		}
	}
	walk(l, &lf.Lab)
	return errors.Join(errs...)
}
