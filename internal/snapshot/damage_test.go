package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
	"provium/internal/cachedir/damage"
)

// store makes an entry of the cache.
func store(t *testing.T, c *Cache, key string) FileID {
	t.Helper()
	w, err := c.Create(key, PageSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PutRAM(0, page(1)); err != nil {
		t.Fatal(err)
	}
	id, err := w.Commit(manifest())
	if err == nil {
		err = c.Trust(key, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// flip changes a byte of the memory and puts the time of change back.
func flip(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{b[0] ^ 1}, 0)
	}
	if err = errors.Join(err, os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

// TestVerifiedFileIsReadAgainWhenChanged changes a verified file of the cache, and one
// that a process restored from, without a trace in size and time of change.
func TestVerifiedFileIsReadAgainWhenChanged(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	id := store(t, c, "k")
	var s testStore
	r, err := c.Open(t.Context(), "k", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Trust(r.ID())
	if err := errors.Join(s.Verify(t.Context(), r), r.Close()); err != nil {
		t.Fatal(err)
	}
	flip(t, c.Path("k"))
	var damage *DamagedError
	if _, err := c.Open(t.Context(), "k", time.Now()); !errors.As(err, &damage) {
		t.Errorf("the cache: %v", err)
	}
	if r = openFile(t, c.Path("k")); r.ID() != id {
		t.Fatal("the file has another identity")
	}
	if err := s.Verify(t.Context(), r); !errors.As(err, &damage) {
		t.Errorf("the store: %v", err)
	}
}

// TestCacheRefusesFilesOfOthers opens entries that somebody else may have written, which
// are whole.
func TestCacheRefusesFilesOfOthers(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	open := func(change func(path string) error) error {
		t.Helper()
		store(t, c, "k")
		if err := change(c.Path("k")); err != nil {
			t.Skip(err)
		}
		r, err := c.Open(t.Context(), "k", time.Now())
		if err == nil {
			r.Close()
		}
		return err
	}
	if err := open(func(path string) error { return os.Chmod(path, 0o644) }); err != nil {
		t.Errorf("readable by all: %v", err)
	}
	var distrust *cachedir.Distrust
	err := open(func(path string) error { return os.Chmod(path, 0o622) })
	if !errors.As(err, &distrust) || !strings.Contains(err.Error(), filepath.Join(c.Dir, "k.snap")+
		"` can be written by others (mode 0622)") {
		t.Errorf("writable by all: %v", err)
	}
	err = open(func(path string) error { return os.Chown(path, 1234, 1234) })
	if !errors.As(err, &distrust) || !strings.Contains(err.Error(), "belongs to another user (uid 1234)") {
		t.Errorf("of another user: %v", err)
	}
}

// TestCacheServesNoOtherEntry puts a whole snapshot in place of an entry.
func TestCacheServesNoOtherEntry(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	store(t, c, "one")
	store(t, c, "two")
	if err := os.Rename(c.Path("two"), c.Path("one")); err != nil {
		t.Fatal(err)
	}
	var damage *DamagedError
	if _, err := c.Open(t.Context(), "one", time.Now()); !errors.As(err, &damage) ||
		!strings.Contains(err.Error(), "it was stored as two") {
		t.Errorf("another entry: %v", err)
	}
	// One of an earlier version, or one that was not made for the cache, is no entry.
	write(t, c.Path("one"))
	if _, err := c.Open(t.Context(), "one", time.Now()); !errors.Is(err, ErrMiss) {
		t.Errorf("no entry: %v", err)
	}
	if _, err := os.Stat(c.Path("one")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it stays: %v", err)
	}
}

// TestReadOnlySnapshot maps a snapshot of a file system that cannot be written to.
func TestReadOnlySnapshot(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c := &Cache{Dir: dir}
	store(t, c, "k")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	r, err := c.Open(t.Context(), "k", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		f, err := r.Mappable(temp)
		if err != nil {
			t.Fatal(err)
		}
		p, err := unix.Mmap(int(f.Fd()), 0, PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, page(1)) {
			t.Error("the copy has another memory")
		}
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	}
	if items, err := os.ReadDir(temp); err != nil || len(items) > 0 {
		t.Errorf("left over: %v, %v", items, err)
	}
}

// TestDamagedCacheFiles damages an entry and its note in every way. What is served
// afterwards must be the entry that was stored, or an error or a miss.
func TestDamagedCacheFiles(t *testing.T) {
	damaged, wrong := 0, 0
	for _, suffix := range []string{".snap", ".ok"} {
		for _, how := range damage.Kinds() {
			c := &Cache{Dir: t.TempDir()}
			store(t, c, "other")
			store(t, c, "k")
			with, err := os.ReadFile(filepath.Join(c.Dir, "other"+suffix))
			if err != nil {
				t.Fatal(err)
			}
			if err := how.Do(filepath.Join(c.Dir, "k"+suffix), with); err != nil {
				if how.Name == "foreign" {
					continue // this user cannot give files away
				}
				t.Fatal(err)
			}
			damaged++
			r, err := c.Open(t.Context(), "k", time.Now())
			if err != nil {
				if suffix == ".ok" {
					t.Errorf("%s, %s: %v", suffix, how.Name, err)
				}
				continue
			}
			p := make([]byte, PageSize)
			if _, err := r.File().ReadAt(p, 0); err != nil || !bytes.Equal(p, page(1)) || r.Manifest().Key != "k" ||
				suffix == ".snap" && how.Name != "chmod 0" {
				wrong++
				t.Errorf("%s, %s is served: %v", suffix, how.Name, err)
			}
			r.Close()
		}
	}
	t.Logf("damaged cache files: %d of the boot cache, wrong content served %d", damaged, wrong)
}
