package workers

import (
	"slices"
	"sync"
	"time"
)

// keptFor is how long a worker waits for another file. It has memory that no running file answers for.
const keptFor = 2 * time.Second

// Kept are the workers that wait for another file. The zero value has none; a nil one keeps none. It is safe for
// concurrent use.
type Kept struct {
	mu     sync.Mutex
	list   []*waiting // the one that came last at the end
	closed bool
	ending sync.WaitGroup
}

type waiting struct {
	worker *Worker
	limit  *time.Timer
}

// Take returns the worker that suits best, of those that suit alike the one that came last, nil without one. suits says
// how well one suits, and is below 0 for one that is to stay; with nil all suit alike.
func (k *Kept) Take(suits func(*Worker) int) *Worker {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		best, most := -1, 0
		for i, w := range k.list {
			how := 0
			if suits != nil {
				how = suits(w.worker)
			}
			if how >= most {
				best, most = i, how
			}
		}
		if best < 0 {
			return nil
		}
		w := k.list[best]
		k.list = slices.Delete(k.list, best, best+1)
		if w.limit.Stop() {
			return w.worker
		}
	}
}

// Put keeps a worker that has run a file to its end.
func (k *Kept) Put(w *Worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		k.end(w)
		return
	}
	kept := &waiting{worker: w}
	kept.limit = time.AfterFunc(keptFor, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if i := slices.Index(k.list, kept); i >= 0 {
			k.list = slices.Delete(k.list, i, i+1)
		}
		k.end(w)
	})
	k.list = append(k.list, kept)
}

// end ends a worker. The caller must hold k.mu.
func (k *Kept) end(w *Worker) {
	w.Kill()
	k.ending.Go(func() { w.End(false) })
}

// PIDs returns the process ids of the workers.
func (k *Kept) PIDs() (pids []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.list {
		pids = append(pids, w.worker.PID())
	}
	return pids
}

// Close ends all workers, also those that come later, and waits for that.
func (k *Kept) Close() {
	k.mu.Lock()
	k.closed = true
	for _, w := range k.list {
		if w.limit.Stop() {
			k.end(w.worker)
		}
	}
	k.list = nil
	k.mu.Unlock()
	k.ending.Wait()
}
