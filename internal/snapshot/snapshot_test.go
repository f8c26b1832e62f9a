package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testRAM = 4*blockSize + 3*PageSize // the last block is short

func sum256(p []byte) [sha256.Size]byte { return sha256.Sum256(p) }

func page(b byte) []byte { return bytes.Repeat([]byte{b}, PageSize) }

// memory returns a sparse file as a guest's RAM is: data, zeros and holes.
func memory(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(testRAM); err != nil {
		t.Fatal(err)
	}
	for at, p := range map[int64][]byte{0: page(1), blockSize + PageSize: page(2),
		3 * blockSize:      make([]byte, blockSize),
		testRAM - PageSize: page(3)} {
		if _, err := f.WriteAt(p, at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func manifest() *Manifest {
	return &Manifest{Created: time.Unix(1, 0).UTC(), Machine: Machine{QEMU: "7", Type: "q35", CPU: "max", Accel: "tcg",
		Memory: testRAM, CPUs: 2, Devices: []string{"a"}}, Guest: Guest{Profile: "p", Image: "i"}}
}

// data returns what a section of data has: something, zeros, and a short end.
func data() []byte {
	p := make([]byte, 2*blockSize+7)
	copy(p[blockSize+PageSize:], page(5))
	p[len(p)-1] = 1
	return p
}

func write(t testing.TB, path string) FileID {
	t.Helper()
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.CopyRAM(memory(t)); err != nil {
		t.Fatal(err)
	}
	if err := w.PutData("data", "data.sums", func(add func([]byte) error) error {
		return errors.Join(add(data()[:2*blockSize]), add(data()[2*blockSize:]))
	}); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"state": "device state", "empty": ""} {
		if err := w.PutSection(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := w.Commit(manifest())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	id := write(t, path)
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.ID() != id {
		t.Errorf("id %v, written %v", r.ID(), id)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if d := r.Manifest().Machine.Differences(&manifest().Machine); len(d) > 0 ||
		!reflect.DeepEqual(r.Manifest().Guest, manifest().Guest) {
		t.Errorf("%+v: %v", r.Manifest(), d)
	}
	for name, want := range map[string]string{"state": "device state", "empty": ""} {
		if got, err := r.Section(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	at := r.Manifest().Sections["data"]
	have := make([]byte, at.Length)
	if _, err := r.File().ReadAt(have, at.Offset); err != nil || !bytes.Equal(have, data()) {
		t.Errorf("the data differs (%v)", err)
	}
	var damage *DamagedError
	if _, err := r.Section("data"); !errors.As(err, &damage) {
		t.Error(err)
	}
	if _, err := r.Section("none"); !errors.As(err, &damage) {
		t.Error(err)
	}
	got, want := make([]byte, testRAM), make([]byte, testRAM)
	r.File().ReadAt(got, 0)
	memory(t).ReadAt(want, 0)
	if !bytes.Equal(got, want) {
		t.Error("the RAM differs")
	}
	if n, err := DiskSize(path); err != nil || n == 0 || n > 64<<10 {
		t.Errorf("size %d, %v", n, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), tempPrefix+"*")); len(left) > 0 {
		t.Error(left)
	}
}

func TestPutRAM(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	base := memory(t)
	if err := w.CopyRAM(base); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, testRAM)
	base.ReadAt(want, 0)
	for at, p := range map[int64][]byte{0: make([]byte, PageSize), blockSize - PageSize: append(page(7), page(8)...),
		testRAM - PageSize: page(9), 2 * blockSize: append(page(0), page(5)...)} {
		copy(want[at:], p)
		if err := w.PutRAM(at, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []struct{ at, n int64 }{{-PageSize, PageSize}, {1, PageSize}, {0, 1}, {testRAM, PageSize}} {
		if err := w.PutRAM(bad.at, make([]byte, bad.n)); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if _, err := w.Commit(manifest()); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	got := make([]byte, testRAM)
	r.File().ReadAt(got, 0)
	if !bytes.Equal(got, want) {
		t.Error("the RAM differs")
	}
}

// TestCopyAgain copies a memory that changes between the copies.
func TestCopyAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	from := memory(t)
	change := func(at int64, p []byte) {
		t.Helper()
		if _, err := from.WriteAt(p, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.CopyRAM(from); err != nil {
		t.Fatal(err)
	}
	change(0, make([]byte, PageSize))          // from data to zeros
	change(blockSize, page(9))                 // from zeros to data
	change(2*blockSize+PageSize, page(8))      // from a hole to data
	change(testRAM-2*PageSize, page(7))        // in the short block
	change(blockSize+2*PageSize+5, []byte{42}) // a byte
	if err := w.CopyRAM(from); err != nil {
		t.Fatal(err)
	}
	// From data to a hole, where the file system has them.
	_ = unix.Fallocate(int(from.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2*blockSize, blockSize)
	for range 2 {
		if err := w.CopyRAM(from); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(manifest()); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	got, want := make([]byte, testRAM), make([]byte, testRAM)
	r.File().ReadAt(got, 0)
	from.ReadAt(want, 0)
	if !bytes.Equal(got, want) {
		t.Error("the RAM differs")
	}
}

// TestEveryByteIsCovered flips each byte that is there, and a bit in each hole.
func TestEveryByteIsCovered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	write(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Memory and data are verified by blocks: some bytes of each are enough.
	const step = 911
	check := func(what, broken string) {
		t.Helper()
		r, err := Open(broken)
		if err == nil {
			err = r.Verify(context.Background())
			r.Close()
		}
		var damage *DamagedError
		var version *VersionError
		if !errors.As(err, &damage) && !errors.As(err, &version) && !errors.Is(err, ErrNotSnapshot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(b byte, at int) {
		t.Helper()
		if _, err := f.WriteAt([]byte{b}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	for at := 0; at < len(whole); at++ {
		if at < testRAM+2*blockSize && at%step != 0 {
			continue
		}
		put(whole[at]^0x10, at)
		check(fmt.Sprintf("byte %d", at), path)
		put(whole[at], at)
	}
	other := filepath.Join(t.TempDir(), "b")
	rewritten := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
		check(what, other)
	}
	for _, n := range []int{0, 1, trailerSize - 1, trailerSize, testRAM, len(whole) - 1} {
		rewritten(fmt.Sprintf("cut to %d", n), whole[:n])
	}
	rewritten("longer", append(bytes.Clone(whole), 0))
	rewritten("front cut", whole[PageSize:])
}

func TestMissingBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	write(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0,
		blockSize); err != nil {
		t.Skip(err)
	}
	f.Close()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var damage *DamagedError
	if err := r.Verify(t.Context()); !errors.As(err, &damage) {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null"} {
		if _, err := Open(path); !errors.Is(err, ErrNotSnapshot) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A newer version is named, also when nothing else is known of it.
	path := filepath.Join(dir, "s")
	write(t, path)
	b, _ := os.ReadFile(path)
	b[len(b)-trailerSize+8] = 9
	os.WriteFile(path, b, 0o600)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "version 9") ||
		!strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	id := write(t, path)
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PutRAM(0, page(1)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	entries, _ := os.ReadDir(dir)
	r, err := Open(path)
	if err != nil || r.ID() != id || len(entries) != 1 {
		t.Fatal(err, entries)
	}
	r.Close()
	for _, ram := range []int64{0, -1, PageSize + 1, maxRAM + PageSize} {
		if _, err := Create(path, ram); err == nil {
			t.Errorf("%d bytes of RAM were accepted", ram)
		}
	}
	if _, err := Create(dir, testRAM); err == nil {
		t.Error("a directory was accepted as path")
	}
	if _, err := Create(filepath.Join(dir, "no", "s"), testRAM); err == nil {
		t.Error("a missing directory was accepted")
	}
}

// TestDiskFull has every write fail beyond a size.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "s")
	w, err := Create(path, testRAM)
	if err != nil {
		t.Fatal(err)
	}
	err = w.PutRAM(0, bytes.Repeat([]byte{1}, blockSize+PageSize))
	if err == nil {
		err = w.PutSection("x", make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	w.Abort()
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Error(entries)
	}
}

func TestDifferences(t *testing.T) {
	a := manifest().Machine
	b := a
	b.QEMU, b.CPUs, b.Devices = "8", 4, []string{"a", "b"}
	got := strings.Join(a.Differences(&b), "; ")
	want := "QEMU version: the snapshot has 7, here is 8; cpus: the snapshot has 2, here is 4; " +
		"devices: the snapshot has none of them, here is b"
	if got != want {
		t.Error(got)
	}
	b = a
	a.Devices, b.Devices = []string{"a", "b"}, []string{"b", "a"}
	got = strings.Join(a.Differences(&b), "; ")
	if want := "devices: the snapshot has a, b, here is b, a"; got != want {
		t.Error(got)
	}
}

func TestCache(t *testing.T) {
	c := &Cache{Dir: filepath.Join(t.TempDir(), "new")}
	now := time.Unix(1_000_000, 0)
	if _, err := c.Open(t.Context(), "k", now); !errors.Is(err, ErrMiss) {
		t.Error(err)
	}
	if err := c.Prune(now); err != nil {
		t.Error(err)
	}
	put := func(key string) {
		t.Helper()
		w, err := c.Create(key, testRAM)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.CopyRAM(memory(t)); err != nil {
			t.Fatal(err)
		}
		id, err := w.Commit(manifest())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Trust(key, id); err != nil {
			t.Fatal(err)
		}
	}
	open := func(key string, at time.Time) error {
		r, err := c.Open(t.Context(), key, at)
		if err == nil {
			r.Close()
		}
		return err
	}
	for i, key := range []string{"a", "b", "c"} {
		put(key)
		if err := open(key, now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(c.Path(key), time.Unix(1, 0), time.Unix(1, 0))
	}
	// The times have changed: it is read through again, and found good.
	if err := open("a", now.Add(9*time.Hour)); err != nil {
		t.Error(err)
	}
	size, _ := DiskSize(c.Path("a"))
	c.Limit = 2 * size
	old := filepath.Join(c.Dir, tempPrefix+"old")
	os.WriteFile(old, nil, 0o600)
	os.Chtimes(old, time.Unix(1, 0), time.Unix(1, 0))
	if err := c.Prune(time.Now()); err != nil {
		t.Error(err)
	}
	// One that alone is larger than the limit goes, and takes no others along.
	put("large")
	if f, err := os.OpenFile(c.Path("large"), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		t.Error(err)
	} else {
		f.Write(make([]byte, 3*size))
		f.Close()
	}
	err := c.Prune(time.Now())
	if large := (*TooLargeError)(nil); !errors.As(err, &large) || large.Limit != c.Limit || large.Size <= c.Limit {
		t.Error(err)
	}
	if left, err := c.List(); err != nil || len(left) != 2 {
		t.Errorf("%d entries are left, %v", len(left), err)
	}
	// One that was never used goes before those that were, unless it is the latest.
	put("unused")
	put("young")
	os.Chtimes(c.Path("unused"), time.Unix(1, 0), time.Unix(1, 0))
	os.Chtimes(filepath.Join(c.Dir, "unused.ok"), time.Unix(1, 0), time.Unix(1, 0))
	c.Limit = 3 * size
	if err := c.Prune(time.Now()); err != nil {
		t.Error(err)
	}
	if errs := fmt.Sprint(open("unused", now), open("young", now)); errs != ErrMiss.Error()+" <nil>" {
		t.Error(errs)
	}
	if errs := fmt.Sprint(open("a", now), open("b", now), open("c", now)); errs != "<nil> "+ErrMiss.Error()+" <nil>" {
		t.Error(errs)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("an abandoned file was left")
	}
	// Damage is seen although there is a note, since the file is another one.
	f, _ := os.OpenFile(c.Path("c"), os.O_RDWR, 0)
	f.WriteAt([]byte("x"), 5)
	f.Close()
	os.Chtimes(c.Path("c"), time.Unix(2, 0), time.Unix(2, 0))
	var damage *DamagedError
	if err := open("c", now); !errors.As(err, &damage) {
		t.Error(err)
	}
	if err := errors.Join(c.Evict("c"), c.Evict("c")); err != nil || !errors.Is(open("c", now), ErrMiss) {
		t.Error(err)
	}
}

// TestUnusedEntriesHaveHalfOfTheRoom fills a cache with two entries that were used and two that were not, as many
// as there is room for, and one more that was used: the oldest of the used ones goes.
func TestUnusedEntriesHaveHalfOfTheRoom(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	now := time.Now()
	put := func(key string, age time.Duration, used bool) {
		t.Helper()
		id := write(t, c.Path(key))
		made := now.Add(-age)
		last := made
		if used {
			last = made.Add(time.Second)
		}
		if err := errors.Join(c.Trust(key, id), os.Chtimes(c.Path(key), made, made),
			os.Chtimes(c.notePath(key), last, last)); err != nil {
			t.Fatal(err)
		}
	}
	put("used", 4*time.Hour, true)
	put("unused", 3*time.Hour, false)
	put("other unused", 2*time.Hour, false)
	put("later used", time.Hour, true)
	size, err := DiskSize(c.Path("used"))
	if err != nil {
		t.Fatal(err)
	}
	c.Limit = 4 * size
	for _, want := range []string{"later used other unused unused used", "later used latest other unused unused"} {
		if err := c.Prune(now); err != nil {
			t.Fatal(err)
		}
		keys, err := c.Keys()
		slices.Sort(keys)
		if got := strings.Join(keys, " "); err != nil || got != want {
			t.Errorf("%q, want %q, %v", got, want, err)
		}
		put("latest", 0, true)
	}
}

func TestCacheListAndClean(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	now := time.Now()
	for i, key := range []string{"old", "used", "broken"} {
		id := write(t, c.Path(key))
		made := now.Add(time.Duration(i-9) * time.Hour)
		if err := errors.Join(c.Trust(key, id), os.Chtimes(c.Path(key), made, made),
			os.Chtimes(c.notePath(key), made, made)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(c.Path("broken"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(c.Dir, "other"), nil, 0o600),
		os.Chtimes(c.notePath("used"), now, now)); err != nil {
		t.Fatal(err)
	}
	all, err := c.List()
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for _, want := range []struct {
		key              string
		isUsed, readable bool
	}{{"broken", false, false}, {"used", true, true}, {"old", false, true}} {
		e := all[slices.IndexFunc(all, func(e Entry) bool { return e.Key == want.key })]
		if e.Used.After(e.Made) != want.isUsed || (e.Manifest != nil) != want.readable || e.Size == 0 {
			t.Errorf("%s: %+v", want.key, e)
		}
	}
	if all[2].Key != "old" {
		t.Error("the oldest is not the last:", all[2].Key)
	}
	removed, err := c.Clean(now)
	if err != nil || len(removed) != 3 {
		t.Error(removed, err)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 1 || left[0].Name() != "other" {
		t.Error(left)
	}
	if all, err := (&Cache{Dir: filepath.Join(c.Dir, "none")}).List(); len(all) > 0 || err != nil {
		t.Error(all, err)
	}
}

// FuzzOpen reads whatever comes as a snapshot.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s")
	write(f, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	tail := whole[testRAM-PageSize:]
	f.Add(tail)
	f.Add(whole[len(whole)-trailerSize:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := readManifest(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for name, s := range m.Sections {
			if s.Length < 0 || s.Length > 0 && s.Offset+s.Length > int64(len(b)) {
				t.Errorf("section %q: %+v of %d", name, s, len(b))
			}
		}
	})
}

// FuzzManifest has the checksums right, as somebody who means harm would.
func FuzzManifest(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s")
	write(f, path)
	r, err := Open(path)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Close()
	at := r.Manifest().RAM
	for _, s := range r.Manifest().Sections {
		at += s.Length
	}
	whole, _ := os.ReadFile(path)
	f.Add(whole[at:len(whole)-trailerSize], at)
	f.Add([]byte(`{"ram":4096,"sections":{"blocks":{"offset":4096,"length":4}}}`), int64(4100))
	f.Add([]byte(`{"ram":-1}`), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, at int64) {
		if at < 0 || at > 1<<50 || len(text) > maxManifest {
			return
		}
		tr := trailer{manifestAt: at, manifestLen: uint32(len(text)), sum: sum256(text)}
		tr, err := decodeTrailer(tr.encode(), at+int64(len(text))+trailerSize)
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeManifest(text, tr)
		if err != nil {
			return
		}
		total := m.RAM
		for _, s := range m.Sections {
			total += s.Length
		}
		if total != at {
			t.Errorf("%d bytes are covered, not %d", total, at)
		}
	})
}
