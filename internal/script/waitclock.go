package script

import (
	"sync"
	"time"
)

// waitClock measures the time a file spends waiting for something that counts against no
// limit, as the pool or another file's work. pause stands around each wait; time
// limits read it. The zero value is not ready, see newWaitClock. It is safe for
// concurrent use.
type waitClock struct {
	now func() time.Time

	mu      sync.Mutex
	waits   int           // under way
	since   time.Time     // when the first of them began
	total   time.Duration // of those that ended
	changed chan struct{} // closed when waiting begins or ends
}

// newWaitClock makes a waitClock on the given clock.
func newWaitClock(now func() time.Time) *waitClock {
	return &waitClock{now: now, changed: make(chan struct{})}
}

// pause begins a wait; resume, which may be called again, ends it.
func (w *waitClock) pause() (resume func()) {
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

// wake wakes the readers. The caller must hold w.mu.
func (w *waitClock) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// read returns the time waited so far, whether a wait is under way, and a channel that is
// closed when that changes.
func (w *waitClock) read() (total time.Duration, waiting bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	total = w.total
	if w.waits > 0 {
		total += w.now().Sub(w.since)
	}
	return total, w.waits > 0, w.changed
}
