package coveragefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func there(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func create(t *testing.T, dir string, pid int) *File {
	t.Helper()
	f, err := Create(dir, pid)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCreateAndRemove(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, 7)
	if got := there(t, dir); got != "provium-coverage-7.msgpack provium-coverage-7.msgpack.marker" {
		t.Error(got)
	}
	if info, err := os.Stat(f.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if _, err := Create(dir, 7); err == nil {
		t.Error("there are two")
	}
	f.marker.Close() // as after a kill
	again := create(t, dir, 7)
	if err := again.Remove(); err != nil || there(t, dir) != "" {
		t.Error(err, there(t, dir))
	}
	f = create(t, dir, 7)
	if err := os.Remove(f.Path()); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil || there(t, dir) != "" {
		t.Error(err, there(t, dir))
	}
}

// TestOthersFilesStay: without a marker that fits, a file stays.
func TestOthersFilesStay(t *testing.T) {
	for name, change := range map[string]func(f *File) error{
		"no marker":      func(f *File) error { return os.Remove(f.Marker()) },
		"another marker": func(f *File) error { return os.WriteFile(f.Marker(), []byte("x"), 0o600) },
		"another file": func(f *File) error {
			other := f.Path() + ".new"
			if err := os.WriteFile(other, []byte("kept"), 0o600); err != nil {
				return err
			}
			return os.Rename(other, f.Path())
		},
		"a link": func(f *File) error {
			other := filepath.Join(filepath.Dir(f.Path()), "other")
			if err := os.Rename(f.Path(), other); err != nil {
				return err
			}
			return os.Symlink(other, f.Path())
		},
		"the marker is a link": func(f *File) error {
			other := filepath.Join(filepath.Dir(f.Path()), "other")
			if err := os.Rename(f.Marker(), other); err != nil {
				return err
			}
			return os.Symlink(other, f.Marker())
		},
	} {
		dir := t.TempDir()
		f := create(t, dir, 7)
		if err := change(f); err != nil {
			t.Fatal(err)
		}
		before := there(t, dir)
		if err := f.Remove(); err == nil || there(t, dir) != before {
			t.Errorf("%s: %v, %s", name, err, there(t, dir))
		}
		if _, err := Create(dir, 7); err == nil || there(t, dir) != before {
			t.Errorf("%s: %v, %s", name, err, there(t, dir))
		}
	}
	if _, err := Create(filepath.Join(t.TempDir(), "gone"), 7); err == nil {
		t.Error("created")
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, 7).marker.Close() // as after a kill
	kept := create(t, dir, 8)
	if err := os.WriteFile(filepath.Join(dir, "provium-coverage-x.msgpack.marker"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Sweep(dir)
	want := filepath.Base(kept.Path()) + " " + filepath.Base(kept.Marker()) + " provium-coverage-x.msgpack.marker"
	if got := there(t, dir); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	Sweep(filepath.Join(dir, "gone"))
}
