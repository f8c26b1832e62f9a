package cachedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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
	// Err is why the path cannot be that of a directory; nil if it can.
	Err error
}

// maxLinks is how many symlinks a path may lead through.
const maxLinks = 40

// Inspect returns the state of dir, an absolute path, and changes nothing. Loose may hold
// dir, and its parents up to home if that is one of them.
func Inspect(dir, home string) State {
	w := walk{uid: uint32(os.Geteuid()), mine: ownParts(dir, home)}
	err := w.follow("/", filepath.Clean(dir))
	var distrust *Distrust
	switch {
	case errors.As(err, &distrust):
		return State{Distrust: err}
	case errors.Is(err, unix.EACCES):
		return State{ReadOnly: err, Loose: w.loose}
	case err != nil:
		return State{Err: err}
	}
	return State{Loose: w.loose, ReadOnly: writable(w.last)}
}

// CheckDir returns why somebody else may have written or replaced a directory or what is
// in it, or why it cannot be used.
func CheckDir(dir string) error {
	w := walk{uid: uint32(os.Geteuid())}
	return w.follow("/", filepath.Clean(dir))
}

// ownParts returns the directories from home to dir, or dir alone, without symlinks.
func ownParts(dir, home string) map[string]bool {
	dir = filepath.Clean(dir)
	top := dir
	if rel, err := filepath.Rel(home, dir); err == nil && filepath.IsLocal(rel) {
		top = filepath.Clean(home)
	}
	parts := map[string]bool{}
	for at := dir; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			parts[real] = true
		}
		if at == top {
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
	// private is set below a directory that nobody else can enter.
	private bool
}

// follow checks the parts of path below the directory at, which is trusted. It stops at
// the first part that does not exist.
func (w *walk) follow(at, path string) error {
	w.last, w.private = at, false
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
	if st.Mode&unix.S_ISVTX != 0 && !last || w.private {
		st.Mode &^= 0o022
	}
	if st.Mode&0o022 == 0o020 && st.Uid == w.uid && !w.mine[dir] && !hasACL(dir) &&
		isPrivateGroup(os.DirFS("/etc"), w.uid, st.Gid) {
		st.Mode &^= 0o020
	}
	err := checkFile(&st, w.uid)
	w.private = w.private || st.Mode&0o011 == 0
	if err != nil && st.Uid == w.uid && w.mine[dir] {
		w.loose = append(w.loose, dir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w", dir, err)
	}
	return nil
}

// hasACL reports whether more users and groups may have rights to a file than its mode
// shows. Where it has such a list, the bits of the group are the most that any of them has.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

// isPrivateGroup reports whether a group has no member but one user, as the groups that
// many distributions make with each user. etc has their lists.
func isPrivateGroup(etc fs.FS, uid, gid uint32) bool {
	id := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	users, err := fs.ReadFile(etc, "passwd")
	if err != nil || gid == 0 {
		return false
	}
	name := ""
	for line := range strings.Lines(string(users)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case len(f) < 4:
		case f[2] == id(uid):
			name = f[0]
		case f[3] == id(gid):
			return false
		}
	}
	groups, err := fs.ReadFile(etc, "group")
	if err != nil || name == "" {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 4 && f[2] == id(gid) {
			return f[3] == "" || f[3] == name
		}
	}
	return false
}
