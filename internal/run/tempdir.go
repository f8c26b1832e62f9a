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

func lockName(dir string) string { return dir + ".lock" }

// newTempDir makes the private directory of a run.
func newTempDir(base string) (*tempDir, error) {
	dir, err := os.MkdirTemp(base, tempPrefix)
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	lock, err := os.OpenFile(lockName(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("temporary directory lock: %w", err)
	}
	return &tempDir{path: dir, lock: lock}, nil
}

// remove deletes the directory and everything in it.
func (t *tempDir) remove() error {
	err := os.RemoveAll(t.path)
	os.Remove(lockName(t.path))
	t.lock.Close()
	return err
}

// sweepTempDirs removes what runs left behind that ended without a chance to
// clean up.
func sweepTempDirs(base string) {
	locks, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*.lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(strings.TrimSuffix(name, ".lock"))
			os.Remove(name)
		}
		lock.Close()
	}
}
