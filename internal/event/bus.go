package event

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Sink takes the events of a stream in order. The bus calls it from one goroutine at a
// time and waits for it, so that nothing is dropped: a sink that can be held up by others
// has to buffer on its own.
type Sink interface {
	// Put takes a batch. It must not change what the batch holds, which other sinks get too.
	Put(*Batch) error
}

// Encoded is an event with its payload as [EncodePayload] returned it, nil if the event
// was not encoded yet.
type Encoded struct {
	Event   Event
	Payload []byte
}

// Bus stamps events and hands each to every sink, in one order for all. It is
// safe for concurrent use; the zero value is not ready, see [NewBus].
type Bus struct {
	now func() time.Time

	mu    sync.Mutex
	last  int64
	sinks []Sink
	errs  []error
}

// NewBus returns a bus over the given sinks. now is the host clock; it may go
// backwards, the stamps do not.
func NewBus(now func() time.Time, sinks ...Sink) *Bus {
	return &Bus{now: now, sinks: append([]Sink(nil), sinks...)}
}

// Emit stamps e with the clock and distributes it. A sink that fails gets no
// more events; [Bus.Err] returns why.
func (b *Bus) Emit(e Event) { b.Forward(Encoded{Event: e}) }

// Forward is Emit for events that come together, and that may have been encoded
// elsewhere, as by the process of a test file. Each is encoded at most once, whatever the
// number of sinks.
func (b *Bus) Forward(events ...Encoded) {
	if len(events) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last, b.now().UnixNano())
	if len(b.sinks) == 0 {
		return
	}
	batch := NewBatch(b.last, events...)
	kept := b.sinks[:0]
	for _, s := range b.sinks {
		if err := s.Put(batch); err != nil {
			b.errs = append(b.errs, fmt.Errorf("event sink: %w", err))
			continue
		}
		kept = append(kept, s)
	}
	clear(b.sinks[len(kept):])
	b.sinks = kept
}

// Err returns the errors of the sinks that failed so far, joined, or nil.
func (b *Bus) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.errs...)
}
