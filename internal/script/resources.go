package script

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
)

// resources are what a scope has opened beside VMs and labs, by kind in the
// order they are closed in, within a kind in order of creation.
type resources [resourceKinds][]resource

// Kinds of resources, in the order they are closed in.
const (
	streamResource = iota
	processResource
	callResource // system calls that nobody has awaited
	fileResource
	workerResource
	resourceKinds
)

// resource is one of them; close is silent about a guest that is gone.
type resource interface {
	fmt.Stringer
	Close(ctx context.Context) error
}

// own registers a resource with the running scope.
func (f *file) own(kind int, r resource) {
	if f.opened == nil {
		f.opened = map[*lab.Lab]*resources{}
	}
	all := f.opened[f.scope]
	if all == nil {
		all = &resources{}
		f.opened[f.scope] = all
	}
	all[kind] = append(all[kind], r)
}

// disown takes off what the test has closed itself.
func (f *file) disown(kind int, r resource) {
	for _, all := range f.opened {
		all[kind] = slices.DeleteFunc(all[kind], func(x resource) bool { return x == r })
	}
}

// closeHead is how long the close of a resource may take before that of the
// next one of its kind begins.
const closeHead = 50 * time.Millisecond

// closeResources closes what a scope has opened, kind by kind and each kind in
// order of creation, without the baton. One that needs long, as a process does
// that ignores SIGTERM, does not hold up the others of its kind.
func closeResources(ctx context.Context, all *resources, warn func(resource, error)) {
	if all == nil {
		return
	}
	for _, kind := range all {
		errs := make([]error, len(kind))
		var closing sync.WaitGroup
		for i, r := range kind {
			closed := make(chan struct{})
			closing.Go(func() {
				defer close(closed)
				errs[i] = r.Close(ctx)
			})
			head := time.NewTimer(closeHead)
			select {
			case <-closed:
			case <-head.C:
			}
			head.Stop()
		}
		closing.Wait()
		for i, err := range errs {
			if err != nil {
				warn(kind[i], err)
			}
		}
	}
}

// site is the line of a test or fixture that calls.
func (f *file) site(c *lua.Call) lab.Site {
	at := c.CallerFile()
	s := lab.Site{File: at.Source, Line: at.Line}
	if f.current != nil {
		s.Test = f.current.name
	}
	return s
}

// streamResource's Close cannot fail.
type ownedStream struct{ *lab.Stream }

// Close implements resource.
func (s ownedStream) Close(context.Context) error {
	s.Stream.Close()
	return nil
}
