package hostfault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSweep writes a file: the sweep reaches each call, and the errors arrive.
func TestSweep(t *testing.T) {
	seen := map[unix.Errno]bool{}
	Sweep(t, func(t *testing.T, f *Fault) {
		path := filepath.Join(t.TempDir(), "file")
		var err error
		f.During(func() { err = os.WriteFile(path, []byte("text"), 0o600) })
		text, readErr := os.ReadFile(path)
		whole := readErr == nil && string(text) == "text"
		switch {
		case f.Errno() == 0, f.Errno() == unix.EINTR:
			if err != nil || !whole {
				t.Errorf("%v, file %q", err, text)
			}
		case !errors.Is(err, f.Errno()):
			t.Errorf("%v, the fault was %s", err, f.What())
		case whole:
			t.Error("the file was written in spite of it")
		}
		seen[f.Errno()] = true
	})
	if len(seen) > 0 && len(seen) < 3 { // in the process of the rounds
		t.Errorf("only %v came", seen)
	}
}
