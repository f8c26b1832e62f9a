package script

import (
	"context"
	"fmt"

	"provium/internal/lab"
	"provium/internal/script/value"
)

// close ends a scope: what it owns and no other scope holds. Trouble in it is a warning.
func (f *file) close(what string, scope *lab.Lab) {
	inside := reach(scope)
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(f.ctx), closeLimit,
		fmt.Errorf("closing took longer than %v", closeLimit))
	defer cancel()
	opened := f.opened[scope]
	delete(f.opened, scope)
	_ = f.state.Block(func() error {
		closeResources(ctx, opened, func(r resource, err error) {
			fmt.Fprintf(f.cfg.Stderr, "provium: %s: close of %s in %s: %v\n", f.cfg.Path, r, what, err)
		})
		for _, err := range scope.CloseScope(ctx) {
			fmt.Fprintf(f.cfg.Stderr, "provium: %s: close of %s: %v\n", f.cfg.Path, what, err)
		}
		return nil
	})
	held := reach(f.root)
	for o := range inside {
		if !held[o] {
			f.gone[o] = what
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

// ended is the error of an operation on a handle whose scope has ended, nil while it lasts.
func (f *file) ended(a value.Args, kind, name string, object any) error {
	if scope, gone := f.gone[object]; gone {
		return a.Errorf("%s `%s` belongs to %s, which has ended", kind, name, scope)
	}
	return nil
}
