package fakemachine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Clock is a deadline.Time that stands still until Advance is called. Its zero value is ready. It is safe for
// concurrent use.
type Clock struct {
	mu      sync.Mutex
	passed  time.Duration
	timers  []*timer
	asked   []time.Duration // of timers so far
	changed chan struct{}   // closed when asked changes; nil: nobody waits
}

type timer struct {
	at time.Duration
	f  func()
}

// Now returns the time.
func (c *Clock) Now() time.Time { return time.Unix(0, 0).Add(c.Passed()) }

// Passed returns how far the clock was advanced.
func (c *Clock) Passed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

// Hindered returns what guest.Watch.Hindered is of a guest that gets no CPU while the clock goes on, or always one.
func (c *Clock) Hindered(starved bool) func() time.Duration {
	return func() time.Duration {
		if starved {
			return c.Passed()
		}
		return 0
	}
}

// AfterFunc calls f when the clock has advanced by d, unless stop is called before.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{c.passed + d, f}
	c.timers, c.asked = append(c.timers, t), append(c.asked, d)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		before := len(c.timers)
		c.timers = slices.DeleteFunc(c.timers, func(x *timer) bool { return x == t })
		return len(c.timers) < before
	}
}

// Asked returns how many timers of a duration were asked for so far.
func (c *Clock) Asked(d time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count(d)
}

// count is Asked for a caller that holds c.mu.
func (c *Clock) count(d time.Duration) (n int) {
	for _, asked := range c.asked {
		if asked == d {
			n++
		}
	}
	return n
}

// Await waits until n timers of a duration were asked for in all.
func (c *Clock) Await(ctx context.Context, n int, d time.Duration) error {
	for {
		c.mu.Lock()
		if c.count(d) >= n {
			c.mu.Unlock()
			return nil
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Advance lets the clock go on, and calls what is due.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed += d
	c.timers = slices.DeleteFunc(c.timers, func(t *timer) bool {
		if t.at <= c.passed {
			go t.f()
		}
		return t.at <= c.passed
	})
}
