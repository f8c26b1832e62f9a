// Package cache keeps what is derived or downloaded for images in a directory that
// any number of processes may share.
//
// It knows kinds and names of entries, and nothing of what is in them. An entry is
// complete once it has its name; processes that are killed leave only temporary
// entries, which Prune removes.
//
// Start reading at Cache.Install. digest.go remembers the digests of files.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is a cache directory. It is made when needed. All methods are safe for
// concurrent use, also by other processes.
type Cache struct {
	// Dir is the directory, an absolute path.
	Dir string
	// Kinds are the kinds of entries, in the order of List.
	Kinds []string
}

// Subdirectories that are no kinds.
const (
	dirDigest = "digests" // digests by identity of a file
	dirLock   = "locks"
)

// Path returns the path of an entry, or of a file in it. Without parts it is that of
// the kind.
func (c *Cache) Path(kind string, parts ...string) string {
	return filepath.Join(append([]string{c.Dir, kind}, parts...)...)
}

// Install makes the entry kind/name: fill writes it under a temporary path, and a
// rename puts it in place. If another process was faster, its entry stays.
func (c *Cache) Install(kind, name string, fill func(tmp string) error) error {
	return c.InstallNamed(kind, func(tmp string) (string, error) { return name, fill(tmp) })
}

// InstallNamed is Install for an entry whose name depends on its content.
func (c *Cache) InstallNamed(kind string, fill func(tmp string) (name string, err error)) error {
	dir := c.Path(kind)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return fmt.Errorf("make image cache entry: %w", err)
	}
	defer os.RemoveAll(tmp)
	entry := filepath.Join(tmp, "entry")
	name, err := fill(entry)
	if err != nil {
		return err
	}
	err = os.Rename(entry, filepath.Join(dir, name))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("install image cache entry: %w", err)
	}
	return nil
}

// MakeTemp makes a temporary directory for an entry of a kind that cannot be filled in
// one step. The caller removes it.
func (c *Cache) MakeTemp(kind string) (string, error) {
	dir := c.Path(kind)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make image cache: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".get-")
	if err != nil {
		return "", fmt.Errorf("make image cache: %w", err)
	}
	return tmp, nil
}

// Touch marks the entry at a path as used now, for the order of eviction. A cache that
// cannot be written to can still be read.
func Touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// lockPoll is the time between two tries for a lock that another process has.
const lockPoll = 20 * time.Millisecond

// Lock takes an advisory lock between processes, so that they do not do the same work
// twice. It is not needed for correctness, see Install.
func (c *Cache) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(c.Path(dirLock), 0o755); err != nil {
		return nil, fmt.Errorf("make image cache: %w", err)
	}
	f, err := os.OpenFile(c.Path(dirLock, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	timer := time.NewTicker(lockPoll)
	defer timer.Stop()
	for {
		// flock has no form that a context could interrupt.
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock image cache %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock image cache: %w", ctx.Err())
		case <-timer.C:
		}
	}
}

// Entry is one entry of the cache.
type Entry struct {
	Kind string
	// Name identifies the entry within its kind.
	Name string
	Path string
	// Size is the size of all its files, in bytes.
	Size int64
	// Used is when it was last used.
	Used time.Time
}

// List returns the entries, by kind and, within one, the last used first.
func (c *Cache) List() ([]Entry, error) {
	var out []Entry
	for _, kind := range c.Kinds {
		items, err := os.ReadDir(c.Path(kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list image cache: %w", err)
		}
		at := len(out)
		for _, item := range items {
			if strings.HasPrefix(item.Name(), ".") {
				continue
			}
			e := Entry{Kind: kind, Name: item.Name(), Path: c.Path(kind, item.Name())}
			info, err := item.Info()
			if err != nil {
				continue // removed meanwhile
			}
			e.Used = info.ModTime()
			e.Size = treeSize(e.Path)
			out = append(out, e)
		}
		slices.SortFunc(out[at:], func(a, b Entry) int { return b.Used.Compare(a.Used) })
	}
	return out, nil
}

// treeSize returns the size of all files below dir.
func treeSize(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// Clean empties the cache and returns the entries it had. A process that uses an entry
// at that moment must resolve its image again.
func (c *Cache) Clean() ([]Entry, error) {
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	// Locks stay: a process could hold a removed one, and another a new one.
	for _, kind := range append(slices.Clone(c.Kinds), dirDigest) {
		if err := os.RemoveAll(c.Path(kind)); err != nil {
			return nil, fmt.Errorf("clean image cache: %w", err)
		}
	}
	return entries, nil
}

// sweep removes temporary entries from before the given time, of processes that were
// killed. After a failure the next sweep tries again.
func (c *Cache) sweep(before time.Time) {
	for _, kind := range append(slices.Clone(c.Kinds), dirDigest) {
		items, _ := os.ReadDir(c.Path(kind))
		for _, i := range items {
			info, err := i.Info()
			if err == nil && strings.HasPrefix(i.Name(), ".") && info.ModTime().Before(before) {
				_ = os.RemoveAll(c.Path(kind, i.Name()))
			}
		}
	}
}

// Prune removes entries, the longest unused first, until the cache holds at most limit
// bytes, and returns what it removed. Entries of the kind spared and entries used
// within keep stay.
func (c *Cache) Prune(limit int64, keep time.Duration, now time.Time, spared string) ([]Entry, error) {
	c.sweep(now.Add(-24 * time.Hour))
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	var total int64
	for _, e := range entries {
		total += e.Size
	}
	slices.SortFunc(entries, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	var out []Entry
	for _, e := range entries {
		if total <= limit {
			break
		}
		if e.Kind == spared || now.Sub(e.Used) < keep {
			continue
		}
		if err := os.RemoveAll(e.Path); err != nil {
			return out, fmt.Errorf("prune image cache: %w", err)
		}
		total -= e.Size
		out = append(out, e)
	}
	return out, nil
}
