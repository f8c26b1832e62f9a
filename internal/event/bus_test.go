package event

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// sinkFunc makes a function a [Sink].
type sinkFunc func(Envelope) error

func (f sinkFunc) Put(b *Batch) error {
	for _, env := range b.Events {
		if err := f(env); err != nil {
			return err
		}
	}
	return nil
}

// bytesSink keeps the bytes of a stream.
type bytesSink struct {
	bytes.Buffer
	format Format
}

func (s *bytesSink) Put(b *Batch) error {
	p, err := b.Bytes(s.format)
	s.Write(p)
	return err
}

func TestBusStampsNeverGoBack(t *testing.T) {
	clock := []int64{5, 3, 9, 9}
	i := 0
	var got []int64
	b := NewBus(func() time.Time { i++; return time.Unix(0, clock[i-1]) }, sinkFunc(func(e Envelope) error {
		got = append(got, e.TS)
		return nil
	}))
	b.Emit(FixtureCacheHit{})
	b.Emit(FixtureCacheHit{})
	b.Forward(Encoded{Event: FixtureCacheHit{}})
	b.Emit(FixtureCacheHit{})
	want := []int64{5, 5, 9, 9}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestBusOneOrderForAllSinks(t *testing.T) {
	var a, b []Envelope
	bus := NewBus(time.Now,
		sinkFunc(func(e Envelope) error { a = append(a, e); return nil }),
		sinkFunc(func(e Envelope) error { b = append(b, e); return nil }))
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 100 {
				bus.Emit(FixtureCacheHit{Path: "x"})
			}
		}()
	}
	wg.Wait()
	if len(a) != 800 || len(b) != 800 {
		t.Fatalf("%d and %d events, want 800", len(a), len(b))
	}
	for i := range a {
		if !reflect.DeepEqual(a[i], b[i]) || i > 0 && a[i].TS < a[i-1].TS {
			t.Fatalf("event %d: %v and %v", i, a[i], b[i])
		}
	}
}

func TestBusDropsFailingSinkOnly(t *testing.T) {
	bad := errors.New("disk on fire")
	calls, good := 0, 0
	bus := NewBus(time.Now,
		sinkFunc(func(Envelope) error { calls++; return bad }),
		sinkFunc(func(Envelope) error { good++; return nil }))
	for range 3 {
		bus.Emit(FixtureCacheHit{})
	}
	if calls != 1 || good != 3 || !errors.Is(bus.Err(), bad) {
		t.Errorf("calls %d, good %d, err %v", calls, good, bus.Err())
	}
}

// TestForwardedEventsAreWrittenAsTheyCame compares, for each kind, the bytes of an event
// that was encoded elsewhere with those of one that is encoded for its sink.
func TestForwardedEventsAreWrittenAsTheyCame(t *testing.T) {
	sink := &bytesSink{format: Msgpack}
	b := NewBus(func() time.Time { return time.Unix(0, 5) }, sink)
	var want []byte
	var batch []Encoded
	for _, env := range samples() {
		payload, err := EncodePayload(env.Event)
		if err != nil {
			t.Fatal(err)
		}
		e, err := DecodePayload(env.Event.Kind(), payload)
		if err != nil || !reflect.DeepEqual(e, env.Event) {
			t.Errorf("%+v became %+v, %v", env.Event, e, err)
		}
		batch = append(batch, Encoded{Event: e, Payload: payload})
		want = append(want, frame(t, Envelope{TS: 5, Event: env.Event})...)
	}
	b.Forward(batch[:2]...)
	b.Forward()
	b.Forward(batch[2:]...)
	if !bytes.Equal(sink.Bytes(), want) {
		t.Errorf("%d bytes, want %d", sink.Len(), len(want))
	}
}

// TestSinksShareBytes compares the memory that two sinks of one format get.
func TestSinksShareBytes(t *testing.T) {
	b := NewBatch(5, Encoded{Event: FixtureCacheHit{Path: "x"}})
	for _, f := range []Format{Msgpack, JSONL} {
		one, err := b.Bytes(f)
		two, again := b.Bytes(f)
		if err != nil || again != nil || len(one) == 0 || &one[0] != &two[0] {
			t.Errorf("%s: %v, %v", f, err, again)
		}
	}
	if _, err := NewBatch(5, Encoded{Event: FileCompleted{Status: "gone"}}).Bytes(Msgpack); err == nil {
		t.Error("encoded")
	}
	if _, err := ParseFormat("xml"); err == nil || err.Error() != "expected msgpack or jsonl" {
		t.Error(err)
	}
}

func TestPayloadErrors(t *testing.T) {
	if _, err := EncodePayload(TestStarted{Meta: Meta{"x": strings.Repeat("x", MaxFrame-64)}}); !errors.Is(err,
		ErrTooLarge) {
		t.Error(err)
	}
	if _, err := DecodePayload("file_lost", []byte{0x80}); !errors.Is(err, ErrUnknownKind) {
		t.Error(err)
	}
	if _, err := DecodePayload(KindFixtureCacheHit, []byte("\x81\xa4path\xa1x\x00")); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}
