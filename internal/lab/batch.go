package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"provium/internal/parallel"
	"provium/internal/topology"
)

// Boot boots all VMs of the lab and its sub-labs at once, except those that are booted.
func (l *Lab) Boot(ctx context.Context) error {
	return l.batch("boot", "", topology.Booted, func(v *VM) error { return v.Boot(ctx, nil) })
}

// Shutdown shuts all VMs down at once.
func (l *Lab) Shutdown(ctx context.Context) error {
	return l.batch("shutdown", "", topology.Shutdown, func(v *VM) error { return v.Shutdown(ctx) })
}

// Pause pauses all VMs at once. The states of all are checked before one is changed.
func (l *Lab) Pause(ctx context.Context) error {
	return l.batch("pause", topology.Booted, topology.Paused, func(v *VM) error { return v.Pause(ctx) })
}

// Resume resumes all VMs at once. The states of all are checked before one is changed.
func (l *Lab) Resume(ctx context.Context) error {
	return l.batch("resume", topology.Paused, topology.Booted, func(v *VM) error { return v.Resume(ctx) })
}

// batch carries out an action on all VMs at once, except those in state done. Unless
// need is "", all others must be in that state, or nothing is changed.
func (l *Lab) batch(action string, need, done topology.State, do func(*VM) error) error {
	var todo []*VM
	var failed []string
	for _, v := range l.memberVMs() {
		state := v.State()
		if state == done {
			continue
		}
		if need != "" && state != need {
			failed = append(failed, fmt.Sprintf("`%s`: %v", v.name, v.stateError(action, need)))
		}
		todo = append(todo, v)
	}
	if len(failed) > 0 {
		return fmt.Errorf("lab `%s` %s failed, nothing was changed: %s", l.name, action, strings.Join(failed, "; "))
	}
	return l.batchError(action, todo, parallel.Each(todo, do))
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

// BatchError is returned by an action on a lab that failed for some of its VMs.
type BatchError struct {
	text string
	errs []error
}

func (e *BatchError) Error() string { return e.text }

// Unwrap returns the errors of the VMs.
func (e *BatchError) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e.errs), func(err error) bool { return err == nil })
}
