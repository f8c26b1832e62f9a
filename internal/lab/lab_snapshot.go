package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/disk"
	"provium/internal/network"
	"provium/internal/snapshot"
)

// labShot is a lab snapshot that is being taken.
type labShot struct {
	lab   *Lab
	dir   string // temporary
	token bool   // disks may stay in this process
	vms   []*vmShot
	state labState
}

// vmShot is one VM of it.
type vmShot struct {
	vm      *VM
	inst    *guestRun // nil: it does not run
	state   State
	file    string // relative; "" without a guest
	w       *snapshot.Writer
	moment  *frozenGuest
	stopped bool // by us
	taken   *takenSnapshot
}

// Snapshot freezes all VMs of the lab and of its sub-labs at one moment into a
// directory, with the bridges. dir is made, or replaced when it is a lab snapshot;
// "" is one in the temporary directory of the run.
func (l *Lab) Snapshot(ctx context.Context, dir string) (*LabSnapshot, error) {
	h := l.host
	temporary := dir == ""
	if temporary {
		dir = strings.TrimSuffix(h.snapshotPath(), ".snap") + ".lab"
	}
	if err := mayInstall(dir); err != nil {
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
	if err = (&labFile{labFileVersion, s.state}).write(s.dir); err == nil {
		err = install(s.dir, dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab `%s` snapshot: %w", l.name, err), s.releaseDisks())
	}
	err = s.each("snapshot", func(v *vmShot) error { return v.inst.record(v.taken) })
	if err != nil {
		return nil, err
	}
	return &LabSnapshot{h, dir}, nil
}

// wholeLab takes the host for one call that concerns many VMs at once.
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

// mayInstall tells whether a lab snapshot can go to dir.
func mayInstall(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.IsDir() && isLabSnapshot(dir) {
		return nil // a missing parent is told by who makes the directory
	}
	if !info.IsDir() {
		return fmt.Errorf("%s exists and is no directory", dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return fmt.Errorf("%s exists and is no lab snapshot", dir)
	}
	return nil
}

// install moves a complete directory to its place, at once.
func install(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		// The old one takes the temporary name, and is removed under it.
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = os.Chmod(to, 0o755)
	}
	return err
}

// hold takes the life cycles of all VMs, and keeps operations from starting.
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
	vms := s.lab.memberVMs()
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
		if shot.state != Booted && shot.state != Paused {
			shot.inst = nil
		}
		s.vms = append(s.vms, shot)
		if shot.inst == nil {
			continue
		}
		if shot.inst.IsSuspended() {
			return nil, fmt.Errorf("lab `%s` snapshot: vm `%s` is suspended (S3); call vm:wakeup() first", s.lab.name, v.name)
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

// each does something for all VMs with a guest at once.
func (s *labShot) each(action string, do func(*vmShot) error) error {
	var running []*vmShot
	var vms []*VM
	for _, v := range s.vms {
		if v.inst != nil {
			running, vms = append(running, v), append(vms, v.vm)
		}
	}
	return s.lab.each(action, vms, func(v *VM) error {
		return do(running[slices.Index(vms, v)])
	})
}

// take writes the files of all VMs and describes the rest.
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
	err = s.each("snapshot", func(v *vmShot) (err error) {
		if v.w, err = snapshot.Create(filepath.Join(s.dir, v.file), v.inst.plan.cfg.Memory); err != nil {
			return err
		}
		return v.w.CopyRAM(v.inst.machine.RAM()) // what does not change meanwhile is copied while they run
	})
	if err == nil {
		err = s.moment(ctx)
	}
	if err != nil {
		return err
	}
	return s.each("snapshot", func(v *vmShot) (err error) {
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
			errs = append(errs, v.moment.disks.Close())
		}
		if v.taken != nil {
			errs = append(errs, v.taken.disks.Close())
		}
	}
	return errors.Join(errs...)
}

// moment stops all VMs, takes what they are, and has those that ran go on.
func (s *labShot) moment(ctx context.Context) error {
	err := s.each("snapshot", func(v *vmShot) error {
		if v.state != Booted {
			return nil
		}
		v.stopped = true // goOn is right also where halt has failed
		return v.inst.halt(ctx)
	})
	if err == nil {
		s.state = s.describe()
		err = s.each("snapshot", func(v *vmShot) (err error) {
			v.moment, err = v.inst.capture(ctx, v.w)
			return err
		})
	}
	return errors.Join(err, s.each("snapshot", func(v *vmShot) error {
		if !v.stopped {
			return nil
		}
		return v.inst.goOn(ctx)
	}))
}

// layOut gives each VM with a guest its file, in a directory for each sub-lab.
func (s *labShot) layOut() error {
	seen := map[*Lab]bool{}
	var walk func(l *Lab, dir string) error
	walk = func(l *Lab, dir string) error {
		if seen[l] {
			return nil
		}
		seen[l] = true
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			return err
		}
		vms, subs := l.vmsAndLabs()
		for _, v := range vms {
			if shot := s.of(v); shot != nil && shot.inst != nil && shot.file == "" {
				shot.file = filepath.Join(dir, v.name+".snap")
			}
		}
		for _, sub := range subs {
			if err := walk(sub, filepath.Join(dir, sub.name)); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(s.lab, "")
}

func (l *Lab) vmsAndLabs() ([]*VM, []*Lab) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.vms), slices.Clone(l.subLabs)
}

// of is the shot of a VM; nil of one that was declared in this very moment.
func (s *labShot) of(v *VM) *vmShot {
	if i := slices.IndexFunc(s.vms, func(shot *vmShot) bool { return shot.vm == v }); i >= 0 {
		return s.vms[i]
	}
	return nil
}

// describe is the lab at this moment.
func (s *labShot) describe() labState {
	paths := map[*network.Bridge]string{}
	seen := map[*Lab]bool{}
	var name func(l *Lab, path string)
	name = func(l *Lab, path string) {
		if seen[l] {
			return
		}
		seen[l] = true
		for _, b := range l.memberBridges() {
			if paths[b] == "" {
				paths[b] = path + b.Name()
			}
		}
		_, subs := l.vmsAndLabs()
		for _, sub := range subs {
			name(sub, path+sub.name+"/")
		}
	}
	name(s.lab, "")
	seen = map[*Lab]bool{}
	var walk func(l *Lab, path string) labState
	walk = func(l *Lab, path string) labState {
		out := labState{Name: l.name}
		if seen[l] {
			return out
		}
		seen[l] = true
		vms, subs := l.vmsAndLabs()
		for _, v := range vms {
			shot := s.of(v)
			if shot == nil {
				continue
			}
			state := shot.state
			if shot.inst == nil && (state == Booted || state == Paused) {
				state = Dead
			}
			out.VMs = append(out.VMs, vmState{Name: v.name, Profile: v.profile.Name, State: state, File: shot.file, Opts: v.opts})
		}
		for _, b := range l.memberBridges() {
			if paths[b] == path+b.Name() { // one of several labs is described once
				out.Bridges = append(out.Bridges, b.Save(func(o *network.Bridge) string { return paths[o] }))
			}
		}
		for _, sub := range subs {
			out.Labs = append(out.Labs, walk(sub, path+sub.name+"/"))
		}
		return out
	}
	return walk(s.lab, "")
}

func (l *Lab) memberBridges() []*network.Bridge {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.bridges)
}
