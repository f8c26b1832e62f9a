package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const tempPrefix = "provium-run-"

// tempDir is a directory that belongs to one running process, proven by a lock
// on the file beside it: what no process holds any more may be swept.
type tempDir struct {
	path string
	lock *os.File
}

const lockSuffix = ".lock"

// newTempDir creates the private directory of a run. The lock comes first: a
// directory is never there without one.
func newTempDir(base string) (*tempDir, error) {
	for {
		lock, err := os.CreateTemp(base, tempPrefix+"*"+lockSuffix)
		if err != nil {
			return nil, fmt.Errorf("temporary directory: %w", err)
		}
		t := &tempDir{path: strings.TrimSuffix(lock.Name(), lockSuffix), lock: lock}
		held, err := t.hold()
		if held {
			err = os.Mkdir(t.path, 0o700)
		}
		switch {
		case err != nil:
			os.Remove(lock.Name())
			lock.Close()
			return nil, fmt.Errorf("temporary directory: %w", err)
		case held:
			return t, nil
		}
		// Somebody swept the file before it was locked. Another one, then.
		lock.Close()
	}
}

// hold locks the lock file, and reports whether it is still there then.
func (t *tempDir) hold() (bool, error) {
	if err := unix.Flock(int(t.lock.Fd()), unix.LOCK_EX); err != nil {
		return false, fmt.Errorf("lock %s: %w", t.lock.Name(), err)
	}
	ours, err := t.lock.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(t.lock.Name())
	return err == nil && os.SameFile(ours, there), nil
}

// remove deletes the directory and everything in it.
func (t *tempDir) remove() error {
	err := os.RemoveAll(t.path)
	os.Remove(t.lock.Name())
	t.lock.Close()
	return err
}

// sweepTempDirs removes what runs left behind that ended without a chance to
// clean up.
func sweepTempDirs(base string) {
	locks, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*"+lockSuffix))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(strings.TrimSuffix(name, lockSuffix))
			os.Remove(name)
		}
		lock.Close()
	}
}
