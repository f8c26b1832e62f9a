// Package visit lets somebody beside a test work in a guest until something needs the guest
// for itself, such as a snapshot.
//
// It knows no guests. Start with Visits.
package visit

import (
	"context"
	"sync"
)

// Visits are those of one guest. The zero value is ready. It is safe for concurrent use.
type Visits struct {
	mu  sync.Mutex
	all map[*visit]struct{}
}

type visit struct {
	cancel context.CancelCauseFunc
	over   chan struct{}
}

// Begin begins a visit. It must end soon after the context that Begin returns; end must be
// called then.
func (v *Visits) Begin(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	one := &visit{cancel, make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all == nil {
		v.all = map[*visit]struct{}{}
	}
	v.all[one] = struct{}{}
	return ctx, func() {
		v.mu.Lock()
		delete(v.all, one)
		v.mu.Unlock()
		cancel(nil)
		close(one.over)
	}
}

// EndAll ends all visits for a reason, and waits for their ends.
func (v *Visits) EndAll(reason error) {
	v.mu.Lock()
	var ending []*visit
	for one := range v.all {
		one.cancel(reason)
		ending = append(ending, one)
	}
	v.mu.Unlock()
	for _, one := range ending {
		<-one.over
	}
}
