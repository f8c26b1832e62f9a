package process

import (
	"testing"

	"provium/internal/wire"
)

// mark is the byte that fill puts at an offset, if that is a multiple of markStep.
func mark(at int64) byte { return byte(at ^ at>>8 ^ at>>16) }

const markStep = 509

// firstMark returns how far the first mark is from an offset.
func firstMark(at int64) int { return int((markStep - at%markStep) % markStep) }

// fill adds n bytes to the spool.
func fill(t *testing.T, s *spool, n int64) {
	t.Helper()
	for end := s.size + n; s.size < end; {
		p, own := s.space(nil)
		if !own {
			t.Fatal("nothing is kept")
		}
		p = p[:min(int64(len(p)), end-s.size)]
		for i := firstMark(s.size); i < len(p); i += markStep {
			p[i] = mark(s.size + int64(i))
		}
		s.add(len(p), own)
	}
}

// check compares bytes with what fill has put at an offset.
func check(t *testing.T, p []byte, at int64) {
	t.Helper()
	for i := firstMark(at); i < len(p); i += markStep {
		if p[i] != mark(at+int64(i)) {
			t.Fatalf("wrong byte at %d", at+int64(i))
		}
	}
}

// take reads once as Table.Output does, and scribbles over what may be used of a borrowed
// buffer. It reports whether the buffer was borrowed.
func take(t *testing.T, r *spoolReader) (borrowed bool) {
	t.Helper()
	at := r.pos
	if b := r.borrow(); b != nil {
		clear(b[:wire.HeaderSize])
		check(t, b.Payload(), at)
		r.giveBack()
		return true
	}
	p := make([]byte, wire.ChunkSize)
	n, err := r.read(t.Context(), p)
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	check(t, p[:n], at)
	return false
}

// TestSpoolBuffers reads an output that is longer than what stays, partly by full buffers
// in place, and once more what stays.
func TestSpoolBuffers(t *testing.T) {
	s := newSpool()
	defer s.close()
	r := s.open()
	defer r.close()
	fill(t, s, 1000)
	if take(t, r) {
		t.Error("a buffer that is not full was lent")
	}
	const size = wire.MaxOutput + 5*wire.ChunkSize
	lent := 0
	for s.size < size {
		fill(t, s, min(3*wire.ChunkSize, size-s.size))
		for r.pos < s.size {
			if take(t, r) {
				lent++
			}
		}
	}
	if lent < size/wire.ChunkSize/2 {
		t.Errorf("%d buffers were lent", lent)
	}
	again := &spoolReader{s: s}
	for again.pos < wire.MaxOutput {
		take(t, again)
	}
}

// TestSpoolLent has a buffer lent while the output runs ahead: it stays, and nobody else
// gets one.
func TestSpoolLent(t *testing.T) {
	s := newSpool()
	defer s.close()
	r := s.open()
	defer r.close()
	fill(t, s, wire.MaxOutput+2*wire.ChunkSize)
	r.pos = (wire.MaxOutput/wire.ChunkSize + 1) * wire.ChunkSize // behind what stays
	b := r.borrow()
	if b == nil {
		t.Fatal("not lent")
	}
	other := s.open()
	defer other.close()
	if other.borrow() != nil {
		t.Error("lent twice at a time")
	}
	s.wait() // what waits for the process is not held up: bytes may be lost
	fill(t, s, spoolAhead+4*pageChunk)
	check(t, b.Payload(), r.pos)
	r.giveBack()
	if other.borrow() == nil {
		t.Error("not lent again")
	}
	other.giveBack()
	r.pos = s.size - wire.ChunkSize
	if r.borrow() != nil {
		t.Error("a buffer with something else in it was lent")
	}
}
