package event

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// sinkFunc makes a function a [Sink].
type sinkFunc func(Envelope) error

func (f sinkFunc) Put(env Envelope) error { return f(env) }

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
	b.Forward(FixtureCacheHit{}, nil)
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

func TestFileSink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i, env := range samples() {
		if i == 3 {
			if err := s.Reset(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Put(env); err != nil {
			t.Fatal(err)
		}
		if i >= 3 {
			want.Write(frame(t, env))
		}
		// Nothing is held back: at any moment the file has every whole frame.
		if fi, err := os.Stat(path); err != nil || fi.Size() != s.end {
			t.Fatalf("size %v, err %v", fi, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes, want %d, err %v", len(got), want.Len(), err)
	}
	d := NewDecoder(bytes.NewReader(got[:len(got)-2]))
	for err = nil; err == nil; {
		_, err = d.Decode()
	}
	if !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

func TestFileSinkBadPath(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "such", "file")} {
		if _, err := CreateFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFileSinkFull(t *testing.T) {
	s, err := CreateFile("/dev/full")
	if err != nil {
		t.Skip("no /dev/full:", err)
	}
	defer s.Close()
	if err := s.Put(samples()[0]); err == nil || !strings.Contains(err.Error(), "event file write") {
		t.Error(err)
	}
}

// TestForwardedEventsAreWrittenAsTheyCame has a file hold, for each kind, the same
// bytes for an event that was encoded elsewhere as for one that is encoded for it.
func TestForwardedEventsAreWrittenAsTheyCame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	sink, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	b := NewBus(func() time.Time { return time.Unix(0, 5) }, sink)
	var want []byte
	for _, env := range samples() {
		payload, err := EncodePayload(env.Event)
		if err != nil {
			t.Fatal(err)
		}
		e, err := DecodePayload(env.Event.Kind(), payload)
		if err != nil || !reflect.DeepEqual(e, env.Event) {
			t.Errorf("%+v became %+v, %v", env.Event, e, err)
		}
		b.Forward(e, payload)
		want = append(want, frame(t, Envelope{TS: 5, Event: env.Event})...)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
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
