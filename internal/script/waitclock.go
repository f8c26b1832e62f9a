package script

import (
	"sync"
	"time"
)

// WaitClock measures the time a file spends waiting for something that counts against no
// limit, as the pool or another file's work. The pool's side calls Pause around each wait;
// time limits read it. The zero value is not ready, see [NewWaitClock]. It is safe for
// concurrent use.
type WaitClock struct {
	now func() time.Time

	mu      sync.Mutex
	waits   int           // under way
	since   time.Time     // when the first of them began
	total   time.Duration // of those that ended
	changed chan struct{} // closed when waiting begins or ends
}

// NewWaitClock makes a WaitClock on the given clock.
func NewWaitClock(now func() time.Time) *WaitClock {
	return &WaitClock{now: now, changed: make(chan struct{})}
}

// Pause begins a wait; resume, which may be called again, ends it.
func (w *WaitClock) Pause() (resume func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits++; w.waits == 1 {
		w.since = w.now()
		w.wake()
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.waits--; w.waits == 0 {
			w.total += w.now().Sub(w.since)
			w.wake()
		}
	})
}

// wake tells readers of a change. Held: w.mu.
func (w *WaitClock) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Read gives the time waited so far, whether a wait is under way, and a channel that is
// closed when that changes.
func (w *WaitClock) Read() (total time.Duration, waiting bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	total = w.total
	if w.waits > 0 {
		total += w.now().Sub(w.since)
	}
	return total, w.waits > 0, w.changed
}
