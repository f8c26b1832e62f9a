package tempdir

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSweepTakesOnlyWhatNobodyHolds(t *testing.T) {
	base := t.TempDir()
	held, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	left, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left.path, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	left.lock.Close() // as the end of the process does
	Sweep(base)
	if _, err := os.Stat(held.path); err != nil {
		t.Errorf("a directory in use was swept: %v", err)
	}
	if _, err := os.Stat(left.path); err == nil {
		t.Error("a directory that nobody holds was left")
	}
	if err := held.Remove(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestSweepDuringStart has runs start while others sweep: each has to get a
// directory that stays.
func TestSweepDuringStart(t *testing.T) {
	base := t.TempDir()
	var starts, sweeps sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		sweeps.Add(1)
		go func() {
			defer sweeps.Done()
			for {
				select {
				case <-over:
					return
				default:
					Sweep(base)
				}
			}
		}()
		starts.Add(1)
		go func() {
			defer starts.Done()
			for range 50 {
				d, err := New(base)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(d.path, "file"), nil, 0o600); err != nil {
					t.Errorf("the directory was swept: %v", err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	starts.Wait()
	close(over)
	sweeps.Wait()
}

// TestSweepLeavesOthersAlone has other users put things where runs leave theirs.
func TestSweepLeavesOthersAlone(t *testing.T) {
	base, elsewhere := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lock := func(name string) string { return filepath.Join(base, tempPrefix+name+lockSuffix) }
	target := filepath.Join(elsewhere, "lock")
	must(os.WriteFile(target, nil, 0o600))
	must(os.Symlink(target, lock("link")))
	must(unix.Mkfifo(lock("fifo"), 0o600))
	must(os.WriteFile(lock("foreign"), nil, 0o600))
	foreign := os.Chown(lock("foreign"), 1234, 1234) == nil
	for _, name := range []string{"link", "fifo", "foreign"} {
		must(os.Mkdir(strings.TrimSuffix(lock(name), lockSuffix), 0o700))
	}
	Sweep(base)
	for _, name := range []string{"link", "fifo", "foreign"} {
		if name == "foreign" && !foreign {
			continue // this user cannot give files away
		}
		for _, path := range []string{lock(name), strings.TrimSuffix(lock(name), lockSuffix), target} {
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
