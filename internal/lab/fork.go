package lab

import (
	"context"
	"errors"
	"fmt"

	"provium/internal/admission"
	"provium/internal/network"
	"provium/internal/parallel"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// Fork creates n running copies of a running or paused VM in scope. They have new
// names, CIDs, MACs and addresses, are on the same bridges, and share memory and disks
// copy-on-write. Either all copies are created or none.
func (v *VM) Fork(ctx context.Context, scope *Lab, n int) ([]*VM, error) {
	s, err := v.Snapshot(ctx, "")
	if err != nil {
		return nil, topology.ForkRefusal(err)
	}
	forks, err := v.copies(ctx, scope, n, s.path)
	if err := errors.Join(err, s.Delete()); err != nil { // guests keep what they run from
		for _, f := range forks {
			_ = scope.Remove(f) // the scope still closes it
		}
		return nil, fmt.Errorf("vm `%s` fork: %w", v.name, err)
	}
	return forks, nil
}

// copies declares the forks, attaches them to the bridges, and restores all at once.
func (v *VM) copies(ctx context.Context, scope *Lab, n int, path string) (forks []*VM, err error) {
	for range n {
		name := func(n int) string { return topology.Numbered(v.name, "-", n) }
		fork, err := scope.declareFree(name, v.profile, v.opts)
		if err != nil {
			return forks, err
		}
		forks = append(forks, fork)
		if err := v.host.network().AttachLike(v, fork); err != nil {
			return forks, err
		}
	}
	release, err := v.admitCopies(ctx, scope, forks, path)
	if err != nil {
		return forks, err
	}
	errs := parallel.Each(forks, func(fork *VM) error {
		err := fork.restore(ctx, path, release[fork])
		if err != nil {
			release[fork]()
		}
		return err
	})
	if err := errors.Join(errs...); err != nil {
		return forks, err
	}
	copies := make([]network.Station, n)
	for i, fork := range forks {
		copies[i] = fork
	}
	return forks, v.host.network().Announce(ctx, v, copies)
}

// admitCopies acquires the shares of copies of a snapshot's guest.
func (v *VM) admitCopies(ctx context.Context, scope *Lab, forks []*VM, path string) (map[*VM]func(), error) {
	r, err := snapshot.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	shares := map[*VM]admission.Share{}
	for _, fork := range forks {
		shares[fork] = restoreShare(r)
	}
	return scope.admit(ctx, forks, shares)
}

// Fork creates a running copy of the lab as a new sub-lab of scope. Its VMs have the
// same names, go on from this moment, and share memory and disks copy-on-write. Its
// bridges are new ones, on which the copies have new MACs and addresses.
func (l *Lab) Fork(ctx context.Context, scope *Lab) (*Lab, error) {
	s, err := l.Snapshot(ctx, "")
	if err != nil {
		return nil, err
	}
	fork, err := scope.Lab("")
	if err == nil {
		err = fork.restore(ctx, s.path, true)
	}
	if err = errors.Join(err, s.Delete()); err != nil { // guests keep what they run from
		if fork != nil {
			_ = scope.Remove(fork) // the scope still closes it
		}
		return nil, err
	}
	return fork, nil
}
