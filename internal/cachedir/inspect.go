package cachedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// State is what is known of the directory of a cache, which need not exist.
type State struct {
	// Distrust is why somebody else may have written or replaced the directory or what is
	// in it; nil if nobody can have.
	Distrust error
	// Loose are the directories of this user that others can write to, until they are
	// tightened. They are the directory itself and parents from a given one down.
	Loose []string
	// ReadOnly is why nothing can be added; nil if something can.
	ReadOnly error
}

// maxLinks is how many symlinks a path may lead through.
const maxLinks = 40

// Inspect returns the state of dir, an absolute path, and changes nothing. Loose may hold
// directories from home down, of which dir is below or which it is.
func Inspect(dir, home string) State {
	w := walk{uid: uint32(os.Geteuid()), mine: ownParts(dir, home)}
	err := w.follow("/", filepath.Clean(dir))
	s := State{Distrust: err, Loose: w.loose}
	if err == nil {
		s.ReadOnly = writable(w.last)
	}
	return s
}

// ownParts returns the directories from home to dir, without symlinks.
func ownParts(dir, home string) map[string]bool {
	parts := map[string]bool{}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			parts[real] = true
		}
		if at == filepath.Clean(home) || at == filepath.Dir(at) || home == "" {
			return parts
		}
	}
}

// writable returns why nothing can be made in a directory.
func writable(dir string) error {
	err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		return &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

// walk checks each directory on a path.
type walk struct {
	uid   uint32
	mine  map[string]bool // those that may be tightened
	loose []string
	last  string // the last directory that exists
	links int
}

// follow checks the parts of path below the directory at, which is trusted. It stops at
// the first part that does not exist.
func (w *walk) follow(at, path string) error {
	w.last = at
	if at == "/" {
		if err := w.check(at, path == "/"); err != nil {
			return err
		}
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, part := range parts {
		if part == "" || part == "." {
			continue
		}
		next := filepath.Join(w.last, part)
		var st unix.Stat_t
		err := unix.Lstat(next, &st)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case err != nil:
			return &fs.PathError{Op: "stat", Path: next, Err: err}
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return w.link(next, &st, strings.Join(parts[i+1:], "/"))
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return &fs.PathError{Op: "open", Path: next, Err: unix.ENOTDIR}
		}
		if err := w.check(next, i == len(parts)-1); err != nil {
			return err
		}
		w.last = next
	}
	return nil
}

// link goes on behind a symlink.
func (w *walk) link(path string, st *unix.Stat_t, rest string) error {
	if err := checkFile(st, w.uid); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	to, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(to) {
		// Its directory was checked. ".." leads to one that was, too.
		to = filepath.Join(filepath.Dir(path), to)
	}
	return w.follow("/", filepath.Join(to, rest))
}

// check checks one directory. In one that all may write to but that is sticky, nobody can
// replace what belongs to another user.
func (w *walk) check(dir string, last bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_ISVTX != 0 && !last {
		st.Mode &^= 0o022
	}
	err := checkFile(&st, w.uid)
	if err != nil && st.Uid == w.uid && w.mine[dir] {
		w.loose = append(w.loose, dir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w", dir, err)
	}
	return nil
}
