package blockdev

import (
	"math/rand/v2"
	"testing"
)

// TestTable compares with an array, and copies with what they were copied from.
func TestTable(t *testing.T) {
	const sectors = 5*chunkSectors + 77
	rnd := rand.New(rand.NewPCG(1, 2))
	var m table
	model := make([]place, sectors)
	check := func() {
		t.Helper()
		for at := int64(0); at < sectors; {
			h, n := m.run(at, sectors-at)
			if n < 1 {
				t.Fatalf("run(%d) has %d sectors", at, n)
			}
			for i := at; i < at+n; i++ {
				if model[i] != h {
					t.Fatalf("sector %d is %d, want %d (run %d+%d)", i, h, model[i], at, n)
				}
			}
			at += n
		}
	}
	for range 300 {
		first := rnd.Int64N(sectors)
		n := 1 + rnd.Int64N(min(sectors-first, 1<<rnd.Int64N(14)))
		h := place(rnd.IntN(4))
		m.set(first, n, h)
		for i := first; i < first+n; i++ {
			model[i] = h
		}
		check()
	}
	last := int64(0)
	err := m.held(sectors, func(first, n int64, h place) error {
		if first < last || model[first] != h {
			t.Errorf("%d+%d: %d", first, n, h)
		}
		last = first + n
		m.set(first, n, absent)
		return nil
	})
	if err != nil || !m.empty() {
		t.Errorf("%v, %d chunks are left", err, len(m.chunks))
	}
}
