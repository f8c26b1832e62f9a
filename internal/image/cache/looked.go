package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
)

// checkOnce is a checker that looks at all files of an entry once in this process, and
// later at its directory alone.
func (c *Cache) checkOnce(ctx context.Context, dir, digest string) error {
	if _, known := c.looked.Load(dir); known {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: dir, Err: err}
		}
		return cachedir.CheckFile(&st)
	}
	if err := c.check(ctx, dir, digest); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if t, ok := c.trees.Load(real); ok {
		c.looked.Store(dir, t)
	}
	return nil
}

// Unchanged returns an error if files of an entry that All has returned are no longer as
// they were when All looked at them, or are there and were not. The caller must call
// LookAgain then, and begin again.
func (c *Cache) Unchanged(dir string, paths ...string) error {
	known, ok := c.looked.Load(dir)
	if !ok {
		return fmt.Errorf("%s %w", dir, ErrChanged)
	}
	t := known.(*tree)
	for _, path := range paths {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		at := slices.Index(t.names, name)
		got, err := stateOf(filepath.Join(t.dir, name))
		switch {
		case at < 0 && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case at < 0 || got != t.states[at]:
			return fmt.Errorf("%s %w", path, ErrChanged)
		}
	}
	return nil
}

// LookAgain has All look at all files of the entries again. It reports whether it had
// looked at any.
func (c *Cache) LookAgain() (had bool) {
	c.looked.Range(func(dir, _ any) bool {
		had = true
		c.looked.Delete(dir)
		return true
	})
	return had
}
