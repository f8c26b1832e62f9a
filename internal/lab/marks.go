package lab

import (
	"sync"

	"provium/internal/guest/handle"
	"provium/internal/snapshot"
)

// savedMarks are those of the snapshots taken by this process.
type savedMarks struct {
	mu   sync.Mutex
	byID map[snapshot.FileID]handle.Mark
}

func (s *savedMarks) put(id snapshot.FileID, m handle.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[snapshot.FileID]handle.Mark)
	}
	s.byID[id] = m
}

func (s *savedMarks) get(id snapshot.FileID) handle.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}
