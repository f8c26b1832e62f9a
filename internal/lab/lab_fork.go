package lab

import (
	"context"
	"errors"
)

// Fork makes a running copy of the lab: a new sub-lab of scope with VMs of the same
// names, which go on from this moment, sharing memory and disks copy-on-write. It
// has bridges of its own, on which the copies have MACs and addresses of their own.
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
