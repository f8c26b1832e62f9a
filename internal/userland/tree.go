package userland

import (
	"crypto/sha256"
	"encoding/binary"
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
	d := describer{tree: t, to: sha256.New(), seen: map[*erofs.Node]int{}}
	d.node("", t.root)
	for i := range t.sources {
		d.flush(fullBuffer)
		s := &t.sources[i]
		d.text(s.path)
		d.numbers(s.size, s.modified, s.change, int64(s.inode))
	}
	d.flush(0)
	return hex.EncodeToString(d.to.Sum(nil)[:20])
}

// describer writes trees in a form that differs whenever they do.
type describer struct {
	tree *tree
	to   hash.Hash
	buf  []byte              // not written yet
	seen map[*erofs.Node]int // hard links, by their order
}

// fullBuffer is when a buffer is written, in bytes.
const fullBuffer = 64 << 10

// flush writes the buffer if it has more than so many bytes.
func (d *describer) flush(most int) {
	if len(d.buf) > most {
		d.to.Write(d.buf) // never fails
		d.buf = d.buf[:0]
	}
}

func (d *describer) text(s string) {
	d.buf = append(binary.AppendUvarint(d.buf, uint64(len(s))), s...)
}

func (d *describer) numbers(list ...int64) {
	for _, n := range list {
		d.buf = binary.AppendVarint(d.buf, n)
	}
}

func (d *describer) node(name string, n *erofs.Node) {
	d.flush(fullBuffer)
	d.text(name)
	if n.Links() > 1 {
		k, again := d.seen[n]
		if !again {
			k = len(d.seen) + 1
			d.seen[n] = k
		}
		d.numbers(int64(k))
		if again {
			return
		}
	} else {
		d.numbers(0)
	}
	p := d.tree.pieces[n]
	d.numbers(int64(n.Mode), int64(n.UID), int64(n.GID), n.Seconds, int64(n.Nanoseconds), n.Size, int64(n.Major),
		int64(n.Minor), int64(p.source), p.offset, int64(len(n.Xattrs)))
	for _, x := range n.Xattrs {
		d.text(x.Name)
		d.text(string(x.Value))
	}
	d.text(n.Target)
	d.text(string(n.Data))
	names := n.Names()
	d.numbers(int64(len(names)))
	for _, child := range names {
		d.node(child, n.Child(child))
	}
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
