package disk

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"provium/internal/proc"
)

// vm is the owner of a shelf under test.
type vm struct {
	name  string
	shelf *Shelf
}

func (v *vm) Name() string { return v.name }

func (v *vm) DetachDisk(_ context.Context, d *Disk) error {
	v.shelf.Remove(d)
	return d.Close(true)
}

func (v *vm) ResizeDisk(_ context.Context, d *Disk, size int64) error {
	_, err := d.Grow(size)
	return err
}

// warnings collects what an Env warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) add(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, fmt.Sprintf(format, args...))
}

func (w *warnings) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.all...)
}

// testEnv has a short directory, since the paths of sockets are limited.
func testEnv(t *testing.T) (*Env, *warnings) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "disk")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	starter := proc.NewStarter()
	t.Cleanup(starter.Close)
	var sockets atomic.Int64
	w := &warnings{}
	return &Env{TempDir: dir, Starter: starter, Seed: 3, Warn: w.add,
		Digest:     func(names ...string) [sha256.Size]byte { return sha256.Sum256([]byte(strings.Join(names, "/"))) },
		NextSocket: func() int { return int(sockets.Add(1)) }}, w
}

func newShelf(t *testing.T, env *Env, name string) *Shelf {
	t.Helper()
	v := &vm{name: name}
	v.shelf = NewShelf(env, v)
	t.Cleanup(func() { must(t, v.shelf.Close()) })
	return v.shelf
}

func add(t *testing.T, s *Shelf, spec Spec) *Disk {
	t.Helper()
	d, err := s.Add(t.Context(), spec)
	must(t, err)
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v, want %q", err, p)
		}
	}
}

