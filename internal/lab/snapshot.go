package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"provium/internal/disk"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// Snapshot is a snapshot of one VM: the file at a path.
type Snapshot struct {
	host        *Host
	path        string
	vm, profile string
	paused      time.Duration
	base        string
}

// Base returns the path of the full snapshot that a diff lies over, and "" for a full
// one.
func (s *Snapshot) Base() string { return s.base }

// Paused is how long the guest stood still for it.
func (s *Snapshot) Paused() time.Duration { return s.paused }

// VM is the name that the VM had, Profile its profile's.
func (s *Snapshot) VM() string { return s.vm }

// Profile is the name of the VM's profile.
func (s *Snapshot) Profile() string { return s.profile }

// Path is the one file that holds everything.
func (s *Snapshot) Path() string { return s.path }

// Size is what it takes on disk, in bytes, holes not counted; 0 when it is gone.
func (s *Snapshot) Size() (int64, error) { return snapshot.DiskSize(s.path) }

// Delete removes the file. VMs that were restored from it are not concerned.
func (s *Snapshot) Delete() error {
	if id, err := snapshot.Identify(s.path); err == nil {
		s.host.prewarmed.Drop(id) // they keep the file's space on the disk
		s.host.Templates.Drop(id)
		if err := s.host.snapshots.Forget(id); err != nil {
			return fmt.Errorf("snapshot delete: %w", err)
		}
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot delete: %w", err)
	}
	return nil
}

// freeze keeps operations on the VMs from starting until thaw. It fails when one is in
// flight or a stream is open. what is the calling method, for the error.
func freeze(what string, vms []*VM) (thaw func(), err error) {
	var live []string
	for _, v := range vms {
		if _, _, err := v.inState("snapshot", v.State(), v.State()); err != nil {
			return nil, err
		}
		if v.IsAgentless() {
			return nil, &topology.BusyError{Call: what, Why: fmt.Sprintf(
				"vm `%s` has no agent yet, since its boot did not wait for one, and a restored guest needs it", v.name)}
		}
		for _, s := range v.Streams() {
			if text := "\n  - open stream " + s.String(); !slices.Contains(live, text) {
				live = append(live, text)
			}
		}
	}
	if len(live) > 0 {
		return nil, &topology.BusyError{Call: what, Why: fmt.Sprintf(
			"file `%s` has live streams:%s\nclose them first", vms[0].host.File, strings.Join(live, ""))}
	}
	frozen := make(chan struct{})
	thawAll := func(vms []*VM) {
		for _, v := range vms {
			v.mu.Lock()
			v.frozen = nil
			v.mu.Unlock()
		}
		close(frozen)
	}
	for i, v := range vms {
		now := v.lastEpoch()
		v.mu.Lock()
		names := slices.Sorted(maps.Keys(v.inFlight))
		if v.opened.HasCalls(now) {
			names = append(names, "syscall_async (not awaited)")
		}
		if len(names) > 0 {
			v.mu.Unlock()
			thawAll(vms[:i])
			return nil, &topology.BusyError{Call: what, Why: fmt.Sprintf(
				"vm `%s` has operations in flight:\n  - %s\nwait for their end first",
				v.name, strings.Join(names, "\n  - "))}
		}
		v.frozen = frozen
		v.mu.Unlock()
	}
	for _, v := range vms {
		v.visits.EndAll(errVisitOver)
	}
	return func() { thawAll(vms) }, nil
}

// Snapshot saves the VM, which then continues, to a file at path; "" is a file in the
// temporary directory of the run.
func (v *VM) Snapshot(ctx context.Context, path string) (*Snapshot, error) {
	return v.snapshot(ctx, path, func(string) bool { return false })
}

// SnapshotDiff is Snapshot of a path. The file is a diff if the guest was restored from
// a file that lasts reports to stay.
func (v *VM) SnapshotDiff(ctx context.Context, path string, lasts func(path string) bool) (*Snapshot, error) {
	return v.snapshot(ctx, path, lasts)
}

func (v *VM) snapshot(ctx context.Context, path string, lasts func(path string) bool) (*Snapshot, error) {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	state, inst, err := v.inState("snapshot", topology.Booted, topology.Booted, topology.Paused)
	if err != nil {
		return nil, err
	}
	if inst.IsSuspended() {
		return nil, &topology.SuspendedError{VM: v.name, Op: "snapshot"}
	}
	thaw, err := freeze("vm:snapshot()", []*VM{v})
	if err != nil {
		return nil, err
	}
	defer thaw()
	token := "" // the file is complete in itself
	if path == "" {
		path, token = v.host.snapshotPath(), rand.Text()
	}
	w, err := snapshot.Create(path, inst.plan.cfg.Memory)
	if err != nil {
		return nil, fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	diff := inst.plan.restored && (token != "" || lasts(inst.plan.base.Path))
	how := saving{running: state == topology.Booted, diff: diff, disks: disk.Form{Token: token}}
	taken, err := inst.save(ctx, w, how)
	if err != nil {
		w.Abort()
		return nil, fmt.Errorf("vm `%s` snapshot: %w", v.name, err)
	}
	if err := inst.record(taken); err != nil {
		return nil, fmt.Errorf("vm `%s` snapshot: %w", v.name, err)
	}
	return &Snapshot{v.host, path, v.name, v.profile.Name, inst.stood, taken.base}, nil
}
