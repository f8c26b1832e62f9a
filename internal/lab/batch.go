package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"provium/internal/admission"
	"provium/internal/parallel"
	"provium/internal/topology"
)

// Boot boots all VMs of the lab and its sub-labs at once, except those that are booted.
func (l *Lab) Boot(ctx context.Context) error {
	todo, err := l.todo("boot", l.TargetVMs(), "", topology.Booted)
	if err != nil {
		return err
	}
	shares := map[*VM]admission.Share{}
	for _, v := range todo {
		if s := v.State(); s == topology.Created || s == topology.Shutdown { // the others cannot boot
			shares[v] = v.bootShare(v.opts.Merge(nil))
		}
	}
	release, err := l.admit(ctx, todo, shares)
	if err != nil {
		return fmt.Errorf("lab `%s` boot: %w", l.name, err)
	}
	return l.batchError("boot", todo, parallel.Each(todo, func(v *VM) error {
		err := v.boot(ctx, nil, release[v])
		if err != nil && release[v] != nil {
			release[v]()
		}
		return err
	}))
}

// admit acquires the shares of those VMs of the lab that have one, all at once.
func (l *Lab) admit(ctx context.Context, vms []*VM, shares map[*VM]admission.Share) (
	release map[*VM]func(), err error) {
	var admitted []*VM
	var names []string
	var list []admission.Share
	for _, v := range vms {
		if s, ok := shares[v]; ok {
			admitted, names, list = append(admitted, v), append(names, "`"+v.name+"`"), append(list, s)
		}
	}
	what := "lab `" + l.name + "` (vms " + strings.Join(names, ", ") + ")"
	if len(names) == 1 {
		what = "vm " + names[0]
	}
	releases, err := l.host.gate().Acquire(ctx, what, list...)
	if err != nil {
		return nil, err
	}
	release = map[*VM]func(){}
	for i, v := range admitted {
		release[v] = releases[i]
	}
	return release, nil
}

// Shutdown shuts all VMs down at once; through the lab of a test, only those of the test.
func (l *Lab) Shutdown(ctx context.Context) error {
	vms := l.TargetVMs()
	if l.parent != nil {
		others := l.parent.TargetVMs()
		vms = slices.DeleteFunc(vms, func(v *VM) bool { return slices.Contains(others, v) })
		if len(vms) == 0 {
			return fmt.Errorf("lab `%s` shutdown: the test has no VM (those of file scope are not shut down "+
				"through it)", l.name)
		}
	}
	return l.batch("shutdown", vms, "", topology.Shutdown, func(v *VM) error { return v.Shutdown(ctx) })
}

// Pause pauses all VMs at once. The states of all are checked before one is changed.
func (l *Lab) Pause(ctx context.Context) error {
	return l.batch("pause", l.TargetVMs(), topology.Booted, topology.Paused, func(v *VM) error { return v.Pause(ctx) })
}

// Resume resumes all VMs at once. The states of all are checked before one is changed.
func (l *Lab) Resume(ctx context.Context) error {
	return l.batch("resume", l.TargetVMs(), topology.Paused, topology.Booted,
		func(v *VM) error { return v.Resume(ctx) })
}

// batch carries out an action on all vms at once, except those in state done. Unless
// need is "", all others must be in that state, or nothing is changed.
func (l *Lab) batch(action string, vms []*VM, need, done topology.State, do func(*VM) error) error {
	todo, err := l.todo(action, vms, need, done)
	if err != nil {
		return err
	}
	return l.batchError(action, todo, parallel.Each(todo, do))
}

// todo returns those of vms that are not in state done. Unless need is "", all of them must
// be in that state.
func (l *Lab) todo(action string, vms []*VM, need, done topology.State) (todo []*VM, err error) {
	if len(vms) == 0 {
		return nil, l.emptyError(action)
	}
	var failed []string
	for _, v := range vms {
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
		return nil, fmt.Errorf("lab `%s` %s failed, nothing was changed: %s", l.name, action,
			strings.Join(failed, "; "))
	}
	return todo, nil
}

// CheckTargets returns an error when an action on the lab would act on nothing.
func (l *Lab) CheckTargets(action string) error {
	if _, bridges, _ := l.targets(); len(bridges) == 0 && len(l.TargetVMs()) == 0 {
		return l.emptyError(action)
	}
	return nil
}

// emptyError is returned by an action that there is no VM for.
func (l *Lab) emptyError(action string) error {
	return fmt.Errorf("lab `%s` %s: there is no VM in it", l.name, action)
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
	return &topology.BatchError{Text: text, Errs: errs}
}
