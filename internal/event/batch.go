package event

import (
	"fmt"

	"provium/internal/terminal"
)

// Format is how a stream is written.
type Format string

// The formats.
const (
	Msgpack Format = "msgpack" // frames, see [AppendFrame]
	JSONL   Format = "jsonl"   // a line of JSON for each event, see [Envelope.MarshalJSON]
)

// ParseFormat returns the format of that name.
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case Msgpack, JSONL:
		return f, nil
	}
	return "", fmt.Errorf("expected %s or %s", Msgpack, JSONL)
}

// Batch is some events that sinks get together. All sinks share the bytes that it is
// encoded to. It is used from one goroutine at a time.
type Batch struct {
	Events []Envelope

	encoded map[Format]encodedBatch
}

type encodedBatch struct {
	bytes []byte
	err   error
}

// NewBatch returns a batch of events, all with the time ts.
func NewBatch(ts int64, events ...Encoded) *Batch {
	b := &Batch{Events: make([]Envelope, len(events))}
	for i, e := range events {
		b.Events[i] = Envelope{TS: ts, Event: e.Event, payload: e.Payload}
	}
	return b
}

// Bytes returns all events in a format, one behind the other. They are encoded at the
// first call for a format. The caller must not change the bytes.
func (b *Batch) Bytes(f Format) ([]byte, error) {
	if e, ok := b.encoded[f]; ok {
		return e.bytes, e.err
	}
	var e encodedBatch
	for _, env := range b.Events {
		if e.err != nil {
			break
		}
		if f == JSONL {
			e.bytes, e.err = appendLine(e.bytes, env)
		} else {
			e.bytes, e.err = AppendFrame(e.bytes, env)
		}
	}
	if b.encoded == nil {
		b.encoded = map[Format]encodedBatch{}
	}
	b.encoded[f] = e
	return e.bytes, e.err
}

func appendLine(dst []byte, env Envelope) ([]byte, error) {
	line, err := env.MarshalJSON()
	return append(append(dst, terminal.EscapeJSON(line)...), '\n'), err
}
