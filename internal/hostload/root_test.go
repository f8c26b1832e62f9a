package hostload

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRoot(t *testing.T) {
	for _, size := range []int{0, 1, 2047, 2048, 2049, 100_000} {
		path, want := filepath.Join(t.TempDir(), "file"), bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(Root(), path[1:]); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
	}
	for name, want := range map[string]error{
		"proc/none": fs.ErrNotExist, "/proc/stat": fs.ErrInvalid, "proc/../proc": fs.ErrInvalid, "proc": unix.EISDIR,
	} {
		var path *fs.PathError
		if _, err := fs.ReadFile(Root(), name); !errors.Is(err, want) || !errors.As(err, &path) || path.Path != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	text, err := fs.ReadFile(Root(), "proc/self/status")
	if pid := "\nPid:\t" + strconv.Itoa(os.Getpid()) + "\n"; err != nil || !strings.Contains(string(text), pid) {
		t.Errorf("%v: %s", err, text)
	}
	if tasks, err := fs.ReadDir(Root(), "proc/self/task"); err != nil || len(tasks) == 0 {
		t.Error(tasks, err)
	}
}

// BenchmarkMeasure is what a file of a run costs at each measurement, here a program with its threads.
func BenchmarkMeasure(b *testing.B) {
	for name, root := range map[string]fs.FS{"Root": Root(), "DirFS": os.DirFS("/")} {
		b.Run(name, func(b *testing.B) {
			m := NewMeter(root, 2, nil)
			for b.Loop() {
				m.Measure(time.Now(), []int{os.Getpid()})
			}
		})
	}
}
