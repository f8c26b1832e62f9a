package userland

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// tree is a file system whose contents are in files of the host.
type tree struct {
	root    *erofs.Node
	sources []source
	pieces  map[*erofs.Node]piece // of regular files that are not empty
	skipped []string              // what was left out, see Userland
}

// source is a file of the host, as it was when it was looked at.
type source struct {
	path             string
	size             int64
	modified, change int64 // nanoseconds since 1970
	inode            uint64
}

// piece is where the contents of a file are.
type piece struct {
	source int
	offset int64
}

func newTree() *tree {
	return &tree{root: erofs.NewDir(0o755), pieces: map[*erofs.Node]piece{}}
}

func sourceOf(path string, st *unix.Stat_t) source {
	return source{path, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Ino}
}

// isUnchanged reports whether the file is still as it was.
func (s *source) isUnchanged(st *unix.Stat_t) bool {
	return *s == sourceOf(s.path, st)
}

// maxLinks is how many symlinks are followed in one path, as in Linux.
const maxLinks = 40

// dir returns the directory of a path in the tree, which it makes where it is missing.
// Symlinks are followed, and lead nowhere but into the tree.
func (t *tree) dir(name string) (*erofs.Node, error) { return t.walk(name, true) }

// lookup returns what has a path in the tree; the last name is not followed.
func (t *tree) lookup(name string) (*erofs.Node, error) {
	dir, base := splitLast(name)
	to, err := t.walk(dir, false)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return to, nil
	}
	if n := to.Child(base); n != nil {
		return n, nil
	}
	return nil, unix.ENOENT
}

// walk returns a directory.
func (t *tree) walk(name string, make bool) (*erofs.Node, error) {
	at := []*erofs.Node{t.root} // the way to the present directory
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		here := at[len(at)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 1)]
			continue
		}
		next := here.Child(part)
		if next == nil && !make {
			return nil, unix.ENOENT
		}
		if next == nil {
			next = erofs.NewDir(0o755)
			if err := here.Add(part, next); err != nil {
				return nil, err
			}
		}
		switch {
		case next.IsDir():
			at = append(at, next)
		case next.Type() != unix.S_IFLNK:
			return nil, fmt.Errorf("`%s` is not a directory", part)
		default:
			if links++; links > maxLinks {
				return nil, unix.ELOOP
			}
			if path.IsAbs(next.Target) {
				at = at[:1]
			}
			rest = append(strings.Split(next.Target, "/"), rest...)
		}
	}
	return at[len(at)-1], nil
}

// splitLast splits a path before its last name.
func splitLast(name string) (dir, base string) { return path.Split(path.Clean("/" + name)) }

func sortXattrs(list []erofs.Xattr) {
	slices.SortFunc(list, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// key returns a digest of everything that the file system depends on.
func (t *tree) key() string {
	h := sha256.New()
	seen := map[*erofs.Node]int{}
	t.describe(h, t.root, "/", seen)
	for _, s := range t.sources {
		fmt.Fprintf(h, "%q %d %d %d %d\n", s.path, s.size, s.modified, s.change, s.inode)
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}

func (t *tree) describe(h hash.Hash, n *erofs.Node, name string, seen map[*erofs.Node]int) {
	if k, ok := seen[n]; ok {
		fmt.Fprintf(h, "%q = %d\n", name, k)
		return
	}
	seen[n] = len(seen)
	p := t.pieces[n]
	fmt.Fprintf(h, "%q %o %d %d %d.%d %d %q %d,%d %d+%d", name, n.Mode, n.UID, n.GID, n.Seconds, n.Nanoseconds, n.Size,
		n.Target, n.Major, n.Minor, p.source, p.offset)
	for _, x := range n.Xattrs {
		fmt.Fprintf(h, " %q=%q", x.Name, x.Value)
	}
	h.Write([]byte{'\n'})
	for _, child := range n.Names() {
		t.describe(h, n.Child(child), child, seen)
	}
	h.Write([]byte{'\n'})
}

// reason returns the error below the path that it names.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// listed joins the first few of many names for a message.
func listed(names []string) string {
	const most = 5
	names = slices.Clone(names)
	slices.Sort(names)
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
