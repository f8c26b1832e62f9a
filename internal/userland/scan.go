package userland

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// scanner adds directories of the host to a tree.
type scanner struct {
	tree *tree
	// uid and gid are those of the user, whose files belong to the guest's root; -1 when
	// the user is root, and owners stay as they are.
	uid, gid int
	// public has the files that other users of the host may not read left out.
	public bool
	links  map[inode]*erofs.Node // files with several names
	done   int
}

// inode names a file of the host.
type inode struct{ dev, ino uint64 }

func newScanner(t *tree, public bool) *scanner {
	s := &scanner{tree: t, uid: -1, gid: -1, public: public, links: map[inode]*erofs.Node{}}
	if uid := os.Geteuid(); uid != 0 {
		s.uid, s.gid = uid, os.Getegid()
	}
	return s
}

// add adds what a directory of the host has to a directory of the tree. What vanishes
// meanwhile is left out.
func (s *scanner) add(ctx context.Context, to *erofs.Node, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s.skip(dir, reason(err))
	}
	for _, e := range entries {
		if s.done++; s.done%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.addFile(ctx, to, filepath.Join(dir, e.Name()), e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// skip notes that a file is left out because of an error.
func (s *scanner) skip(path string, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		s.tree.skipped = append(s.tree.skipped, path)
	}
	return nil
}

// addFile adds one file, and what is below it.
func (s *scanner) addFile(ctx context.Context, to *erofs.Node, path, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return s.skip(path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK || !s.mayRead(path, &st) {
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			s.tree.skipped = append(s.tree.skipped, path)
		}
		return nil
	}
	id := inode{st.Dev, st.Ino}
	n := s.links[id]
	if n == nil || n.IsDir() {
		var err error
		if n, err = s.node(path, &st); err != nil {
			return s.skip(path, err)
		}
		if st.Nlink > 1 && !n.IsDir() {
			s.links[id] = n
		}
	}
	if err := to.Add(name, n); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if n.IsDir() {
		return s.add(ctx, n, path)
	}
	return nil
}

// mayRead reports whether the guest may have the file.
func (s *scanner) mayRead(path string, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if s.public {
			return st.Mode&0o004 != 0
		}
		return unix.Access(path, unix.R_OK) == nil
	case unix.S_IFDIR:
		if s.public {
			return st.Mode&0o005 == 0o005
		}
		return unix.Access(path, unix.R_OK|unix.X_OK) == nil
	}
	return true
}

func (s *scanner) node(path string, st *unix.Stat_t) (*erofs.Node, error) {
	n := &erofs.Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Seconds: st.Mtim.Sec, Nanoseconds: uint32(st.Mtim.Nsec)}
	if s.uid >= 0 && n.UID == uint32(s.uid) {
		n.UID = 0
	}
	if s.gid >= 0 && n.GID == uint32(s.gid) {
		n.GID = 0
	}
	switch n.Type() {
	case unix.S_IFREG:
		if n.Size = st.Size; n.Size > 0 {
			s.tree.pieces[n] = piece{source: len(s.tree.sources)}
			s.tree.sources = append(s.tree.sources, sourceOf(path, st))
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, reason(err)
		}
		n.Target = target
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	if !s.public || n.Type() == unix.S_IFREG && n.Mode&0o111 != 0 { // capabilities of programs
		n.Xattrs = xattrs(path)
	}
	return n, nil
}

// maxXattrs is how many bytes of attributes a file may have behind its inode.
const maxXattrs = 4 << 10

// xattrs returns the extended attributes of a file that an image can have.
func xattrs(path string) []erofs.Xattr {
	var names [maxXattrs]byte
	k, err := unix.Llistxattr(path, names[:])
	if err != nil || k == 0 {
		return nil
	}
	var out []erofs.Xattr
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:k]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" && name != "security.selinux" {
			continue // the rest describes the host
		}
		value := make([]byte, maxXattrs)
		if k, err := unix.Lgetxattr(path, name, value); err == nil {
			out = append(out, erofs.Xattr{Name: name, Value: value[:k:k]})
		}
	}
	return out
}
