package blockdev

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Request is a kind of request of guests.
type Request string

// Kinds of requests; AnyRequest is all of them.
const (
	ReadRequest  Request = "read"
	WriteRequest Request = "write" // also of zeroes, and discards
	FlushRequest Request = "flush"
	AnyRequest   Request = "any"
)

// Requests lists the kinds that CountRequests can count.
func Requests() []Request { return []Request{ReadRequest, WriteRequest, FlushRequest, AnyRequest} }

// Single counts a guest's requests of one kind, and makes one of them fail with EIO
// before it has any effect. Sector operations do not count.
type Single struct {
	kind Request
	n    int64 // the one that fails, from 1 on; 0 for none

	mu   sync.Mutex
	seen int64
	hit  string // what failed
}

// singles has the Single in force.
type singles struct{ at atomic.Pointer[Single] }

// CountRequests starts to count requests, in place of an earlier count, and makes the
// n-th one fail; with 0 none fails.
func (d *Disk) CountRequests(kind Request, n int64) *Single {
	s := &Single{kind: kind, n: n}
	d.single.at.Store(s)
	d.meddlings.Add(1)
	return s
}

// StopCounting ends the count of CountRequests.
func (d *Disk) StopCounting() { d.single.at.Store(nil) }

// Seen returns how many requests were counted.
func (s *Single) Seen() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Hit describes the request that failed; it is "" while none has.
func (s *Single) Hit() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hit
}

// failsOnce counts a request, and reports whether it is the one that fails.
func (d *Disk) failsOnce(kind Request, off, n int64) bool {
	s := d.single.at.Load()
	if s == nil {
		return false
	}
	if kind == FlushRequest {
		d.mu.RLock()
		guests := d.flushing == commits
		d.mu.RUnlock()
		if !guests {
			return false // the emulator's
		}
	}
	if s.kind != AnyRequest && s.kind != kind {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	if s.seen != s.n {
		return false
	}
	s.hit = string(kind)
	if kind != FlushRequest {
		s.hit = fmt.Sprintf("%s of sectors %d+%d", kind, off/SectorSize, n/SectorSize)
	}
	return true
}
