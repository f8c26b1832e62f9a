// Package tempdir has private directories of running processes, and removes those of processes that are gone.
//
// It does not know what is in them. Start with New and Sweep.
package tempdir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const tempPrefix = "provium-run-"

// Dir is a directory that belongs to one running process, proven by a lock
// on the file beside it: what no process holds any more may be swept.
type Dir struct {
	path string
	lock *os.File
}

const lockSuffix = ".lock"

// New creates the private directory of a run. The lock comes first: a
// directory is never there without one.
func New(base string) (*Dir, error) {
	for {
		lock, err := os.CreateTemp(base, tempPrefix+"*"+lockSuffix)
		if err != nil {
			return nil, fmt.Errorf("temporary directory: %w", err)
		}
		t := &Dir{path: strings.TrimSuffix(lock.Name(), lockSuffix), lock: lock}
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
func (t *Dir) hold() (bool, error) {
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

// Path returns the directory, which only this user can enter.
func (t *Dir) Path() string { return t.path }

// Remove deletes the directory and everything in it.
func (t *Dir) Remove() error {
	err := os.RemoveAll(t.path)
	os.Remove(t.lock.Name())
	t.lock.Close()
	return err
}

// Keep releases the directory as it is: a later Sweep removes it.
func (t *Dir) Keep() { t.lock.Close() }

// List returns the private directories in base of what is running.
func List(base string) (dirs []string) {
	locks, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*"+lockSuffix))
	for _, name := range locks {
		dirs = append(dirs, strings.TrimSuffix(name, lockSuffix))
	}
	return dirs
}

// Sweep removes what processes left behind in base that ended without a chance to clean up, and what
// they have kept.
func Sweep(base string) {
	locks, _ := filepath.Glob(filepath.Join(base, tempPrefix+"*"+lockSuffix))
	for _, name := range locks {
		// What another user has put there stays with that user.
		lock, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if !isOwn(lock) {
			lock.Close()
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(strings.TrimSuffix(name, lockSuffix))
			os.Remove(name)
		}
		lock.Close()
	}
}

// isOwn reports whether a file is a regular one of this user.
func isOwn(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG &&
		st.Uid == uint32(os.Geteuid())
}
