package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/disk"
	"provium/internal/network"
	"provium/internal/parallel"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// labShot is the state of one lab snapshot that is being taken.
type labShot struct {
	lab   *Lab
	dir   string // temporary
	token bool   // the contents of disks stay in this process
	vms   []*vmShot
	state topology.Lab
}

// vmShot is a VM of a lab snapshot.
type vmShot struct {
	vm     *VM
	inst   *guestRun // nil: it has no guest
	state  topology.State
	file   string // relative; "" without a guest
	w      *snapshot.Writer
	moment *frozenGuest
	taken  *takenSnapshot
}

// Snapshot saves all VMs of the lab and of its sub-labs, and the bridges, as they are
// at one moment. dir is created, or replaced when it is a lab snapshot; "" is a new
// directory in the temporary directory of the run.
func (l *Lab) Snapshot(ctx context.Context, dir string) (*LabSnapshot, error) {
	h := l.host
	temporary := dir == ""
	if temporary {
		dir = strings.TrimSuffix(h.snapshotPath(), ".snap") + ".lab"
	}
	if err := topology.MayInstall(dir); err != nil {
		return nil, fmt.Errorf("lab `%s` snapshot: %w", l.name, err)
	}
	release, err := h.wholeLab(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s := &labShot{lab: l, token: temporary}
	free, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	if s.dir, err = os.MkdirTemp(filepath.Dir(dir), ".lab-*"); err != nil {
		return nil, fmt.Errorf("lab `%s` snapshot: %w", l.name, err)
	}
	defer os.RemoveAll(s.dir)
	if err := s.take(ctx); err != nil {
		return nil, errors.Join(err, s.releaseDisks())
	}
	if err = s.state.Write(s.dir); err == nil {
		err = topology.Install(s.dir, dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab `%s` snapshot: %w", l.name, err), s.releaseDisks())
	}
	err = s.each(func(v *vmShot) error { return v.inst.record(v.taken) })
	if err != nil {
		return nil, err
	}
	return &LabSnapshot{h, dir}, nil
}

// wholeLab acquires the host for one call that concerns many VMs at once.
func (h *Host) wholeLab(ctx context.Context) (release func(), err error) {
	h.mu.Lock()
	if h.labCall == nil {
		h.labCall = make(chan struct{}, 1)
	}
	call := h.labCall
	h.mu.Unlock()
	select {
	case call <- struct{}{}:
		return func() { <-call }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// hold acquires the life cycles of all VMs and keeps operations from starting. It
// returns what undoes that.
func (s *labShot) hold(ctx context.Context) (free func(), err error) {
	var undo []func()
	undoAll := func() {
		for _, u := range slices.Backward(undo) {
			u()
		}
	}
	defer func() {
		if err != nil {
			undoAll()
		}
	}()
	vms := s.lab.TargetVMs()
	for _, v := range vms {
		release, err := v.lifecycle(ctx)
		if err != nil {
			return nil, err
		}
		undo = append(undo, release)
	}
	var running []*VM
	for _, v := range vms {
		v.mu.Lock()
		shot := &vmShot{vm: v, state: v.state, inst: v.inst}
		v.mu.Unlock()
		if shot.state != topology.Booted && shot.state != topology.Paused {
			shot.inst = nil
		}
		s.vms = append(s.vms, shot)
		if shot.inst == nil {
			continue
		}
		if shot.inst.IsSuspended() {
			return nil, fmt.Errorf("lab `%s` snapshot: vm `%s` is suspended (S3); call vm:wakeup() first",
				s.lab.name, v.name)
		}
		running = append(running, v)
	}
	thaw, err := freeze("lab:snapshot()", running)
	if err != nil {
		return nil, err
	}
	undo = append(undo, thaw)
	return undoAll, nil
}

// each calls do for all VMs that have a guest, at once.
func (s *labShot) each(do func(*vmShot) error) error {
	return s.those(parallel.Each, do, topology.Booted, topology.Paused)
}

// booted calls do for all VMs whose guests run.
func (s *labShot) booted(each eachShot, do func(*vmShot) error) error {
	return s.those(each, do, topology.Booted)
}

type eachShot func([]*vmShot, func(*vmShot) error) []error

func (s *labShot) those(each eachShot, do func(*vmShot) error, states ...topology.State) error {
	var shots []*vmShot
	var vms []*VM
	for _, v := range s.vms {
		if v.inst != nil && slices.Contains(states, v.state) {
			shots, vms = append(shots, v), append(vms, v.vm)
		}
	}
	return s.lab.batchError("snapshot", vms, each(shots, do))
}

// take writes the files of all VMs and describes the rest in s.state.
func (s *labShot) take(ctx context.Context) (err error) {
	if err := s.layOut(); err != nil {
		return fmt.Errorf("lab `%s` snapshot: %w", s.lab.name, err)
	}
	defer func() {
		for _, v := range s.vms {
			if v.w != nil {
				v.w.Abort()
			}
		}
	}()
	err = s.each(func(v *vmShot) (err error) {
		if v.w, err = snapshot.Create(filepath.Join(s.dir, v.file), v.inst.plan.cfg.Memory); err != nil {
			return err
		}
		return v.w.CopyRAM(v.inst.machine.RAM()) // copied before the stop, as far as it stays unchanged
	})
	if err == nil {
		err = s.moment(ctx)
	}
	if err != nil {
		return err
	}
	return s.each(func(v *vmShot) (err error) {
		token := ""
		if s.token {
			token = rand.Text()
		}
		v.taken, err = v.inst.finish(v.w, v.moment, disk.Form{Token: token})
		return err
	})
}

// releaseDisks closes the disks of a lab snapshot that failed.
func (s *labShot) releaseDisks() error {
	var errs []error
	for _, v := range s.vms {
		if v.moment != nil {
			errs = append(errs, v.moment.close())
		}
		if v.taken != nil {
			errs = append(errs, v.taken.disks.Close())
		}
	}
	return errors.Join(errs...)
}

// moment stops all VMs, captures their state, and resumes those that were running.
func (s *labShot) moment(ctx context.Context) error {
	err := s.booted(parallel.InTurn, func(v *vmShot) error { return v.inst.Settle(ctx) })
	if err == nil {
		err = s.booted(parallel.Each, func(v *vmShot) error { return v.inst.HaltWithOthers(ctx) })
	}
	if err == nil {
		s.state = s.describe()
		err = s.each(func(v *vmShot) (err error) {
			v.moment, err = v.inst.capture(ctx, v.w)
			return err
		})
	}
	return errors.Join(err, s.booted(parallel.Each, func(v *vmShot) error { return v.inst.Continue(ctx) }))
}

// layOut chooses the file of each VM that has a guest, and creates a directory for each
// sub-lab.
func (s *labShot) layOut() error {
	return s.lab.walk(func(l *Lab, path string) error {
		if err := os.MkdirAll(filepath.Join(s.dir, path), 0o700); err != nil {
			return err
		}
		vms, _, _ := l.targets()
		for _, v := range vms {
			if shot := s.of(v); shot != nil && shot.inst != nil && shot.file == "" {
				shot.file = filepath.Join(path, v.name+".snap")
			}
		}
		return nil
	})
}

// of returns the shot of a VM, nil when the VM was declared after hold.
func (s *labShot) of(v *VM) *vmShot {
	if i := slices.IndexFunc(s.vms, func(shot *vmShot) bool { return shot.vm == v }); i >= 0 {
		return s.vms[i]
	}
	return nil
}

// describe returns the description of the lab at this moment.
func (s *labShot) describe() topology.Lab {
	paths := map[*network.Bridge]string{}
	_ = s.lab.walk(func(l *Lab, path string) error {
		_, bridges, _ := l.targets()
		for _, b := range bridges {
			if paths[b] == "" {
				paths[b] = path + b.Name()
			}
		}
		return nil
	})
	described := map[*Lab]bool{}
	var describe func(l *Lab, path string) topology.Lab
	describe = func(l *Lab, path string) topology.Lab {
		out := topology.Lab{Name: l.name}
		if described[l] {
			return out
		}
		described[l] = true
		vms, bridges, subs := l.targets()
		for _, v := range vms {
			if shot := s.of(v); shot != nil {
				out.VMs = append(out.VMs, shot.describe())
			}
		}
		for _, b := range bridges {
			if paths[b] == path+b.Name() { // one of several labs is described once
				out.Bridges = append(out.Bridges, b.Save(func(o *network.Bridge) string { return paths[o] }))
			}
		}
		for _, sub := range subs {
			out.Labs = append(out.Labs, describe(sub, path+sub.name+"/"))
		}
		return out
	}
	return describe(s.lab, "")
}

func (v *vmShot) describe() topology.VM {
	state := v.state
	if v.inst == nil && (state == topology.Booted || state == topology.Paused) {
		state = topology.Dead
	}
	return topology.VM{Name: v.vm.name, Profile: v.vm.profile.Name, State: state, File: v.file, Opts: v.vm.opts}
}

// LabSnapshot is a snapshot of a lab, which is a directory.
type LabSnapshot struct {
	host *Host
	path string
}

// Path returns the directory.
func (s *LabSnapshot) Path() string { return s.path }

// Size returns the space on disk of the files in the directory, in bytes; 0 when the
// directory is gone.
func (s *LabSnapshot) Size() (int64, error) { return snapshot.DirSize(s.path) }

// Delete removes the directory and its contents. VMs that were restored from it go
// on.
func (s *LabSnapshot) Delete() error {
	var errs []error
	_ = filepath.WalkDir(s.path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".snap") {
			errs = append(errs, (&Snapshot{host: s.host, path: path}).Delete())
		}
		return nil // what cannot be read cannot be removed either: RemoveAll returns the error
	})
	if err := os.RemoveAll(s.path); err != nil {
		errs = append(errs, fmt.Errorf("lab snapshot delete: %w", err))
	}
	return errors.Join(errs...)
}
