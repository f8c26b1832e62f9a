package sink

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// queue holds the bytes that a slow reader has not taken yet, and writes them from a
// goroutine of its own. The bytes are shared with other readers and are not changed.
type queue struct {
	limit int // bytes that may wait

	mu      sync.Mutex
	changed *sync.Cond
	waiting net.Buffers
	size    int
	closed  bool
	err     error  // of the writer: nothing is taken any more
	taken   uint64 // writes that have ended, for progress
	done    chan struct{}
}

func newQueue(w io.Writer, limit int) *queue {
	q := &queue{limit: limit, done: make(chan struct{})}
	q.changed = sync.NewCond(&q.mu)
	go q.write(w)
	return q
}

// write writes what waits until the queue is closed and empty, or a write fails.
func (q *queue) write(w io.Writer) {
	defer close(q.done)
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.waiting) == 0 && !q.closed {
			q.changed.Wait()
		}
		if len(q.waiting) == 0 {
			return
		}
		out := q.take()
		q.mu.Unlock()
		_, err := out.WriteTo(w)
		q.mu.Lock()
		q.taken++
		q.err = err
		q.changed.Broadcast()
		if err != nil {
			return
		}
	}
}

// maxWrite is about how many bytes are written at once, so that progress is seen.
const maxWrite = 256 << 10

// take takes what is to be written next off the queue. The caller must hold q.mu.
func (q *queue) take() net.Buffers {
	n, size := 0, 0
	for n < len(q.waiting) && size < maxWrite {
		size += len(q.waiting[n])
		n++
	}
	out := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	q.size -= size
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	return out
}

// offer adds p, and reports whether there was room for it.
func (q *queue) offer(p []byte) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.err != nil:
		return false, q.err
	case q.size > 0 && q.size+len(p) > q.limit:
		return false, nil
	}
	q.add(p)
	return true, nil
}

// put adds p as soon as there is room for it.
func (q *queue) put(p []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.err == nil && q.size > 0 && q.size+len(p) > q.limit {
		q.changed.Wait()
	}
	if q.err == nil {
		q.add(p)
	}
	return q.err
}

func (q *queue) add(p []byte) {
	q.waiting = append(q.waiting, p)
	q.size += len(p)
	q.changed.Broadcast()
}

var errStuck = errors.New("the reader takes nothing")

// drain writes what waits, and returns when that is done or the reader has taken nothing
// for so long.
func (q *queue) drain(patience time.Duration) error {
	q.mu.Lock()
	q.closed = true
	q.changed.Broadcast()
	seen := q.taken
	q.mu.Unlock()
	timer := time.NewTicker(patience)
	defer timer.Stop()
	for {
		select {
		case <-q.done:
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.err
		case <-timer.C:
			q.mu.Lock()
			stuck := q.taken == seen
			seen = q.taken
			q.mu.Unlock()
			if stuck {
				return errStuck
			}
		}
	}
}
