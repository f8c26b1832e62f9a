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
	send    func([]Encoded)
	failed  func(error)
	details bool
	output  bool // so are TestOutputs, which are details

	mu      sync.Mutex
	waiting []Encoded
	size    int
	timer   *time.Timer // runs while something waits
}

// NewBuffer returns a buffer that sends to send, from one goroutine at a time. Without
// details those are dropped. failed gets the errors of events that cannot be encoded.
func NewBuffer(details bool, send func([]Encoded), failed func(error)) *Buffer {
	b := &Buffer{send: send, failed: failed, details: details}
	b.mu.Lock() // the timer may run before it is known
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(time.Hour, b.Flush)
	b.timer.Stop()
	return b
}

// KeepOutput has what tests print sent in any case. It must not be called after Emit.
func (b *Buffer) KeepOutput() { b.output = true }

// Details reports whether details are sent.
func (b *Buffer) Details() bool { return b.details }

// Emit takes an event.
func (b *Buffer) Emit(e Event) {
	detail := e.Kind().IsDetail()
	if detail && !b.details && !(b.output && e.Kind() == KindTestOutput) {
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
	if !detail || b.size > bufferSize {
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
