package fakemachine

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// firstPID is the process id of the first process that a guest starts.
const firstPID = 100

// state is what a guest's agent holds: one boot's processes, workers and calls.
// What is exported is in snapshots.
type state struct {
	started time.Time

	mu        sync.Mutex
	Last      uint64 // handle
	LastLife  uint64 // of an executor
	Processes map[uint64]*process
	Executors map[uint64]*executor
	calls     map[uint64]*call
}

func newState() *state {
	return &state{started: time.Now(), Last: firstPID, LastLife: 1, Processes: map[uint64]*process{},
		Executors: map[uint64]*executor{0: newExecutor(1)}, calls: map[uint64]*call{}}
}

// copy returns what a snapshot has.
func (s *state) copy() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &state{Last: s.Last, LastLife: s.LastLife, Processes: map[uint64]*process{},
		Executors: map[uint64]*executor{}}
	for h, p := range s.Processes {
		out.Processes[h] = p.copy()
	}
	for h, e := range s.Executors {
		out.Executors[h] = e.copy()
	}
	return out
}

// loaded completes a state that was read from a snapshot.
func (s *state) loaded() {
	s.started, s.calls = time.Now(), map[uint64]*call{}
	for _, p := range s.Processes {
		p.init()
	}
}

// end kills all processes and waits until they are gone.
func (s *state) end() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.Processes))
	calls := slices.Collect(maps.Values(s.calls))
	s.mu.Unlock()
	for _, p := range all {
		p.Kill(9)
		p.work.Wait()
	}
	for _, c := range calls {
		c.cancel()
		<-c.done
	}
}

// next returns a new handle. The caller must hold s.mu.
func (s *state) next() uint64 {
	s.Last++
	return s.Last
}

func (m *Machine) state() *state {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest
}
