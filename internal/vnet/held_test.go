package vnet

import (
	"bytes"
	"testing"
	"time"
)

// pacedSwitch returns a paced switch with two members.
func pacedSwitch(t *testing.T) (s *Switch, a, b *Held) {
	s = New(Config{Seed: 1})
	t.Cleanup(s.Close)
	s.Pace(true)
	var held [2]*Held
	for i, name := range []string{"a", "b"} {
		h, err := s.AddPort(name).Hold()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		held[i] = h
	}
	return s, held[0], held[1]
}

// sent is a frame of a stream, of a to all.
func sent(text string) []byte {
	return appendFrame(nil, append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x00"), text...))
}

// TestHeld has frames come in pieces, and go on when they are asked for.
func TestHeld(t *testing.T) {
	_, a, b := pacedSwitch(t)
	stream := append(sent("one"), sent("two")...)
	for _, piece := range [][]byte{stream[:3], stream[3:20], stream[20:]} {
		if err := a.Collect(piece); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Receive(); got != nil {
		t.Errorf("%q before it was sent", got)
	}
	if n := a.Send(); n != 2 {
		t.Errorf("%d frames", n)
	}
	for _, want := range [][]byte{sent("one"), sent("two"), nil} {
		if got := b.Receive(); !bytes.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if a.Send() != 0 {
		t.Error("sent twice")
	}
	if err := a.Collect(sent("three")); err != nil {
		t.Fatal(err)
	}
	a.Drop()
	if a.Send() != 0 {
		t.Error("a frame that was dropped is sent")
	}
	if err := a.Collect([]byte{0xff, 0xff, 0xff, 0xff}); err == nil {
		t.Error("a frame of 4 GiB")
	}
}

// TestPacedSwitch has frames be under way for a time that passes only when somebody says so.
func TestPacedSwitch(t *testing.T) {
	s, a, b := pacedSwitch(t)
	s.Set(Latency, 5)
	if _, more := s.Advance(7 * time.Millisecond); more {
		t.Error("something is under way")
	}
	if err := a.Collect(sent("x")); err != nil {
		t.Fatal(err)
	}
	a.Send()
	next, more := s.Advance(11 * time.Millisecond)
	if !more || next != 12*time.Millisecond || b.Receive() != nil {
		t.Errorf("due at %s, %t", next, more)
	}
	if _, more = s.Advance(12 * time.Millisecond); more || b.Receive() == nil {
		t.Error("it has not come")
	}
	// By the host's clock again, frames come by themselves.
	s.Pace(false)
	s.Reset()
	if err := a.Collect(sent("y")); err != nil {
		t.Fatal(err)
	}
	a.Send()
	if got := b.Receive(); !bytes.Equal(got, sent("y")) {
		t.Errorf("%q", got)
	}
}
