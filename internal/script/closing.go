package script

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"provium/internal/deadline"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/script/binding"
)

// closeLimit bounds how long guests that answer may take to close what a scope has opened
// in them and, after that, how long its VMs and bridges may take.
const closeLimit = 60 * time.Second

// closeScope closes what a scope owns and no other scope holds. Errors are warnings. The
// guests of doubtful VMs are asked for a sign of life, also if nothing is open in them.
func (s *session) closeScope(what string, scope *lab.Lab, doubtful ...*lab.VM) {
	inside := reach(scope)
	opened := s.opened[scope]
	delete(s.opened, scope)
	_ = s.state.Block(func() error {
		s.closeOpened(what, opened, doubtful)
		ctx, cancel := s.closingContext(scope.AllVMs())
		defer cancel()
		for _, err := range scope.CloseScope(ctx) {
			s.warn("close of %s: %v", what, err)
		}
		return nil
	})
	held := reach(s.root)
	for o := range inside {
		if !held[o] {
			s.gone[o] = what
		}
	}
}

// closingContext returns the context of a close in which guests of those VMs do something.
func (s *session) closingContext(vms []*lab.VM) (context.Context, context.CancelFunc) {
	guests := make([]func() time.Duration, len(vms))
	for i, vm := range vms {
		guests[i] = vm.Hindered
	}
	limit := deadline.Begin(closeLimit, deadline.Clock{
		Time: s.Host.Watch.Time, Hindered: deadline.Slowest(guests)})
	return limit.Context(context.WithoutCancel(s.ctx), limit.Exceeded("closing"))
}

// closeOpened closes what a scope has opened in guests. It does not wait for guests that
// give no sign of life: they close it later, or are dead.
func (s *session) closeOpened(what string, opened *resources, doubtful []*lab.VM) {
	silent := silentVMs(s.ctx, append(opened.vms(), doubtful...))
	now, later := opened.split(func(vm handle.VM) bool { return slices.Contains(silent, vm) })
	if later != nil {
		go func() {
			ctx, cancel := s.closingContext(later.vms())
			defer cancel()
			closeResources(ctx, later, func(binding.Resource, error) {})
		}()
	}
	ctx, cancel := s.closingContext(now.vms())
	defer cancel()
	closeResources(ctx, now, func(r binding.Resource, err error) {
		var gone interface {
			error
			GuestIsGone()
		}
		if !errors.As(err, &gone) { // in this moment
			s.warn("close of %s in %s: %v", r, what, err)
		}
	})
}

// silentVMs returns those VMs whose guests run and give no sign of life.
func silentVMs(ctx context.Context, vms []*lab.VM) (silent []handle.VM) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	asked := map[*lab.VM]bool{}
	for _, vm := range vms {
		if asked[vm] {
			continue
		}
		asked[vm] = true
		asking.Go(func() {
			if vm.IsSilent(context.WithoutCancel(ctx)) {
				mu.Lock()
				defer mu.Unlock()
				silent = append(silent, vm)
			}
		})
	}
	asking.Wait()
	return silent
}

// resources are what a scope has opened beside VMs and labs, by kind in the order in which
// they are closed, within a kind in order of creation.
type resources [binding.Kinds][]binding.Resource

// closeTurns is how long the resources of a kind are closed one after the other:
// as long as a process has that ignores SIGTERM.
const closeTurns = 2 * time.Second

// vmOf returns the VM whose guest has a resource, and nil if none has it.
func vmOf(r binding.Resource) handle.VM {
	if in, ok := r.(interface{ VM() handle.VM }); ok {
		return in.VM()
	}
	return nil
}

// vms returns the VMs whose guests have the resources.
func (all *resources) vms() (vms []*lab.VM) {
	if all == nil {
		return nil
	}
	for _, kind := range all {
		for _, r := range kind {
			if vm, ok := vmOf(r).(*lab.VM); ok && !slices.Contains(vms, vm) {
				vms = append(vms, vm)
			}
		}
	}
	return vms
}

// split returns the resources that are not in guests of such VMs, and those that are, nil if
// there are none.
func (all *resources) split(isSuch func(handle.VM) bool) (others, such *resources) {
	if all == nil {
		return nil, nil
	}
	others = &resources{}
	for kind, list := range all {
		for _, r := range list {
			to := others
			if vm := vmOf(r); vm != nil && isSuch(vm) {
				if such == nil {
					such = &resources{}
				}
				to = such
			}
			to[kind] = append(to[kind], r)
		}
	}
	return others, such
}

// closeResources closes what a scope has opened, kind by kind and each kind in
// order of creation, without the baton. Some need long; after closeTurns the
// rest of a kind is closed side by side.
func closeResources(ctx context.Context, all *resources, warn func(binding.Resource, error)) {
	if all == nil {
		return
	}
	for _, kind := range all {
		errs := make([]error, len(kind))
		var closing sync.WaitGroup
		turns := time.After(closeTurns)
		over := false
		for i, r := range kind {
			closed := make(chan struct{})
			closing.Go(func() {
				defer close(closed)
				errs[i] = r.Close(ctx)
			})
			if over {
				continue
			}
			select {
			case <-closed:
			case <-turns:
				over = true
			}
		}
		closing.Wait()
		for i, err := range errs {
			if err != nil {
				warn(kind[i], err)
			}
		}
	}
}
