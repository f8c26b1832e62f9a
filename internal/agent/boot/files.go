package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// bootFile is a file to be written before init runs.
type bootFile struct {
	mode   uint32
	path   string
	source string // name below filesDir
}

// parseManifest reads the list of boot files: per line the octal mode, the
// path as a quoted string, and the name of the content's file.
func parseManifest(text string) ([]bootFile, error) {
	var out []bootFile
	for i, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		f, err := parseManifestLine(line)
		if err != nil {
			return nil, fmt.Errorf("boot files: line %d: %w", i+1, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func parseManifestLine(line string) (f bootFile, err error) {
	mode, rest, _ := strings.Cut(line, " ")
	at := strings.LastIndexByte(rest, ' ')
	if at < 0 {
		return f, errors.New("three fields are needed")
	}
	m, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || m > 0o7777 {
		return f, fmt.Errorf("mode %q is none", mode)
	}
	if f.path, err = strconv.Unquote(rest[:at]); err != nil {
		return f, fmt.Errorf("path %s is not quoted", rest[:at])
	}
	if !path.IsAbs(f.path) || path.Clean(f.path) == "/" || strings.IndexByte(f.path, 0) >= 0 {
		return f, fmt.Errorf("path %q is no absolute path of a file", f.path)
	}
	if _, err := strconv.ParseUint(rest[at+1:], 10, 32); err != nil {
		return f, fmt.Errorf("content %q is no number", rest[at+1:])
	}
	f.mode, f.source = uint32(m), rest[at+1:]
	return f, nil
}

// files are the boot files, held open so that they can be written after the
// root directory has changed.
type files struct {
	dir  int
	list []bootFile
}

// openFiles reads the manifest; without one there are no files.
func openFiles() (*files, error) {
	text, err := os.ReadFile(manifest)
	if os.IsNotExist(err) {
		return &files{dir: -1}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("boot files: %w", err)
	}
	list, err := parseManifest(string(text))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(filesDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("boot files: open %s: %w", filesDir, err)
	}
	return &files{fd, list}, nil
}

// write puts the files in their places and drops them where they came from.
func (f *files) write() error {
	if f.dir < 0 {
		return nil
	}
	defer unix.Close(f.dir)
	for _, b := range f.list {
		if err := f.place(b); err != nil {
			return fmt.Errorf("boot file %s: %w", b.path, err)
		}
	}
	for _, b := range f.list {
		_ = unix.Unlinkat(f.dir, b.source, 0)
	}
	_ = unix.Unlinkat(f.dir, path.Base(manifest), 0)
	return nil
}

func (f *files) place(b bootFile) error {
	if err := os.MkdirAll(path.Dir(b.path), 0o755); err != nil {
		return err
	}
	// A new file, whatever was there: another link of it, or a program that is
	// running, must not change.
	if err := os.RemoveAll(b.path); err != nil {
		return err
	}
	in, err := unix.Openat(f.dir, b.source, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(in), b.source)
	defer src.Close()
	dst, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = unix.Fchmod(int(dst.Fd()), b.mode)
	}
	return errors.Join(err, dst.Close())
}
