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

// maxStep is how often, at least, a limit is looked at again whose time on the clock is over.
const maxStep = 250 * time.Millisecond

// Time is a wall clock with timers.
type Time interface {
	Now() time.Time
	// AfterFunc calls f, on a goroutine of its own, after d, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// Clock is what a Deadline is measured by.
type Clock struct {
	Time Time // nil: the host's
	// Hindered returns how long, in all, those who are waited for have themselves waited for a CPU. Nil: never.
	Hindered func() time.Duration
}

// hostTime is the host's clock.
type hostTime struct{}

func (hostTime) Now() time.Time { return time.Now() }

func (hostTime) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}

// Slowest returns what Clock.Hindered is of several who are waited for side by side, from now on.
func Slowest(all []func() time.Duration) func() time.Duration {
	had := make([]time.Duration, len(all))
	for i, hindered := range all {
		had[i] = hindered()
	}
	return func() (most time.Duration) {
		for i, hindered := range all {
			most = max(most, hindered()-had[i])
		}
		return most
	}
}

// Deadline is a limit that has begun. It is safe for concurrent use.
type Deadline struct {
	limit time.Duration
	clock Clock
	began time.Time

	mu   sync.Mutex
	had  time.Duration // of Hindered, when it began, or was held last
	not  time.Duration // that did not count so far; it never shrinks
	held time.Time     // since when it is held; zero: it is not
	rest time.Duration // how long it was held before
	text string        // of Charged, once it is over
	over bool
}

// Begin begins a limit.
func Begin(limit time.Duration, c Clock) *Deadline {
	if c.Time == nil {
		c.Time = hostTime{}
	}
	d := &Deadline{limit: limit, clock: c, began: c.Time.Now()}
	if c.Hindered != nil {
		d.had = c.Hindered()
	}
	return d
}

// measure returns the time on the wall clock since the beginning, and how much of it did not count. The caller
// must hold d.mu.
func (d *Deadline) measure() (wall, not time.Duration) {
	now := d.clock.Time.Now()
	if !d.held.IsZero() {
		now = d.held
	} else if d.clock.Hindered != nil {
		has := d.clock.Hindered()
		d.not += max(0, has-d.had) // whoever has ended takes his share of the sum with him
		d.had = max(d.had, has)
	}
	wall = now.Sub(d.began) - d.rest
	return wall, min(d.not, wall)
}

// Hold pauses the limit, or continues it. Time in which it is paused does not count.
func (d *Deadline) Hold(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case on == !d.held.IsZero():
	case on:
		d.measure()
		d.held = d.clock.Time.Now()
	default:
		d.rest += d.clock.Time.Now().Sub(d.held)
		d.held = time.Time{}
		if d.clock.Hindered != nil {
			d.had = max(d.had, d.clock.Hindered())
		}
	}
}

// Left returns how long the limit lasts at least from now on. It is over if that is not positive.
func (d *Deadline) Left() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left()
}

// left is Left for a caller that holds d.mu.
func (d *Deadline) left() time.Duration {
	wall, not := d.measure()
	return min(d.limit-(wall-not), Cap*d.limit-wall)
}

// Charged returns what was charged, behind a space and in parentheses, or "" if that is all.
func (d *Deadline) Charged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return d.text
	}
	return Charged(d.measure())
}

// String returns the limit, with what was charged if that is not all.
func (d *Deadline) String() string { return d.limit.String() + d.Charged() }

// Charged says that of a time on the wall clock a part did not count, behind a space and in parentheses. It
// returns "" if that is next to nothing.
func Charged(wall, not time.Duration) string {
	if not < wall/20 || not <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%v on the clock, of which %v do not count, since a loaded host left no CPU)",
		wall.Round(100*time.Millisecond), not.Round(100*time.Millisecond))
}

// again returns after how long the limit is to be looked at, and whether it is over.
func (d *Deadline) again() (after time.Duration, over bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.left()
	if left > 0 || !d.held.IsZero() {
		return max(left, min(d.limit/20, maxStep)), false
	}
	if !d.over {
		d.over, d.text = true, Charged(d.measure())
	}
	return 0, true
}

// After calls f, on a goroutine of its own, when the limit is over, unless stop is called before.
func (d *Deadline) After(f func()) (stop func()) {
	var mu sync.Mutex
	var stopTimer func() bool
	stopped := false
	var check func()
	check = func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		after, over := d.again()
		if !over {
			stopTimer = d.clock.Time.AfterFunc(after, check)
			return
		}
		stopped = true
		go f()
	}
	mu.Lock() // the timer may run before it is known
	defer mu.Unlock()
	stopTimer = d.clock.Time.AfterFunc(max(0, d.Left()), check)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		stopTimer()
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

// Exceeded returns the error that what a limit is for has taken longer than that.
func (d *Deadline) Exceeded(what string) error { return &exceededError{what, d} }

type exceededError struct {
	what  string
	limit *Deadline
}

func (e *exceededError) Error() string { return fmt.Sprintf("%s took longer than %v", e.what, e.limit) }
