package userland

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// scanner adds directories of the host to a tree. A lister looks at them meanwhile; what it has found is added in the
// order of the directories, so that the same files make the same tree.
type scanner struct {
	tree *tree
	look *lister
	// hardLinks are the nodes of files with several names.
	hardLinks map[inode]*erofs.Node
}

// inode names a file of the host.
type inode struct{ dev, ino uint64 }

func newScanner(t *tree, look *lister) *scanner {
	return &scanner{tree: t, look: look, hardLinks: map[inode]*erofs.Node{}}
}

// add adds what a directory of the host has, and what is below it. What vanishes meanwhile, or becomes something
// else, is left out.
func (s *scanner) add(ctx context.Context, to *erofs.Node, d *directory) error {
	if err := d.wait(ctx); err != nil {
		return err
	}
	if d.err != nil {
		return s.skip(d.path, d.err)
	}
	for i := range d.files {
		if err := s.addFile(to, d.path, &d.files[i]); err != nil {
			return err
		}
	}
	for i := range d.files {
		if f := &d.files[i]; f.below != nil {
			if err := s.add(ctx, f.node, f.below); err != nil {
				return err
			}
		}
	}
	d.files = nil
	return nil
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
	f := s.look.file(path, name, &st)
	err := s.addFile(to, filepath.Dir(path), &f)
	if err == nil && f.below != nil {
		s.look.push(f.below)
		err = s.add(ctx, f.node, f.below)
	}
	return err
}

// addFile adds one file of a directory.
func (s *scanner) addFile(to *erofs.Node, dir string, f *file) error {
	if f.err != nil {
		return s.skip(join(dir, f.name), f.err)
	}
	n := f.node
	if n == nil {
		return nil
	}
	if f.hardLink {
		if first := s.hardLinks[f.id]; first != nil {
			n = first
		} else {
			s.hardLinks[f.id] = n
		}
	}
	if n == f.node && n.Size > 0 {
		s.tree.pieces[n] = piece{source: len(s.tree.sources)}
		s.tree.sources = append(s.tree.sources, f.source)
	}
	if err := to.Add(f.name, n); err != nil {
		return fmt.Errorf("%s: %w", join(dir, f.name), err)
	}
	return nil
}