// imageFile makes a raw image.
func imageFile(t *testing.T, env *Env, name, content string) string {
	t.Helper()
	path := filepath.Join(env.TempDir, name)
	must(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

const mib = 1 << 20

func sector(text string) []byte { return append([]byte(text), make([]byte, SectorSize-len(text))...) }

func read(t *testing.T, d *Disk, pending bool) string {
	t.Helper()
	p, err := d.ReadSectors(t.Context(), 0, 1, pending)
	must(t, err)
	return strings.TrimRight(string(p), "\x00")
}

func TestShelf(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	_, err := s.Find("a")
	wantError(t, err, "no disk `a` attached to vm `v`", "it has none")
	a := add(t, s, Spec{ID: "a", Scratch: mib})
	b := add(t, s, Spec{ID: "b", Scratch: 2 * mib})
	if got, err := s.Find("b"); got != b || err != nil || len(s.All()) != 2 {
		t.Errorf("find: %v %v of %d", got, err, len(s.All()))
	}
	_, err = s.Find("c")
	wantError(t, err, "attached: a, b")
	_, err = s.Add(t.Context(), Spec{ID: "a", Scratch: mib})
	wantError(t, err, "has a disk `a` already")
	long := strings.Repeat("x", SerialSize)
	add(t, s, Spec{ID: long + "1", Scratch: mib})
	_, err = s.Add(t.Context(), Spec{ID: long + "2", Scratch: mib})
	wantError(t, err, "are alike in the first 20 bytes")
	for i := len(s.All()); i < 31; i++ {
		add(t, s, Spec{ID: fmt.Sprint("n", i), Scratch: mib})
	}
	_, err = s.Add(t.Context(), Spec{ID: "more", Scratch: mib})
	wantError(t, err, "has 31 disks, more are not possible")
	if a.Owner().Name() != "v" || a.ID() != "a" || a.Size() != mib || a.Spec().Scratch != mib || a.IsDetached() {
		t.Errorf("%+v of %s, %d bytes", a.Spec(), a.Owner().Name(), a.Size())
	}
	if blank := b.Blank(); blank != (Spec{ID: "b", Scratch: 2 * mib}) {
		t.Errorf("%+v", blank)
	}
	must(t, a.Detach(t.Context()))
	must(t, a.Detach(t.Context()))
	if !a.IsDetached() || len(s.All()) != 30 {
		t.Errorf("detached: %v of %d", a.IsDetached(), len(s.All()))
	}
	_, err = a.ReadSectors(t.Context(), 0, 1, false)
	wantError(t, err, "disk is detached")
	wantError(t, a.WriteSectors(t.Context(), 0, sector("x")), "disk is detached")
}

func TestSpecs(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	raw := imageFile(t, env, "raw", strings.Repeat("x", 1000))
	for name, tc := range map[string]struct {
		spec Spec
		want string
	}{
		"no id":        {Spec{Scratch: mib}, "id `` is not valid"},
		"bad id":       {Spec{ID: "a b", Scratch: mib}, "id `a b` is not valid"},
		"dots":         {Spec{ID: "..", Scratch: mib}, "not `.` or `..`"},
		"no image":     {Spec{ID: "i", Path: filepath.Join(env.TempDir, "none")}, "no such file"},
		"wrong format": {Spec{ID: "i", Path: raw, Format: "qcow2"}, "qcow2"},
	} {
		_, err := s.Add(t.Context(), tc.spec)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, tc.want)
	}
	odd := Spec{ID: "odd", Scratch: mib + 512}
	odd.LogicalBlock = 4096
	_, err := s.Add(t.Context(), odd)
	wantError(t, err, "no multiple of its logical_block_size 4096")
	if len(s.All()) != 0 {
		t.Errorf("%d disks", len(s.All()))
	}
}

func TestDeclare(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	specs := []Spec{{ID: "a", Scratch: mib}, {ID: "b", Scratch: mib}}
	must(t, s.Declare(t.Context(), specs))
	must(t, s.Declare(t.Context(), specs))
	if len(s.All()) != 2 {
		t.Errorf("%d disks", len(s.All()))
	}
	wantError(t, s.Declare(t.Context(), []Spec{{ID: "a", Scratch: 2 * mib}}), "has a disk `a` already")
	must(t, s.All()[0].Detach(t.Context()))
	must(t, s.Declare(t.Context(), specs)) // a detached one does not come back
	if len(s.All()) != 1 {
		t.Errorf("%d disks", len(s.All()))
	}
	must(t, s.Close())
	must(t, s.Declare(t.Context(), specs))
	if len(s.All()) != 2 {
		t.Errorf("%d disks after a close", len(s.All()))
	}
}

func TestSlots(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	a, b := add(t, s, Spec{ID: "a", Scratch: mib}), add(t, s, Spec{ID: "b", Scratch: mib, ReadOnly: true})
	if d := a.Plugged(); d.Slot != 0 || d.Socket != "" {
		t.Errorf("%+v", d)
	}
	devices, err := s.Devices(env.TempDir)
	must(t, err)
	if len(devices) != 2 || devices[0].Slot != 1 || devices[1].Slot != 2 ||
		devices[1].Serial != "b" || !devices[1].ReadOnly {
		t.Errorf("%+v", devices)
	}
	if d := b.Plugged(); d.Slot != 2 || d.Socket != devices[1].Socket || !d.ReadOnly {
		t.Errorf("%+v", d)
	}
	if s.FreeSlot(nil) != 3 || s.FreeSlot(b) != 2 {
		t.Errorf("free slots %d and %d", s.FreeSlot(nil), s.FreeSlot(b))
	}
	if _, err := b.Device(env.TempDir, 31); err != nil || s.FreeSlot(nil) != 2 {
		t.Errorf("free slot %d, %v", s.FreeSlot(nil), err)
	}
	a.Reconnected()
	if a.Plugged().Node != 1 {
		t.Errorf("%+v", a.Plugged())
	}
	if _, err := add(t, s, Spec{ID: "c", Scratch: mib}).Device(filepath.Join(env.TempDir, "none"), 3); err == nil {
		t.Error("a socket in no directory")
	}
}

func TestShelfImages(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	image := imageFile(t, env, "i", strings.Repeat("x", mib))
	other := imageFile(t, env, "o", strings.Repeat("x", mib))
	add(t, s, Spec{ID: "scratch", Scratch: mib})
	add(t, s, Spec{ID: "template", Template: image})
	add(t, s, Spec{ID: "readonly", Path: image, ReadOnly: true})
	add(t, s, Spec{ID: "path", Path: other})
	if got := s.Images(); len(got) != 2 || got[0] != image || got[1] != image {
		t.Errorf("%q", got)
	}
}
