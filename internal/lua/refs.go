package lua

// #include "glue.h"
import "C"

import (
	"sync"
	"sync/atomic"
)

// ref is a value kept in the registry of a State.
type ref struct {
	st *State
	id C.int
}

type referrer interface{ reference() *ref }

func (r *ref) reference() *ref { return r }

// releases collects the references that Go has dropped. Cleanups run at any
// time on a goroutine of the runtime. The holder of the baton releases the
// references later, in drain.
type releases struct {
	n      atomic.Int32
	mu     sync.Mutex
	closed bool
	ids    []C.int
}

// dropped is the argument of a cleanup. It must not refer to the State, or
// everything the State refers to would keep itself alive.
type dropped struct {
	q  *releases
	id C.int
}

func release(d dropped) { d.q.add(d.id) }

func (r *ref) dropped() dropped { return dropped{r.st.releases, r.id} }

func (q *releases) add(id C.int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.ids = append(q.ids, id)
	q.n.Add(1)
}

func (q *releases) take() []C.int {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := q.ids
	q.ids = nil
	q.n.Store(0)
	return ids
}

func (q *releases) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.ids = true, nil
}
