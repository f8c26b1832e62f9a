package fault

import (
	"fmt"
	"sync"
)

// CountOps lists the kinds of requests that can be counted. Among them a discard is a
// write, unlike in a Rule.
func CountOps() []Op { return []Op{Read, Write, Flush, Any} }

// Count counts a guest's requests of one kind, and lets one of them fail with EIO before
// it has any effect. Sector operations do not count.
type Count struct {
	op Op
	n  int64 // the one that fails, from 1 on; 0 for none

	mu   sync.Mutex
	seen int64
	hit  string // what failed
}

// Count starts to count requests, in place of an earlier count, and lets the n-th one
// fail; with 0 none fails.
func (f *Faults) Count(op Op, n int64) *Count {
	c := &Count{op: op, n: n}
	f.count.Store(c)
	f.changes.Add(1)
	return c
}

// StopCounting ends the count.
func (f *Faults) StopCounting() { f.count.Store(nil) }

// Seen returns how many requests were counted.
func (c *Count) Seen() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// Hit describes the request that failed; it is "" while none has.
func (c *Count) Hit() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hit
}

// Counting reports whether requests are counted.
func (f *Faults) Counting() bool { return f.count.Load() != nil }

// Note counts a request of the guest, and returns an error if it is the one that fails.
func (f *Faults) Note(op Op, off, n int64) error {
	c := f.count.Load()
	if c == nil {
		return nil
	}
	if op == Discard {
		op = Write
	}
	if c.op != Any && c.op != op {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen++
	if c.seen != c.n {
		return nil
	}
	c.hit = string(op)
	if op != Flush {
		c.hit = fmt.Sprintf("%s of sectors %d+%d", op, off/sectorSize, n/sectorSize)
	}
	return f.failed(Request{Op: op, Off: off, N: n, Guest: true}, &Error{By: "sweep"})
}
