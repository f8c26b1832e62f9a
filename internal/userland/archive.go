package userland

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// ofArchive returns what an uncompressed tar file has. Contents are read from that file.
func ofArchive(ctx context.Context, file string) (*tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, reason(err))
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	a := &archive{tree: newTree(), f: f, size: st.Size}
	a.tree.sources = []source{sourceOf(file, &st)}
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if err == io.EOF && len(a.tree.root.Names()) == 0 {
			return nil, fmt.Errorf("%s: the archive is empty", file)
		}
		if err == io.EOF {
			return a.tree, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = a.add(h)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
}

// archive is a tar file that is being read.
type archive struct {
	tree *tree
	f    *os.File
	size int64
}

// xattrRecord begins the name of a record with an extended attribute, as GNU tar, bsdtar and
// the tools of containers write it.
const xattrRecord = "SCHILY.xattr."

// add adds the entry whose header was read. The file stands at its contents.
func (a *archive) add(h *tar.Header) error {
	name := path.Clean("/" + h.Name)
	if h.Typeflag == tar.TypeXGlobalHeader || name == "/" && h.Typeflag != tar.TypeDir {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("`%s`: %w", h.Name, err) }
	n := &erofs.Node{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Seconds: h.ModTime.Unix(), Nanoseconds: uint32(h.ModTime.Nanosecond())}
	for key, value := range h.PAXRecords {
		if x, ok := strings.CutPrefix(key, xattrRecord); ok {
			n.Xattrs = append(n.Xattrs, erofs.Xattr{Name: x, Value: []byte(value)})
		}
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fail(errSparse)
		}
	}
	sortXattrs(n.Xattrs)
	switch h.Typeflag {
	case tar.TypeReg, '\x00':
		n.Mode |= unix.S_IFREG
		if n.Size = h.Size; n.Size > 0 {
			at, err := a.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return fail(reason(err))
			}
			if n.Size > a.size-at {
				return fail(io.ErrUnexpectedEOF)
			}
			a.tree.pieces[n] = piece{0, at}
		}
	case tar.TypeDir:
		n.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		n.Mode, n.Target = n.Mode|unix.S_IFLNK, h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
		n.Mode |= unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			n.Mode ^= unix.S_IFCHR ^ unix.S_IFBLK
		}
	case tar.TypeFifo:
		n.Mode |= unix.S_IFIFO
	case tar.TypeLink:
		target, err := a.tree.lookup(h.Linkname)
		if err == nil && target.IsDir() {
			err = errors.New("it is a directory")
		}
		if err != nil {
			return fail(fmt.Errorf("hard link to `%s`: %w", h.Linkname, err))
		}
		n = target
	case tar.TypeGNUSparse:
		return fail(errSparse)
	default:
		return fail(fmt.Errorf("its type %q is not known", h.Typeflag))
	}
	if err := a.put(name, n); err != nil {
		return fail(err)
	}
	return nil
}

var errSparse = errors.New("a sparse file; pack it without --sparse")

// put names a node. A directory that is there already gets the attributes of the new
// one and keeps its files.
func (a *archive) put(name string, n *erofs.Node) error {
	dir, base := splitLast(name)
	to, err := a.tree.dir(dir)
	if err != nil {
		return err
	}
	old := to
	if base != "" {
		old = to.Child(base)
	}
	if n.IsDir() && old != nil && old.IsDir() {
		old.Mode, old.UID, old.GID, old.Xattrs = n.Mode, n.UID, n.GID, n.Xattrs
		old.Seconds, old.Nanoseconds = n.Seconds, n.Nanoseconds
		return nil
	}
	return to.Add(base, n)
}
