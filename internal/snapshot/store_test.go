package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// contents stands for disks that are kept in the process.
type contents struct {
	closed int
	err    error
}

func (c *contents) Close() error {
	c.closed++
	return c.err
}

type testStore = Store[int, *contents]

func openFile(t *testing.T, path string) *Reader {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestStoreVerifiesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.snap")
	write(t, path)
	damage := func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{9}, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	var s testStore
	r := openFile(t, path)
	if err := s.Verify(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	damage()
	if err := s.Verify(context.Background(), r); err != nil {
		t.Errorf("read through again: %v", err)
	}
	if err := s.Forget(r.ID()); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if err := s.Verify(context.Background(), r); !errors.As(err, &damaged) {
		t.Errorf("a forgotten file was not read through: %v", err)
	}
	s.Trust(r.ID())
	if err := s.Verify(context.Background(), r); err != nil {
		t.Errorf("a trusted file was read through: %v", err)
	}
}

func TestStoreTaken(t *testing.T) {
	var s testStore
	a, b := FileID{Ino: 1}, FileID{Ino: 2}
	disks := &contents{}
	if s.UseDisks("", func(*contents) { t.Error("disks of no token") }) {
		t.Error("there are disks of no token")
	}
	if n := s.Restored(a); n != 1 {
		t.Errorf("restores: %d", n)
	}
	if err := s.Put(a, Taken[int, *contents]{Epoch: 7, Token: "t", Disks: disks}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(b, Taken[int, *contents]{Epoch: 8}); err != nil {
		t.Fatal(err)
	}
	if n := s.Restored(a); n != 2 {
		t.Errorf("restores: %d", n)
	}
	if s.Epoch(a) != 7 || s.Epoch(b) != 8 || s.Epoch(FileID{Ino: 3}) != 0 {
		t.Errorf("epochs: %d %d %d", s.Epoch(a), s.Epoch(b), s.Epoch(FileID{Ino: 3}))
	}
	var got *contents
	if !s.UseDisks("t", func(c *contents) { got = c }) || got != disks {
		t.Errorf("disks: %v", got)
	}
	if s.UseDisks("other", func(*contents) {}) {
		t.Error("there are disks of another token")
	}
	if err := s.Forget(a); err != nil || disks.closed != 1 {
		t.Errorf("forget: %v, closed %d times", err, disks.closed)
	}
	if err := s.Forget(a); err != nil || disks.closed != 1 {
		t.Errorf("forget again: %v, closed %d times", err, disks.closed)
	}
	if s.UseDisks("t", func(*contents) {}) || s.Epoch(a) != 0 {
		t.Error("a forgotten file is known")
	}
	failing := &contents{err: io.ErrUnexpectedEOF}
	if err := s.Put(b, Taken[int, *contents]{Token: "u", Disks: failing}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(b, Taken[int, *contents]{}); !errors.Is(err, io.ErrUnexpectedEOF) || failing.closed != 1 {
		t.Errorf("replaced: %v, closed %d times", err, failing.closed)
	}
	last := &contents{err: io.ErrUnexpectedEOF}
	if err := s.Put(b, Taken[int, *contents]{Token: "u", Disks: last}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, io.ErrUnexpectedEOF) || last.closed != 1 {
		t.Errorf("close: %v, closed %d times", err, last.closed)
	}
}

// writeDiff makes a diff over base at path.
func writeDiff(t *testing.T, path string, base Base) {
	t.Helper()
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.PutRAM(0, page(9)); err != nil {
		t.Fatal(err)
	}
	if err := w.SetBase(base, []Range{{0, PageSize}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(manifest()); err != nil {
		t.Fatal(err)
	}
}

func TestStoreHoldsBases(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	base := Base{full, write(t, full)}
	writeDiff(t, filepath.Join(dir, "a"), base)
	writeDiff(t, filepath.Join(dir, "b"), base)
	a, b := openFile(t, filepath.Join(dir, "a")), openFile(t, filepath.Join(dir, "b"))
	var s testStore
	f, err := s.OpenBase(context.Background(), a, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, diff := range []*Reader{a, b} {
		if err := s.Put(diff.ID(), Taken[int, *contents]{BaseID: base.ID, Base: f}); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(a.ID()); err != nil {
		t.Fatal(err)
	}
	if f, err = s.OpenBase(context.Background(), b, t.TempDir()); err != nil {
		t.Fatalf("the base of a second diff: %v", err)
	}
	f.Close()
	if err := s.Close(); err != nil || len(s.bases) != 0 {
		t.Errorf("close: %v, %d bases are held", err, len(s.bases))
	}
	if _, err := s.OpenBase(context.Background(), b, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "only what changed since another one") {
		t.Errorf("a base that is gone: %v", err)
	}
	write(t, full)
	if _, err := s.OpenBase(context.Background(), b, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "which is another file by now") {
		t.Errorf("another file in the base's place: %v", err)
	}
	disks := &contents{}
	if err := s.Put(b.ID(), Taken[int, *contents]{Token: "t", Disks: disks, Base: f}); err == nil || disks.closed != 1 {
		t.Errorf("a closed base: %v, disks closed %d times", err, disks.closed)
	}
}

func TestStoreConcurrent(t *testing.T) {
	var s testStore
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := FileID{Ino: uint64(i % 3)}
			for range 100 {
				_ = s.Put(id, Taken[int, *contents]{Epoch: i, Token: "t", Disks: &contents{}})
				s.Restored(id)
				s.Trust(id)
				s.UseDisks("t", func(*contents) {})
				_ = s.Forget(id)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil || len(s.records) != 0 {
		t.Errorf("close: %v, %d records", err, len(s.records))
	}
}
