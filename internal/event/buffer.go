package event

import (
	"sync"
	"time"
)

// IsDetail reports whether events of the kind come in great numbers and tell what happens
// within a test. Results do not depend on them.
func (k Kind) IsDetail() bool {
	switch k {
	case KindTestLog, KindTestOutput, KindStepStarted, KindStepEnded, KindOperationStarted, KindOperationEnded,
		KindNetworkChanged, KindDiskChanged, KindDiskFault, KindClockChanged, KindVMBootStarted, KindVMBootStage,
		KindVMBootFailed, KindConsoleOutput, KindKernelReport:
		return true
	}
	return false
}

// Level is how much of what happens within tests is emitted.
type Level int

// The levels.
const (
	Results    Level = iota // no details
	Progress                // those that say what a test waits for, if it takes long
	Everything              // all details
)

// Level returns the lowest level at which events of the kind are emitted.
func (k Kind) Level() Level {
	switch {
	case !k.IsDetail(), k == KindTestOutput, k == KindKernelReport: // reports show them with their tests
		return Results
	case k == KindOperationStarted, k == KindOperationEnded, k == KindVMBootStarted, k == KindVMBootStage,
		k == KindVMBootFailed:
		return Progress
	}
	return Everything
}

const (
	// bufferDelay is how long a detail waits for others to be sent with.
	bufferDelay = 10 * time.Millisecond
	// bufferSize is how many bytes of payloads wait at most.
	bufferSize = 64 << 10
)

// Buffer encodes events and sends details in batches, since each sending is a system call
// and wakes another process. An event that is no detail is sent at once, with all that came
// before it. It is safe for concurrent use.
type Buffer struct {
	send   func([]Encoded)
	failed func(error)
	level  Level

	mu      sync.Mutex
	waiting []Encoded
	size    int
	timer   *time.Timer // runs while something waits
}

// NewBuffer returns a buffer that sends to send, from one goroutine at a time. Events above
// the level are dropped. failed gets the errors of events that cannot be encoded.
func NewBuffer(level Level, send func([]Encoded), failed func(error)) *Buffer {
	b := &Buffer{send: send, failed: failed, level: level}
	b.mu.Lock() // the timer may run before it is known
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(time.Hour, b.Flush)
	b.timer.Stop()
	return b
}

// Level returns the level of events that are sent.
func (b *Buffer) Level() Level { return b.level }

// Emit takes an event.
func (b *Buffer) Emit(e Event) {
	if e.Kind().Level() > b.level {
		return
	}
	payload, err := EncodePayload(e)
	if err != nil {
		b.failed(err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, Encoded{Event: e, Payload: payload})
	b.size += len(payload)
	if !e.Kind().IsDetail() || b.size > bufferSize {
		b.flush()
	} else if len(b.waiting) == 1 {
		b.timer.Reset(bufferDelay)
	}
}

// Flush sends what waits.
func (b *Buffer) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flush()
}

// flush is Flush for a caller that holds b.mu.
func (b *Buffer) flush() {
	if len(b.waiting) == 0 {
		return
	}
	b.timer.Stop()
	b.send(b.waiting)
	b.waiting, b.size = nil, 0
}
