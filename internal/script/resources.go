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

// closeTurns is how long the resources of a kind are closed one after the other:
// as long as a process has that ignores SIGTERM.
const closeTurns = 2 * time.Second

// closeResources closes what a scope has opened, kind by kind and each kind in
// order of creation, without the baton. Some need long; after closeTurns the
// rest of a kind is closed side by side.
func closeResources(ctx context.Context, all *resources, warn func(resource, error)) {
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
