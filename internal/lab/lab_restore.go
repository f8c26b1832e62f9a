package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"provium/internal/admission"
	"provium/internal/network"
	"provium/internal/parallel"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// labReturn is the state of one restore of a lab snapshot.
type labReturn struct {
	lab     *Lab
	dir     string
	asCopy  bool
	readers map[string]*snapshot.Reader // by file
	vms     []*vmReturn
	byFile  map[string]*VM
	bridges map[string]network.Loaded // by path
}

// vmReturn is a VM that is being restored.
type vmReturn struct {
	vm    *VM
	saved *topology.VM
}

// Restore returns the lab to what was saved in a directory. Members are restored in
// place, so that handles stay valid; missing ones are created; other members stay as
// they are. Everything is checked before anything is changed.
func (l *Lab) Restore(ctx context.Context, dir string) error { return l.restore(ctx, dir, false) }

// restore is Restore. With asCopy, the bridges get new MACs and addresses.
func (l *Lab) restore(ctx context.Context, dir string, asCopy bool) error {
	lf, err := topology.Read(dir)
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
	if err := r.check(ctx, l, lf); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", l.name, err)
	}
	if err := r.declare(l, lf, ""); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", l.name, err)
	}
	return r.run(ctx, lf)
}

func (r *labReturn) close() {
	for _, s := range r.readers {
		s.Close()
	}
}

// check opens and verifies all files and returns an error when a name is taken. l is
// nil for a lab that does not exist yet.
func (r *labReturn) check(ctx context.Context, l *Lab, s *topology.Lab) error {
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
			_, _, subs := l.targets()
			sub = find(subs, s.Labs[i].Name)
		}
		if err := r.check(ctx, sub, &s.Labs[i]); err != nil {
			return err
		}
	}
	return nil
}

// mayReturn returns an error when a member of that kind and name cannot be restored.
func (l *Lab) mayReturn(kind, name, profile string) error {
	vms, bridges, subs := l.targets()
	vm := find(vms, name)
	have := map[string]bool{"vm": vm != nil, "bridge": find(bridges, name) != nil, "lab": find(subs, name) != nil}
	if have[kind] {
		if vm != nil && kind == "vm" && vm.profile.Name != profile {
			return fmt.Errorf("vm `%s` of the snapshot has profile `%s`, the one of lab `%s` has profile `%s`",
				name, profile, l.name, vm.profile.Name)
		}
		return nil
	}
	for _, other := range []string{"vm", "bridge", "lab"} {
		if have[other] {
			return fmt.Errorf("%s `%s` of the snapshot cannot come back: the name is taken by a %s of lab `%s`",
				kind, name, other, l.name)
		}
	}
	return nil
}

// declare creates the missing VMs and labs, and collects the VMs to restore.
func (r *labReturn) declare(l *Lab, s *topology.Lab, path string) error {
	for i := range s.VMs {
		saved := &s.VMs[i]
		vms, _, _ := l.targets()
		vm := find(vms, saved.Name)
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

// ownLab returns the sub-lab of that name in l, and creates it when it is missing.
func (l *Lab) ownLab(name string) *Lab {
	if _, _, subs := l.targets(); find(subs, name) != nil {
		return find(subs, name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addLab(name)
}

// run shuts the guests down, then restores bridges and VMs.
func (r *labReturn) run(ctx context.Context, s *topology.Lab) error {
	vms := make([]*VM, len(r.vms))
	for i, v := range r.vms {
		vms[i] = v.vm
	}
	errs := parallel.Each(vms, func(v *VM) error { return v.Shutdown(ctx) })
	if err := r.lab.batchError("restore", vms, errs); err != nil {
		return err
	}
	if err := r.restoreBridges(r.lab, s, ""); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", r.lab.name, err)
	}
	if err := r.lab.host.network().LoadServices(r.bridges); err != nil {
		return fmt.Errorf("lab `%s` restore: %w", r.lab.name, err)
	}
	shares := map[*VM]admission.Share{}
	for _, v := range r.vms {
		if v.saved.Runs() {
			shares[v.vm] = restoreShare(r.readers[v.saved.File])
		}
	}
	release, err := r.lab.admit(ctx, vms, shares)
	if err != nil {
		return fmt.Errorf("lab `%s` restore: %w", r.lab.name, err)
	}
	errs = parallel.Each(r.vms, func(v *vmReturn) error {
		err := r.bringBack(ctx, v, release[v.vm])
		if err != nil && release[v.vm] != nil {
			release[v.vm]()
		}
		return err
	})
	return r.lab.batchError("restore", vms, errs)
}

func (r *labReturn) restoreBridges(l *Lab, s *topology.Lab, path string) error {
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

// bringBack restores a VM that has no guest. releaseShare is as in (*VM).boot.
func (r *labReturn) bringBack(ctx context.Context, v *vmReturn, releaseShare func()) error {
	if !v.saved.Runs() {
		state := v.saved.State
		if state == topology.Dead {
			state = topology.Shutdown // the reason of its death was not saved
		}
		v.vm.clearGuest(state)
		return nil
	}
	release, err := v.vm.lifecycle(ctx)
	if err != nil {
		return err
	}
	err = v.vm.restoreReader(ctx, r.readers[v.saved.File], releaseShare)
	release()
	if err == nil && v.saved.State == topology.Paused {
		err = v.vm.Pause(ctx)
	}
	return err
}

// Prepare restores the VMs of a lab snapshot ahead of need, as (*VM).Prepare does.
func (l *Lab) Prepare(ctx context.Context, dir string) error {
	lf, err := topology.Read(dir)
	if err != nil {
		return err
	}
	var errs []error
	var walk func(l *Lab, s *topology.Lab)
	walk = func(l *Lab, s *topology.Lab) {
		vms, _, subs := l.targets()
		for _, saved := range s.VMs {
			if vm := find(vms, saved.Name); vm != nil && saved.Runs() {
				errs = append(errs, vm.Prepare(ctx, filepath.Join(dir, saved.File)))
			}
		}
		for i := range s.Labs {
			if sub := find(subs, s.Labs[i].Name); sub != nil {
				walk(sub, &s.Labs[i])
			}
		}
	}
	walk(l, lf)
	return errors.Join(errs...)
}
