package guest

import (
	"context"
	"sync"
	"time"
)

// maxHindrance is how many times Watch.Confirm an operation may last longer than that since
// the guest had to wait for a CPU of the host.
const maxHindrance = 5

// timeLimit ends an operation that the guest should have ended at its time limit.
type timeLimit struct {
	op    *call
	watch Watch
	limit time.Duration

	mu    sync.Mutex // held by expire
	timer *time.Timer
	over  bool          // the limit has passed
	had   time.Duration // of Watch.Hindered, when it did
	added time.Duration // to Watch.Confirm since then
}

// endAfter ends an operation after its limit. One that the guest has begun to answer goes
// on.
func (op *call) endAfter(limit time.Duration) *time.Timer {
	op.client.mu.Lock()
	l := &timeLimit{op: op, watch: op.client.vigil.watch, limit: limit}
	op.client.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(limit, l.expire)
	return l.timer
}

// hindered returns how long the guest's threads have waited for a CPU since the limit.
func (l *timeLimit) hindered() time.Duration {
	if l.watch.Hindered == nil {
		return 0
	}
	return l.watch.Hindered() - l.had
}

// expire is called at the limit, and when the guest should have confirmed the end.
func (l *timeLimit) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.over, l.had = true, l.hindered()
		l.timer.Reset(l.watch.Confirm)
		return
	}
	if l.op.answering.Load() {
		return
	}
	more := min(l.hindered(), maxHindrance*l.watch.Confirm) - l.added
	if more >= l.watch.Confirm/8 {
		l.added += more
		l.timer.Reset(more)
		return
	}
	state := ""
	if l.watch.State != nil {
		ctx, cancel := context.WithTimeout(l.op.ctx, l.watch.Confirm/4)
		state = l.watch.State(ctx)
		cancel()
	}
	l.op.cancel(&SilentError{Limit: l.limit, Timeout: true, State: state})
}
