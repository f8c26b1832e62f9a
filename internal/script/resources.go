package script

import (
	"context"
	"slices"
	"sync"
	"time"

	"provium/internal/lab"
	"provium/internal/script/binding"
)

// resources are what a scope has opened beside VMs and labs, by kind in the order in which
// they are closed, within a kind in order of creation.
type resources [binding.Kinds][]binding.Resource

// Own implements binding.Runner.
func (s *session) Own(kind binding.Kind, r binding.Resource) {
	if s.opened == nil {
		s.opened = map[*lab.Lab]*resources{}
	}
	all := s.opened[s.scope]
	if all == nil {
		all = &resources{}
		s.opened[s.scope] = all
	}
	all[kind] = append(all[kind], r)
}

// Disown implements binding.Runner.
func (s *session) Disown(kind binding.Kind, r binding.Resource) {
	for _, all := range s.opened {
		all[kind] = slices.DeleteFunc(all[kind], func(x binding.Resource) bool { return x == r })
	}
}

// closeTurns is how long the resources of a kind are closed one after the other:
// as long as a process has that ignores SIGTERM.
const closeTurns = 2 * time.Second

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
