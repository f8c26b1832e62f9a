package vnet

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"
)

// file reads a capture to its end.
func file(t *testing.T, c *Capture) (p []byte) {
	t.Helper()
	for {
		part, err := c.Next(t.Context())
		if err == io.EOF {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		p = append(p, part...)
		if _, _, ok := parsePcap(p); !ok {
			t.Fatal("the file ends within a record")
		}
	}
}

func TestCapture(t *testing.T) {
	b := newBench(t, 1, "a", "b", "c")
	whole, of := b.s.Capture(Selection{}), b.ids["b"].Capture(Selection{Nanoseconds: true})
	b.s.PartitionOneWay("c", "b")
	b.s.SetPair("a", "b", Latency, 10)
	b.send("a", frame(broadcast, mac(1), 1, 60))
	b.send("c", frame(broadcast, mac(3), 2, 60))
	b.send("b", frame(broadcast, mac(2), 3, 60))
	b.pass(10 * time.Millisecond)
	limited, cancel := context.WithCancel(t.Context())
	cancel()
	for !whole.Ended() {
		if _, err := whole.Next(limited); errors.Is(err, context.Canceled) {
			break
		}
	}
	odd := b.s.Capture(Selection{Keep: func(f []byte) bool { return number(f)%2 == 1 }})
	again := b.s.Capture(Selection{})
	for n := range uint32(200) {
		b.send("a", frame(broadcast, mac(1), n, 1500))
	}
	whole.Close()
	whole.Close()
	of.Close()
	frames, times, _ := parsePcap(file(t, of))
	if got := numbers(frames[:2]); !slices.Equal(got, []uint32{3, 1}) || times[1].Sub(times[0]) != 10*time.Millisecond {
		t.Errorf("b saw %v at %v", got, times[:2])
	}
	b.s.mu.Lock()
	b.s.endCaptures(nil)
	b.s.mu.Unlock()
	if frames, _, _ := parsePcap(file(t, odd)); len(frames) != 100 {
		t.Errorf("%d frames of 100 were kept", len(frames))
	}
	if frames, _, _ := parsePcap(file(t, again)); len(frames) != 200 {
		t.Errorf("%d frames", len(frames))
	}
}

// A capture is a whole file at any time, whatever its reader has taken.
func TestCaptureFile(t *testing.T) {
	b := newBench(t, 1, "a", "b")
	c := b.s.Capture(Selection{})
	count := func() int {
		t.Helper()
		file, whole := c.File()
		frames, _, ok := parsePcap(file)
		if !ok || !whole {
			t.Fatalf("%d bytes, whole: %v", len(file), whole)
		}
		return len(frames)
	}
	if n := count(); n != 0 {
		t.Errorf("%d frames before the first", n)
	}
	for n := range uint32(100) {
		b.send("a", frame(broadcast, mac(1), n, 1500))
	}
	if n := count(); n != 100 {
		t.Errorf("%d frames before the reader has taken any", n)
	}
	for range 2 {
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != 100 {
			t.Errorf("%d frames after the reader has taken some", n)
		}
	}
	for range 2 * captureKept / 1500 {
		b.send("a", frame(broadcast, mac(1), 1, 1500))
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	file, whole := c.File()
	if _, _, ok := parsePcap(file); !ok || whole || len(file) > captureKept+PcapHeader {
		t.Errorf("%d bytes of a long capture, whole: %v", len(file), whole)
	}
}
