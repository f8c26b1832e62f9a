// Package rewind keeps the states that guests had before the latest operations of a test, and
// brings them back for a person who looks at it.
//
// It knows no Lua. Start with Points.
package rewind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"provium/internal/lab"
	"provium/internal/topology"
)

const (
	// kept is how many states are kept.
	kept = 4
	// share is how much of the time the states may take, as a divisor: the rest is the test's.
	share = 2
	// free is what they may take in any case.
	free = 2 * time.Second
)

// Points are the states of the guests before the latest operations. The zero value keeps
// none. It is safe for concurrent use.
type Points struct {
	mu      sync.Mutex
	on      bool
	taking  bool
	began   time.Time
	spent   time.Duration
	all     []point // oldest first
	used    []point // that guests were brought back to
	skipped error   // why the latest operation has none; nil if it has one
	later   int     // operations since the last point, without one
}

// point is the state before an operation.
type point struct {
	before   string // the operation
	scope    *lab.Lab
	snapshot *lab.LabSnapshot
}

// Start begins to keep states. It reports whether that was not so before.
func (p *Points) Start() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		return false
	}
	p.on, p.began, p.spent, p.later, p.skipped = true, time.Now(), 0, 0, nil
	return true
}

// Stop ends that, and removes the states.
func (p *Points) Stop() error {
	p.mu.Lock()
	all := slices.Concat(p.all, p.used)
	p.on, p.all, p.used = false, nil, nil
	p.mu.Unlock()
	var errs []error
	for _, at := range all {
		errs = append(errs, at.snapshot.Delete())
	}
	return errors.Join(errs...)
}

// IsOn reports whether states are kept.
func (p *Points) IsOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on
}

var (
	errNoGuest  = errors.New("no guest ran")
	errCost     = errors.New("keeping them took half of the time")
	errParallel = errors.New("another one was being kept")
)

// Keep keeps the state of the guests in scope before an operation, where that can be.
func (p *Points) Keep(ctx context.Context, scope *lab.Lab, before string) {
	p.mu.Lock()
	if !p.on {
		p.mu.Unlock()
		return
	}
	begun := time.Now()
	var err error
	switch {
	case p.taking:
		err = errParallel
	case !slices.ContainsFunc(scope.TargetVMs(), isRunning):
		err = errNoGuest
	case p.spent > free && p.spent*share > begun.Sub(p.began):
		err = errCost
	}
	if err != nil {
		p.skip(err)
		p.mu.Unlock()
		return
	}
	p.taking = true
	p.mu.Unlock()

	s, err := scope.Snapshot(ctx, "")

	p.mu.Lock()
	defer p.mu.Unlock()
	p.taking = false
	p.spent += time.Since(begun)
	if err != nil {
		p.skip(err)
		return
	}
	p.skipped, p.later = nil, 0
	p.all = append(p.all, point{before, scope, s})
	if len(p.all) > kept {
		_ = p.all[0].snapshot.Delete() // else it goes with the run's directory
		p.all = slices.Delete(p.all, 0, 1)
	}
}

// skip notes that an operation has no point. The caller must hold p.mu.
func (p *Points) skip(err error) {
	p.skipped = err
	p.later++
}

func isRunning(vm *lab.VM) bool {
	state := vm.State()
	return state == topology.Booted || state == topology.Paused
}

// Back brings back the state before the latest operation that has one, and forgets that
// state. It returns which that is, for people.
func (p *Points) Back(ctx context.Context) (text string, err error) {
	p.mu.Lock()
	if len(p.all) == 0 {
		defer p.mu.Unlock()
		why := ""
		if p.skipped != nil {
			why = ": " + p.skipped.Error()
		}
		return "", fmt.Errorf("there is no state to go back to%s", why)
	}
	at := p.all[len(p.all)-1]
	p.all = p.all[:len(p.all)-1]
	p.used = append(p.used, at)
	later, skipped := p.later, p.skipped
	p.later, p.skipped = 0, nil
	p.mu.Unlock()
	if err := at.scope.Restore(ctx, at.snapshot.Path()); err != nil {
		return "", fmt.Errorf("rewind: %w", err)
	}
	text = "rewound to the state before " + at.before
	if later > 0 {
		text += fmt.Sprintf("\n%d later operation(s) have none of their own: %v", later, skipped)
	}
	return text, nil
}
