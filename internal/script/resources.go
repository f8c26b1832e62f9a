package script

import (
	"context"
	"sync"
	"time"

	"provium/internal/script/binding"
)

// resources are what a scope has opened beside VMs and labs, by kind in the order in which
// they are closed, within a kind in order of creation.
type resources [binding.Kinds][]binding.Resource

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
