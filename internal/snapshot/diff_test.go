package snapshot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func pageOf(b byte) []byte { return bytes.Repeat([]byte{b}, PageSize) }

// complete makes a snapshot with the given pages.
func complete(t *testing.T, path string, ram int64, pages map[int64]byte) FileID {
	t.Helper()
	w, err := Create(path, ram)
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range pages {
		if err := w.PutRAM(n*PageSize, pageOf(b)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := w.Commit(&Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	const ram = 64 * PageSize
	base := filepath.Join(dir, "base")
	id := complete(t, base, ram, map[int64]byte{1: 1, 2: 2, 40: 40})
	path := filepath.Join(dir, "diff")
	w, err := Create(path, ram)
	if err != nil {
		t.Fatal(err)
	}
	var changed []Range
	for _, n := range []int64{2, 3, 50} { // the first one is zero now
		p := pageOf(byte(n + 100))
		if n == 2 {
			p = pageOf(0)
		}
		if err := w.PutRAM(n*PageSize, p); err != nil {
			t.Fatal(err)
		}
		changed = AppendRange(changed, n*PageSize, PageSize)
	}
	if len(changed) != 2 || changed[0] != (Range{2 * PageSize, 2 * PageSize}) {
		t.Fatal(changed)
	}
	if err := w.SetBase(Base{base, id}, changed); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(&Manifest{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := r.Manifest().Base; p == nil || p.Path != base || p.ID != id {
		t.Fatal(p)
	}
	got, err := r.Changed()
	if err != nil || len(got) != 2 || got[1] != (Range{50 * PageSize, PageSize}) {
		t.Fatal(got, err)
	}
}

func TestFillRAM(t *testing.T) {
	dir := t.TempDir()
	const ram = 64 * PageSize
	base := filepath.Join(dir, "base")
	complete(t, base, ram, map[int64]byte{1: 1, 2: 2, 3: 3, 63: 63})
	from, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(dir, "filled")
	w, err := Create(path, ram)
	if err != nil {
		t.Fatal(err)
	}
	changed := []Range{{2 * PageSize, PageSize}, {10 * PageSize, PageSize}}
	for n, b := range map[int64]byte{2: 0, 10: 110} {
		if err := w.PutRAM(n*PageSize, pageOf(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.FillRAM(from, changed); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(&Manifest{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[int64]byte{1: 1, 3: 3, 10: 110, 63: 63}
	for n := range int64(64) {
		p := make([]byte, PageSize)
		if _, err := r.File().ReadAt(p, n*PageSize); err != nil || p[0] != want[n] || p[PageSize-1] != want[n] {
			t.Errorf("page %d begins with %d, %v", n, p[0], err)
		}
	}
	if ranges, err := r.Changed(); ranges != nil || err != nil {
		t.Error(ranges, err)
	}
}

func FuzzRanges(f *testing.F) {
	add := func(ranges ...Range) {
		var b []byte
		for _, r := range ranges {
			b = binary.LittleEndian.AppendUint64(b, uint64(r.At))
			b = binary.LittleEndian.AppendUint64(b, uint64(r.Length))
		}
		f.Add(b)
	}
	add()
	add(Range{0, PageSize}, Range{4 * PageSize, 2 * PageSize})
	add(Range{-PageSize, PageSize})
	add(Range{PageSize, 1<<63 - 1})
	add(Range{PageSize, PageSize}, Range{PageSize, PageSize})
	f.Fuzz(func(t *testing.T, b []byte) {
		const ram = 1 << 30
		all, err := decodeRanges(b, ram)
		next := int64(0)
		for _, r := range all {
			if err != nil || r.At < next || r.Length <= 0 || r.At+r.Length > ram {
				t.Fatal(all, err)
			}
			next = r.At + r.Length
		}
	})
}
