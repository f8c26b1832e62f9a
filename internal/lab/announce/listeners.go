package announce

import (
	"slices"
	"sync"
)

// Listeners are those who hear of what happens, in the order in which they came. The zero value has none. It is
// safe for concurrent use.
type Listeners[T any] struct {
	mu  sync.Mutex
	all []*T
}

// Add adds a listener until stop is called.
func (l *Listeners[T]) Add(added *T) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, added)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = slices.DeleteFunc(l.all, func(x *T) bool { return x == added })
	}
}

// All returns a copy of the list, so that a listener may call Add.
func (l *Listeners[T]) All() []*T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}
