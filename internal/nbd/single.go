package nbd

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

// Requests lists them.
func Requests() []Request { return []Request{ReadRequest, WriteRequest, FlushRequest, AnyRequest} }

// Single counts a guest's requests of one kind, and has one of them fail with EIO
// before it has any effect. Sector operations are no requests.
type Single struct {
	kind Request
	n    int64 // which fails, from 1 on; 0 for none

	mu   sync.Mutex
	seen int64
	hit  string // what failed
}

// singles is where a disk keeps the one that is in force.
type singles struct{ at atomic.Pointer[Single] }

// CountRequests counts from now on, instead of what counted before, and has the
// n-th request fail; with 0 none does.
func (d *Disk) CountRequests(kind Request, n int64) *Single {
	s := &Single{kind: kind, n: n}
	d.single.at.Store(s)
	d.meddlings.Add(1)
	return s
}

// StopCounting ends what CountRequests began.
func (d *Disk) StopCounting() { d.single.at.Store(nil) }

// Seen is how many requests there were.
func (s *Single) Seen() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Hit says which request failed; "" while none has.
func (s *Single) Hit() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hit
}

// failsOnce tells whether this request is the one that fails.
func (d *Disk) failsOnce(c *command) bool {
	s := d.single.at.Load()
	if s == nil {
		return false
	}
	var kind Request
	switch c.kind {
	case cmdRead:
		kind = ReadRequest
	case cmdWrite, cmdTrim, cmdZeroes:
		kind = WriteRequest
	case cmdFlush:
		d.mu.RLock()
		guests := d.flushing == commits
		d.mu.RUnlock()
		if !guests {
			return false // the emulator's
		}
		kind = FlushRequest
	default:
		return false
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
		s.hit = fmt.Sprintf("%s of sectors %d+%d", kind, c.off/SectorSize, c.n/SectorSize)
	}
	return true
}
