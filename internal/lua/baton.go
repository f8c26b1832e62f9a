package lua

import (
	"sync"
	"sync/atomic"
)

// baton is a lock which is granted in the order of the requests.
type baton struct {
	held  atomic.Bool
	turns atomic.Uint64 // how often it was released
	mu    sync.Mutex
	queue []chan struct{}
}

// acquire waits for the baton.
func (b *baton) acquire() {
	b.mu.Lock()
	if !b.held.Load() {
		b.held.Store(true)
		b.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	b.queue = append(b.queue, turn)
	b.mu.Unlock()
	<-turn
}

// release passes the baton to the goroutine which has waited longest. It stays
// held meanwhile.
func (b *baton) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turns.Add(1)
	if len(b.queue) == 0 {
		b.held.Store(false)
		return
	}
	close(b.queue[0])
	b.queue = b.queue[1:]
}
