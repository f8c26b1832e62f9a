package handle

import (
	"errors"
	"sync"
	"sync/atomic"

	"provium/internal/guest"
)

// Epoch is the time from a boot, reset or restore of a guest to the next one. A handle
// of one epoch is of no use in another, unless that one was restored from a snapshot
// in which the object was. The zero value is the epoch of a boot or reset. It is safe
// for concurrent use.
type Epoch struct {
	from Mark          // of the snapshot it was restored from
	last atomic.Uint64 // the highest handle created

	mu    sync.Mutex
	lives map[uint64]uint64 // by executor: the life that answered last, 0 once it has died
}

// Mark says what an agent held when a snapshot was taken. The zero Mark says nothing:
// another process took the snapshot.
type Mark struct {
	epoch *Epoch
	last  uint64 // the highest handle there was
}

// Mark returns what the agent holds now.
func (e *Epoch) Mark() Mark { return Mark{e, e.last.Load()} }

// Restore returns the epoch of a guest that is restored from the snapshot.
func (m Mark) Restore() *Epoch {
	e := &Epoch{from: m}
	e.last.Store(m.last)
	return e
}

// created records that the agent has created a handle.
func (e *Epoch) created(handle uint64) {
	for {
		last := e.last.Load()
		if handle <= last || e.last.CompareAndSwap(last, handle) {
			return
		}
	}
}

// has reports whether the agent still has an object that was created in another epoch.
func (e *Epoch) has(of *Epoch, handle uint64) bool {
	for at := e; at != nil; at = at.from.epoch {
		if at == of {
			return true
		}
		if handle > at.from.last {
			return false
		}
	}
	return false
}

// recordLife records which life of an executor answered a call, or that it has died.
func (e *Epoch) recordLife(s *guest.Syscall, r *guest.SyscallResult, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lives == nil {
		e.lives = map[uint64]uint64{}
	}
	var failed *guest.OpError
	switch {
	case err == nil:
		e.lives[s.Executor] = r.Life
	case errors.As(err, &failed) && failed.Errno == 0 && (s.Life == 0 || s.Life == e.lives[s.Executor]):
		e.lives[s.Executor] = 0
	}
}

// mayHaveLife reports whether an executor still has this life, as far as is known.
func (e *Epoch) mayHaveLife(executor, life uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, known := e.lives[executor]
	return !known || now == life
}
