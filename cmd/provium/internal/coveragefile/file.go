// Package coveragefile has the temporary event file of --coverage, and the marker beside it
// that proves whose it is.
//
// It does not write events. Start with Create.
package coveragefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	prefix       = "provium-coverage-"
	suffix       = ".msgpack"
	markerSuffix = ".marker"
	proof        = "event file of provium --coverage" // how the text of a marker starts
)

// File is a temporary event file. Its process holds a lock on the marker.
type File struct {
	path   string
	marker *os.File
}

// Create creates the event file of the process with an id in dir, empty, and its marker.
// What a killed process with the same id has left is replaced; a file without a marker that
// fits is an error.
func Create(dir string, pid int) (*File, error) {
	f := &File{path: filepath.Join(dir, prefix+strconv.Itoa(pid)+suffix)}
	file, err := f.create()
	if errors.Is(err, fs.ErrExist) && removeLeft(f.path) == nil {
		file, err = f.create()
	}
	if err != nil {
		return nil, fmt.Errorf("temporary event file: %w", err)
	}
	defer file.Close()
	text, err := identity(file)
	if err == nil {
		err = f.mark(text)
	}
	if err != nil {
		os.Remove(f.path) // it was created above
		return nil, fmt.Errorf("marker of the temporary event file: %w", err)
	}
	return f, nil
}

func (f *File) create() (*os.File, error) {
	return os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// mark writes the marker. An empty one proves nothing, so that nobody takes the file before
// the lock is held.
func (f *File) mark(text string) (err error) {
	f.marker, err = os.OpenFile(f.Marker(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = unix.Flock(int(f.marker.Fd()), unix.LOCK_EX); err == nil {
		_, err = f.marker.WriteString(text)
	}
	if err != nil {
		f.marker.Close()
		os.Remove(f.Marker())
	}
	return err
}

// Path returns the path of the event file.
func (f *File) Path() string { return f.path }

// Marker returns the path of the marker.
func (f *File) Marker() string { return f.path + markerSuffix }

// Remove removes the event file and its marker, unless the marker does not prove that the
// event file is the one that was created. It must be called once.
func (f *File) Remove() error {
	defer f.marker.Close()
	marker, err := openOwn(f.Marker())
	if err != nil {
		return fmt.Errorf("marker of the temporary event file: %w", err)
	}
	defer marker.Close()
	return f.removeMarked(marker)
}

// removeLeft removes an event file and its marker if no process holds them any more.
func removeLeft(path string) error {
	f := &File{path: path}
	marker, err := openOwn(f.Marker())
	if err != nil {
		return err
	}
	defer marker.Close()
	if err := unix.Flock(int(marker.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	return f.removeMarked(marker)
}

// removeMarked removes the files if they fit.
func (f *File) removeMarked(marker *os.File) error {
	marked, err := io.ReadAll(io.LimitReader(marker, 4<<10))
	if err != nil {
		return fmt.Errorf("marker of the temporary event file: %w", err)
	}
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(string(marked), proof) {
		return os.Remove(f.Marker())
	}
	if err != nil {
		return fmt.Errorf("temporary event file: %w", err)
	}
	defer file.Close()
	if text, err := identity(file); err != nil || text != string(marked) {
		return fmt.Errorf("temporary event file: `%s` is not the file of its marker; both are left", f.path)
	}
	return errors.Join(os.Remove(f.path), os.Remove(f.Marker()))
}

// identity is the text of the marker of a file.
func identity(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	return fmt.Sprintf(proof+": device %d, inode %d\n", st.Dev, st.Ino), nil
}

// openOwn opens a regular file of this user.
func openOwn(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil &&
		(st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != uint32(os.Geteuid())) {
		err = fmt.Errorf("`%s` is not a file of this user", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Sweep removes what processes have left in dir that were killed.
func Sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name, isMarker := strings.CutSuffix(e.Name(), markerSuffix)
		if isMarker && strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			_ = removeLeft(filepath.Join(dir, name)) // it stays if it cannot be proven
		}
	}
}
