package hostload

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// hostFS is the type of Root.
type hostFS struct{ fs.FS }

// Root returns the root of the host's file system, for what is read twice a second: to read a small file takes it four
// system calls, and os.DirFS twice as many.
func Root() fs.FS { return hostFS{os.DirFS("/")} }

// ReadFile returns the content of a file.
func (h hostFS) ReadFile(name string) ([]byte, error) {
	failed := func(op string, err error) ([]byte, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return failed("open", fs.ErrInvalid)
	}
	fd, err := again(func() (int, error) { return unix.Open("/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return failed("open", err)
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 2048)
	for {
		n, err := again(func() (int, error) { return unix.Read(fd, text[len(text):cap(text)]) })
		if err != nil {
			return failed("read", err)
		}
		if n == 0 {
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
	}
}

// again repeats a system call that a signal has interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// ReadDir returns the entries of a directory.
func (h hostFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(h.FS, name) }
