// Package templates keeps templates of guests by the snapshot that they stand for: the guest
// of a snapshot is made of a template of it in a tenth of the time that a restore of the file takes.
//
// It does not know what templates are (package qemu), nor when a snapshot is taken (package lab).
package templates

import (
	"context"
	"slices"
	"sync"

	"provium/internal/snapshot"
)

// limit is how many templates are kept: each has the memory that its guests no longer share with it.
const limit = 4

// maxTries is how often it is tried to make a template of a snapshot, which on some hosts never succeeds.
const maxTries = 2

// Template is what is kept. Close may be called while it is in use.
type Template interface {
	comparable
	Close()
}

// Store keeps the templates that were used last. The zero value is empty, a nil one keeps nothing. It is safe for
// concurrent use.
type Store[T Template] struct {
	mu     sync.Mutex
	list   []entry[T] // the one used last at the end
	closed bool

	led    map[snapshot.FileID]*leading
	failed map[snapshot.FileID]int // how often no template could be made
}

type entry[T Template] struct {
	id       snapshot.FileID
	template T
	lasts    bool
}

// Lead waits while another caller starts a guest of a snapshot, of which a template may come. Without one, it returns
// end: the caller is to make it if it is wanted, and calls end when its guest has started. It returns nil if there is a
// template, if none can be made, or if ctx ends.
func (s *Store[T]) Lead(ctx context.Context, id snapshot.FileID) (end func()) {
	if s == nil {
		return nil
	}
	for {
		s.mu.Lock()
		led := s.led[id]
		if led == nil {
			defer s.mu.Unlock()
			if s.closed || s.find(id) >= 0 || s.failed[id] >= maxTries {
				return nil
			}
			return s.lead(id)
		}
		led.awaited = true
		s.mu.Unlock()
		select {
		case <-led.over:
		case <-ctx.Done():
			return nil
		}
	}
}

// leading is a caller that leads.
type leading struct {
	over    chan struct{} // closed
	awaited bool          // another one waits for it, or has
}

// lead is Lead for a caller that holds s.mu, where nobody leads.
func (s *Store[T]) lead(id snapshot.FileID) (end func()) {
	if s.led == nil {
		s.led = map[snapshot.FileID]*leading{}
	}
	led := &leading{over: make(chan struct{})}
	s.led[id] = led
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.led[id] == led {
			s.follow(id)
		}
	}
}

// follow has those go on that wait for the one that leads. The caller must hold s.mu.
func (s *Store[T]) follow(id snapshot.FileID) {
	if led := s.led[id]; led != nil {
		delete(s.led, id)
		close(led.over)
	}
}

// IsAwaited reports whether another caller waits for the one that leads.
func (s *Store[T]) IsAwaited(id snapshot.FileID) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	led := s.led[id]
	return led != nil && led.awaited
}

// Put keeps a template, which is the store's from then on. lasts means that its snapshot is not of this test file
// alone. T's zero value says that none could be made.
func (s *Store[T]) Put(id snapshot.FileID, t T, lasts bool) {
	var none T
	if s == nil {
		if t != none {
			t.Close()
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.follow(id)
	switch {
	case t == none:
		if s.failed == nil {
			s.failed = map[snapshot.FileID]int{}
		}
		s.failed[id]++
		return
	case s.closed:
		t.Close()
		return
	}
	s.drop(id)
	s.list = append(s.list, entry[T]{id, t, lasts})
	if len(s.list) > limit {
		s.drop(s.list[0].id)
	}
}

// Get returns the template of a snapshot, T's zero value without one. It may be closed at any time:
// then no guest is made of it.
func (s *Store[T]) Get(id snapshot.FileID) (t T) {
	if s == nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id)
	if i < 0 {
		return t
	}
	e := s.list[i]
	s.list = append(slices.Delete(s.list, i, i+1), e)
	return e.template
}

// Drop closes the template of a snapshot, if there is one.
func (s *Store[T]) Drop(id snapshot.FileID) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(id)
}

// EndFile closes the templates whose snapshots are of this test file alone.
func (s *Store[T]) EndFile() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(e entry[T]) bool {
		if !e.lasts {
			e.template.Close()
		}
		return !e.lasts
	})
}

// Close closes all templates, also those that come later.
func (s *Store[T]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for len(s.list) > 0 {
		s.drop(s.list[0].id)
	}
}

func (s *Store[T]) find(id snapshot.FileID) int {
	return slices.IndexFunc(s.list, func(e entry[T]) bool { return e.id == id })
}

// drop is Drop for a caller that holds s.mu.
func (s *Store[T]) drop(id snapshot.FileID) {
	if i := s.find(id); i >= 0 {
		s.list[i].template.Close()
		s.list = slices.Delete(s.list, i, i+1)
	}
}
