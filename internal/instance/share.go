package instance

import "sync"

// Share delays the release of a guest's share of the pool until it is known that no
// other guest takes it over. It is safe for concurrent use.
type Share struct {
	releaseShare func()

	mu       sync.Mutex
	final    bool // no other guest takes the share over
	released bool
}

// NewShare returns a share that release releases.
func NewShare(release func()) *Share { return &Share{releaseShare: release} }

// Release releases the share, when it is known that no other guest takes it over.
func (s *Share) Release() {
	s.mu.Lock()
	s.released = true
	final := s.final
	s.mu.Unlock()
	if final {
		s.releaseShare()
	}
}

// Finalize lets the release through, also one that came before.
func (s *Share) Finalize() {
	s.mu.Lock()
	s.final = true
	released := s.released
	s.mu.Unlock()
	if released {
		s.releaseShare()
	}
}
