package lab

import (
	"context"
	"errors"
)

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
