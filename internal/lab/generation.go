package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"provium/internal/guest"
	"provium/internal/snapshot"
)

// generation is the life of what the agent holds: from a boot, reset or
// restore to the next. An object of one is worth nothing in another, unless
// that one was restored from a snapshot of it.
type generation struct {
	base *generation   // what it was restored from
	upTo uint64        // the highest handle there was at the snapshot
	last atomic.Uint64 // the highest handle given

	mu        sync.Mutex
	executors map[uint64]uint64 // by handle: the life that answered last, 0 once it has died
}

// noteLife remembers which executor answered a call, or that it has died.
func (g *generation) noteLife(s *Syscall, r *SyscallResult, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.executors == nil {
		g.executors = map[uint64]uint64{}
	}
	var failed *OpError
	switch {
	case err == nil:
		g.executors[s.Executor] = r.Life
	case errors.As(err, &failed) && failed.Errno == 0 && (s.Life == 0 || s.Life == g.executors[s.Executor]):
		g.executors[s.Executor] = 0
	}
}

// lives tells whether an executor still has this life, as far as is known.
func (g *generation) lives(executor, life uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, known := g.executors[executor]
	return !known || now == life
}

// note remembers that a handle was given.
func (g *generation) note(handle uint64) {
	for {
		last := g.last.Load()
		if handle <= last || g.last.CompareAndSwap(last, handle) {
			return
		}
	}
}

// holds tells whether the agent still knows an object of another generation.
func (g *generation) holds(of *generation, handle uint64) bool {
	for at := g; at != nil; at = at.base {
		if at == of {
			return true
		}
		if handle > at.upTo {
			return false
		}
	}
	return false
}

// saved is what the agent held when a snapshot was taken; without a generation
// it was taken by somebody else.
type saved struct {
	gen  *generation
	upTo uint64
}

// generation makes that of a guest which is started by the plan.
func (p *startPlan) generation() *generation {
	g := &generation{base: p.base.gen, upTo: p.base.upTo}
	g.last.Store(p.base.upTo)
	return g
}

// savedGenerations are those of the snapshots taken by this process.
type savedGenerations struct {
	mu   sync.Mutex
	byID map[snapshot.FileID]saved
}

func (s *savedGenerations) put(id snapshot.FileID, g saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[snapshot.FileID]saved)
	}
	s.byID[id] = g
}

func (s *savedGenerations) get(id snapshot.FileID) saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

func (i *instance) generation() *generation {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.gen
}

// held is an object that the agent holds for us.
type held struct {
	vm     *VM
	gen    *generation
	what   string // "process", "file", "worker"
	handle uint64
}

// op runs an operation on the object. It fails when the guest that held it is
// no more.
func (h *held) op(ctx context.Context, op string, do func(*guest.Client) error) error {
	return h.vm.guestOp(ctx, op, func(c *guest.Client) error {
		if err := h.check(op); err != nil {
			return err
		}
		return named(do(c), op)
	})
}

// named gives a failure of the guest the name that the operation has for its
// caller.
func named(err error, op string) error {
	var failed *OpError
	if errors.As(err, &failed) {
		failed.Op = op
	}
	return err
}

// check tells why the object is of no use any more.
func (h *held) check(op string) error {
	inst, err := h.vm.serving(op)
	if err != nil {
		return err
	}
	if !inst.generation().holds(h.gen, h.handle) {
		return fmt.Errorf("%s: the %s is gone: vm `%s` was reset, booted or restored since", op, h.what, h.vm.name)
	}
	return nil
}

// make runs an operation that creates an object and gives that its place.
func (v *VM) make(ctx context.Context, op, what string, do func(*guest.Client) (uint64, error)) (held, error) {
	h := held{vm: v, what: what}
	err := v.guestOp(ctx, op, func(c *guest.Client) (err error) {
		inst, err := v.running(op, Booted)
		if err != nil {
			return err
		}
		h.gen = inst.generation()
		if h.handle, err = do(c); err == nil {
			h.gen.note(h.handle)
		}
		return named(err, op)
	})
	return h, err
}
