package executor

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

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

	mu     sync.Mutex
	byID   map[uint64]*Executor // nil once the pool is stopped
	root   sys.Identity         // the agent's root directory
	other  *process.Child       // interrupts others; nil for none
	ticker *process.Child       // meets the host in time; likewise
	calls  map[uint64]*Call
}

// NewPool returns a Pool without executors. program is a descriptor of their
// program, 0 for none. newHandle returns a handle that was not given out before.
func NewPool(program int, s *process.Starter, w *sys.Waiters, newHandle func() uint64) *Pool {
	p := &Pool{
		program: program, starter: s, waiters: w, newHandle: newHandle,
		byID: make(map[uint64]*Executor), calls: make(map[uint64]*Call),
	}
	p.root, _ = sys.Identify(unix.AT_FDCWD, "/") // without it, executors stay where they are
	return p
}

// Follow moves the executors to the agent's root directory, which is another one than
// before, but for those that a test has moved elsewhere.
func (s *Pool) Follow() error {
	now, err := sys.Identify(unix.AT_FDCWD, "/")
	if err != nil {
		return err
	}
	fd, err := sys.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.root
	s.root = now
	for _, x := range s.byID {
		if at, err := sys.Identify(unix.AT_FDCWD, x.View("/.")); err != nil || at != old {
			continue
		}
		// Without the right to move, it stays, as any process does. One that is
		// busy moves before what comes next.
		if _, ch, err := x.exchange(&request{kind: execFollow, fds: []int{fd}}, false); err == nil {
			s.reaping.Go(func() { <-ch })
		}
	}
	return nil
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
	if s.ticker != nil {
		s.ticker.Kill()
	}
	if s.other != nil {
		s.other.Kill()
	}
	s.mu.Unlock()
	for _, x := range all {
		x.stop()
	}
	s.reaping.Wait()
}
