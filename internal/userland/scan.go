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

// directory is one whose files are to be added.
type directory struct {
	node *erofs.Node
	path string
	as   inode // that it had when it was looked at; zero for the root, which may be a symlink
}

// add adds what a directory of the host has, and what is below it. What vanishes meanwhile, or becomes something
// else, is left out.
func (s *scanner) add(ctx context.Context, d directory) error {
	below, err := s.addEntries(ctx, d)
	for _, child := range below {
		if err == nil {
			err = s.add(ctx, child)
		}
	}
	return err
}

// addEntries adds the files of a directory, and returns the directories among them.
func (s *scanner) addEntries(ctx context.Context, d directory) (below []directory, err error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if d.as != (inode{}) {
		flags |= unix.O_NOFOLLOW // it is not a symlink, unless it has become one
	}
	f, err := os.OpenFile(d.path, flags, 0)
	if err != nil {
		return nil, s.skip(d.path, reason(err))
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, s.skip(d.path, err)
	}
	if d.as != (inode{}) && d.as != (inode{st.Dev, st.Ino}) {
		return nil, nil
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, s.skip(d.path, reason(err))
	}
	for _, e := range entries {
		if s.done++; s.done%1024 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		path := filepath.Join(d.path, e.Name())
		if err := unix.Fstatat(int(f.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if err := s.skip(path, err); err != nil {
				return nil, err
			}
			continue
		}
		child, err := s.addFile(d.node, path, e.Name(), &st)
		if err != nil {
			return nil, err
		}
		if child.node != nil {
			below = append(below, child)
		}
	}
	return below, nil
}

// skip leaves out a file that is gone, is something else now, or that the user may not read, which is noted. Other
// errors, as those of a damaged disk, are returned: without a file, the tree would be another one.
func (s *scanner) skip(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		s.tree.skipped = append(s.tree.skipped, path)
	default:
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// addPath adds a file that is not part of a directory that is added, and what is below it.
func (s *scanner) addPath(ctx context.Context, to *erofs.Node, path, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return s.skip(path, err)
	}
	d, err := s.addFile(to, path, name, &st)
	if err != nil || d.node == nil {
		return err
	}
	return s.add(ctx, d)
}

// addFile adds one file. If it is a directory, that is returned.
func (s *scanner) addFile(to *erofs.Node, path, name string, st *unix.Stat_t) (d directory, err error) {
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return d, nil
	}
	if err := s.readable(path, st); err != nil {
		return d, s.skip(path, err)
	}
	id := inode{st.Dev, st.Ino}
	n := s.links[id]
	if n == nil || n.IsDir() {
		if n, err = s.node(path, st); err != nil {
			return d, s.skip(path, err)
		}
		if st.Nlink > 1 && !n.IsDir() {
			s.links[id] = n
		}
	}
	if err := to.Add(name, n); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	if n.IsDir() {
		d = directory{n, path, id}
	}
	return d, nil
}

// readable returns an error for a file that the guest may not have.
func (s *scanner) readable(path string, st *unix.Stat_t) error {
	bits, how := uint32(0o004), uint32(unix.R_OK)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		bits, how = 0o005, unix.R_OK|unix.X_OK
	case unix.S_IFREG:
	default:
		return nil
	}
	if !s.public {
		return unix.Access(path, how)
	}
	if st.Mode&bits != bits {
		return unix.EACCES
	}
	return nil
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
		if errors.Is(err, unix.EINVAL) {
			err = unix.ENOENT // it is not a symlink any more
		}
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
