package hostload

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"sync"
	"time"
)

// Waits adds up how long threads have waited for a CPU while others ran. The zero value has measured nothing. It is
// safe for concurrent use.
type Waits struct {
	mu   sync.Mutex
	seen map[string]time.Duration // what each thread had waited in all, at the measurement before
	sum  Waited
}

// Waited is how long threads have waited, in all that was measured.
type Waited struct {
	// Longest counts, of each time between two measurements, the thread that has waited the longest in it: what waits
	// at the same time is late only once.
	Longest time.Duration
	// All counts all threads: what one does for the other, such as an answer that goes through several of them, is
	// late by the waits of each.
	All time.Duration
}

// Measure takes what the threads of a process have waited since the measurement before, and returns the sums. dir is
// the directory of the process in proc. A host that does not say it adds nothing.
func (w *Waits) Measure(root fs.FS, dir string) Waited {
	now := map[string]time.Duration{}
	if tasks, err := fs.ReadDir(root, path.Join(dir, "task")); err == nil { // else it has ended
		readWaits(root, dir, tasks, now)
	}
	return w.add(now)
}

func (w *Waits) add(now map[string]time.Duration) Waited {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := time.Duration(0)
	for thread, waited := range now {
		more := max(0, waited-w.seen[thread]) // all of it, for a new thread
		most = max(most, more)
		w.sum.All += more
	}
	w.seen = now
	w.sum.Longest += most
	return w.sum
}

// readWaits adds to the map how long, in all, each thread of a process has waited, by its directory. tasks are the
// entries of the directory task below dir.
func readWaits(root fs.FS, dir string, tasks []fs.DirEntry, to map[string]time.Duration) {
	for _, t := range tasks {
		at := path.Join(dir, "task", t.Name())
		text, err := fs.ReadFile(root, path.Join(at, "schedstat"))
		if err != nil {
			continue // it has ended
		}
		// Nanoseconds on a CPU, nanoseconds in a queue for one, turns.
		if f := bytes.Fields(text); len(f) == 3 {
			if ns, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil && ns >= 0 {
				to[at] = time.Duration(ns)
			}
		}
	}
}
