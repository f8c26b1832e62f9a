// Package templates keeps templates of guests by the snapshot that they stand for: the guest
// of a snapshot is made of a template of it in a tenth of the time that a restore of the file takes.
//
// It does not know what templates are (package qemu), nor when a snapshot is taken (package lab).
package templates

import (
	"slices"
	"sync"

	"provium/internal/snapshot"
)

// limit is how many templates are kept: each has the memory that its guests no longer share with it.
const limit = 4

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
	begun  []snapshot.FileID
	closed bool
}

type entry[T Template] struct {
	id       snapshot.FileID
	template T
	lasts    bool
}

// Begin reports whether the caller is to make a template of a snapshot and then call Put, whatever came of it: false if
// there is one, or another caller is at it.
func (s *Store[T]) Begin(id snapshot.FileID) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.find(id) >= 0 || slices.Contains(s.begun, id) {
		return false
	}
	s.begun = append(s.begun, id)
	return true
}

// Put keeps a template, which is the store's from then on. lasts means that its snapshot is not of this test file
// alone. T's zero value is not kept.
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
	s.begun = slices.DeleteFunc(s.begun, func(b snapshot.FileID) bool { return b == id })
	switch {
	case t == none:
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
