// Package deadline has time limits that are fair to somebody who waits for a CPU of a loaded host: that time
// does not count, up to a cap on the wall clock.
//
// It does not measure who waits; Clock says it. Limits that a user has written are no business of this package:
// they are wall clock. Start with Begin.
package deadline

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Cap is how many times its limit a Deadline lasts at most, on the wall clock.
const Cap = 4

// Clock is what a Deadline is measured by.
type Clock struct {
	Now func() time.Time
	// Hindered returns how long, in all, those who are waited for have themselves waited for a CPU. Nil: never.
	Hindered func() time.Duration
}

// Deadline is a limit that has begun. It is safe for concurrent use.
type Deadline struct {
	limit time.Duration
	clock Clock
	began time.Time

	mu  sync.Mutex
	had time.Duration // of Hindered, when it began
	not time.Duration // that did not count so far; it never shrinks
}

// Begin begins a limit.
func Begin(limit time.Duration, c Clock) *Deadline {
	if c.Now == nil {
		c.Now = time.Now
	}
	d := &Deadline{limit: limit, clock: c, began: c.Now()}
	if c.Hindered != nil {
		d.had = c.Hindered()
	}
	return d
}

// measure returns the time on the wall clock since the beginning, and how much of it did not count.
func (d *Deadline) measure() (wall, not time.Duration) {
	wall = d.clock.Now().Sub(d.began)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clock.Hindered != nil {
		// Threads that end take their share of the sum with them.
		d.not = max(d.not, d.clock.Hindered()-d.had)
	}
	return wall, min(d.not, wall)
}

// Left returns how long the limit lasts at least from now on. It is over if that is not positive.
func (d *Deadline) Left() time.Duration {
	wall, not := d.measure()
	return min(d.limit-(wall-not), Cap*d.limit-wall)
}

// String returns the limit, with what was charged if that is not all.
func (d *Deadline) String() string {
	wall, not := d.measure()
	if not < d.limit/20 {
		return d.limit.String()
	}
	return fmt.Sprintf("%v (%v on the clock, of which %v do not count, since a loaded host left no CPU)", d.limit,
		wall.Round(100*time.Millisecond), not.Round(100*time.Millisecond))
}

// After calls f, on a goroutine of its own, when the limit is over, unless stop is called before.
func (d *Deadline) After(f func()) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	check := func() {
		left := d.Left()
		mu.Lock()
		defer mu.Unlock()
		switch {
		case stopped:
		case left > 0:
			timer.Reset(left)
		default:
			stopped = true
			go f()
		}
	}
	mu.Lock() // the timer may run before it is known
	defer mu.Unlock()
	timer = time.AfterFunc(d.Left(), check)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// Context returns a context that ends when the limit is over, with the cause. The caller must call cancel.
func (d *Deadline) Context(parent context.Context, cause error) (ctx context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(parent)
	stop := d.After(func() { end(cause) })
	return ctx, func() {
		stop()
		end(context.Canceled)
	}
}
