package script

import (
	"context"
	"fmt"
	"time"

	"provium/internal/lab"
	"provium/internal/script/binding"
)

// closeLimit bounds how long the end of a scope may take.
const closeLimit = 60 * time.Second

// closeScope closes what a scope owns and no other scope holds. Errors are warnings.
func (s *session) closeScope(what string, scope *lab.Lab) {
	inside := reach(scope)
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(s.ctx), closeLimit,
		fmt.Errorf("closing took longer than %v", closeLimit))
	defer cancel()
	opened := s.opened[scope]
	delete(s.opened, scope)
	_ = s.state.Block(func() error {
		closeResources(ctx, opened, func(r binding.Resource, err error) {
			s.warn("close of %s in %s: %v", r, what, err)
		})
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

// reach lists the VMs, bridges and labs that a scope owns or holds, itself included.
func reach(scope *lab.Lab) map[any]bool {
	seen := map[any]bool{}
	var walk func(l *lab.Lab)
	walk = func(l *lab.Lab) {
		if seen[l] {
			return
		}
		seen[l] = true
		for _, m := range l.Members() {
			if vm, ok := l.VM(m.Name); ok && m.Kind == "vm" {
				seen[vm] = true
			}
			if sub, ok := l.LookupLab(m.Name); ok && m.Kind == "sub_lab" {
				walk(sub)
			}
		}
		for _, vm := range l.AllVMs() {
			seen[vm] = true
		}
		for _, b := range l.Bridges() {
			seen[b] = true
		}
	}
	walk(scope)
	return seen
}
