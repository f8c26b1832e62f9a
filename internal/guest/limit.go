package guest

import (
	"context"
	"sync"
	"time"

	"provium/internal/deadline"
)

// timeLimit ends an operation that the guest should have ended at its time limit.
type timeLimit struct {
	op    *call
	watch Watch
	limit time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	end     func() // stops the wait for the guest's confirmation
}

// endAfter ends an operation after its limit, unless stop is called before. One that the
// guest has begun to answer goes on.
func (op *call) endAfter(limit time.Duration) (stop func()) {
	op.client.mu.Lock()
	l := &timeLimit{op: op, watch: op.client.vigil.watch, limit: limit, end: func() {}}
	op.client.mu.Unlock()
	l.timer = time.AfterFunc(limit, l.expire)
	return l.stop
}

func (l *timeLimit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.timer.Stop()
	l.end()
}

// expire begins the wait for the guest's confirmation.
func (l *timeLimit) expire() {
	confirm := l.watch.begin(l.watch.Confirm)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped {
		l.end = confirm.After(func() { l.giveUp(confirm) })
	}
}

// giveUp is called when the guest should have confirmed the end.
func (l *timeLimit) giveUp(confirm *deadline.Deadline) {
	if l.op.answering.Load() {
		return
	}
	state := ""
	if l.watch.State != nil {
		ctx, cancel := context.WithTimeout(l.op.ctx, l.watch.Confirm/4)
		state = l.watch.State(ctx)
		cancel()
	}
	l.op.cancel(&SilentError{Limit: l.limit, Timeout: true, State: state, Charged: confirm.Charged()})
}
