package executor

import (
	"fmt"
	"sync"

	"provium/internal/agent/process"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// Pool has the executors of an agent: the VM's, with handle 0, and its workers'.
// Use NewPool. It is safe for concurrent use.
type Pool struct {
	program   int // a descriptor; 0 for none
	starter   *process.Starter
	waiters   *sys.Waiters
	newHandle func() uint64
	reaping   sync.WaitGroup // the goroutines that reap executors

	mu    sync.Mutex
	byID  map[uint64]*Executor // nil once the pool is stopped
	calls map[uint64]*Call
}

// NewPool returns a Pool without executors. program is a descriptor of their
// program, 0 for none. newHandle returns a handle that was not given out before.
func NewPool(program int, s *process.Starter, w *sys.Waiters, newHandle func() uint64) *Pool {
	return &Pool{
		program: program, starter: s, waiters: w, newHandle: newHandle,
		byID: make(map[uint64]*Executor), calls: make(map[uint64]*Call),
	}
}

// Call is a system call under way, or its answer until that is asked for.
type Call struct {
	x      *Executor
	answer chan execAnswer
	id     uint64 // of its request
}

// Get returns the executor of a handle. That of the VM is started when it is
// needed, and again when it has died. A worker that has died stays dead.
func (s *Pool) Get(id uint64) (*Executor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byID[id]
	switch {
	case x == nil && id != 0:
		return nil, &wire.Error{Text: fmt.Sprintf("the agent has no worker %d", id)}
	case x != nil && (id != 0 || !x.isDead()):
		return x, nil
	}
	x, err := s.start(id)
	if err != nil {
		return nil, err
	}
	s.put(x)
	return x, nil
}

func (s *Pool) put(x *Executor) {
	if s.byID == nil {
		s.byID = make(map[uint64]*Executor)
	}
	s.byID[x.id] = x
}

// SpawnWorker starts an executor of its own and returns its handle.
func (s *Pool) SpawnWorker() (wire.Value, error) {
	id := s.newHandle()
	x, err := s.start(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.put(x)
	s.mu.Unlock()
	return wire.CountValue(id), nil
}

// CloseWorker ends a worker.
func (s *Pool) CloseWorker(r *wire.WorkerClose) {
	s.mu.Lock()
	x := s.byID[r.Handle]
	delete(s.byID, r.Handle)
	s.mu.Unlock()
	if x != nil {
		x.stop()
	}
}

// Stop ends all executors and waits for their end.
func (s *Pool) Stop() {
	s.mu.Lock()
	all := s.byID
	s.byID = nil
	s.mu.Unlock()
	for _, x := range all {
		x.stop()
	}
	s.reaping.Wait()
}
