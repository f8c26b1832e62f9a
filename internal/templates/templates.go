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

// Template is what is kept. Close may be called while it is in use.
type Template interface {
	comparable
	Close()
}

// Store keeps the templates that were used last. The zero value is empty, a nil one keeps nothing. It is safe for
// concurrent use.
type Store[T Template] struct {
	mu     sync.Mutex
	list   []entry[T]                        // the one used last at the end
	led    map[snapshot.FileID]chan struct{} // by who makes them; closed when that is over
	closed bool
}

type entry[T Template] struct {
	id       snapshot.FileID
	template T
	lasts    bool
}

// Lead waits while another caller makes a template of a snapshot. If none has come of it, it returns end: the caller is
// to make one then, and calls end when it is done with that, whatever came of it. It returns nil if there is a
// template, or ctx ends.
func (s *Store[T]) Lead(ctx context.Context, id snapshot.FileID) (end func()) {
	if s == nil {
		return nil
	}
	for {
		s.mu.Lock()
		led := s.led[id]
		if led == nil {
			defer s.mu.Unlock()
			if s.closed || s.find(id) >= 0 {
				return nil
			}
			return s.lead(id)
		}
		s.mu.Unlock()
		select {
		case <-led:
		case <-ctx.Done():
			return nil
		}
	}
}

// lead is Lead for a caller that holds s.mu, where nobody leads.
func (s *Store[T]) lead(id snapshot.FileID) (end func()) {
	if s.led == nil {
		s.led = map[snapshot.FileID]chan struct{}{}
	}
	led := make(chan struct{})
	s.led[id] = led
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.follow(id, led)
	}
}

// follow has those go on that wait for led; nil: for whoever leads. The caller must hold s.mu.
func (s *Store[T]) follow(id snapshot.FileID, led chan struct{}) {
	if now := s.led[id]; now != nil && (led == nil || led == now) {
		delete(s.led, id)
		close(now)
	}
}

// Put keeps a template, which is the store's from then on. lasts means that its snapshot is not of this test file
// alone. It does nothing with T's zero value.
func (s *Store[T]) Put(id snapshot.FileID, t T, lasts bool) {
	var none T
	if t == none {
		return
	}
	if s == nil {
		t.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		t.Close()
		return
	}
	s.drop(id)
	s.list = append(s.list, entry[T]{id, t, lasts})
	if len(s.list) > limit {
		s.drop(s.list[0].id)
	}
	s.follow(id, nil)
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
