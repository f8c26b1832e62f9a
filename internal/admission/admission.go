// Package admission asks a run's pool for the shares of guests, before they start.
//
// It knows neither guests nor budgets: labs say what they are about to run, and the pool
// (package sched, behind the runner's pipe) decides.
//
// Start reading at Gate.
package admission

import (
	"context"
	"slices"
)

// Share is what one running guest takes of the pool.
type Share struct {
	Memory int64 // bytes
	CPUs   int
	Cold   bool // the guest boots, and is not restored or served from the boot cache
}

// Pool is the admission control of a run. It is safe for concurrent use.
type Pool interface {
	// Acquire takes the shares of running VMs, all at once, and returns what releases
	// each, which may be called more than once. what names them in messages. It waits
	// while the pool is full, and fails when the request can never be met.
	Acquire(ctx context.Context, what string, shares []Share) (release []func(), err error)
	// Claim makes the one claim of the file; zero means not given.
	Claim(ctx context.Context, memory int64, cpus int) error
}

// Error is returned for guests that the pool refuses. They were not started.
type Error struct{ Err error }

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the pool's error.
func (e *Error) Unwrap() error { return e.Err }

// Gate is the way to the pool.
type Gate struct {
	Pool Pool // nil: no limit
	// Wait is called before the pool is asked, and what it returns when it has answered.
	Wait func() (done func())
}

// Acquire acquires the shares of guests, all at once, and returns what releases each. what
// names the guests in messages.
func (g Gate) Acquire(ctx context.Context, what string, shares ...Share) (release []func(), err error) {
	if g.Pool == nil || len(shares) == 0 {
		return slices.Repeat([]func(){func() {}}, len(shares)), nil
	}
	done := g.Wait()
	defer done()
	release, err = g.Pool.Acquire(ctx, what, shares)
	if err != nil && ctx.Err() == nil {
		err = &Error{err}
	}
	return release, err
}

// Claim makes the one claim of the file; zero means not given.
func (g Gate) Claim(ctx context.Context, memory int64, cpus int) error {
	if g.Pool == nil {
		return nil
	}
	done := g.Wait()
	defer done()
	return g.Pool.Claim(ctx, memory, cpus)
}
