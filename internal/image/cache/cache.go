// Package cache keeps what is derived or downloaded for images in a directory that
// any number of processes may share.
//
// It knows kinds and names of entries, and nothing of what is in them. An entry is a
// directory whose name ends with a digest of all its files, so what was changed since it
// was made is never returned. An entry is complete once it has its name; processes that
// are killed leave only temporary entries, which Prune removes.
//
// Start reading at Cache.Make. digest.go computes and remembers digests, looked.go knows
// what needs not be looked at again.
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
	"sync"
	"syscall"
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
	// Warn is called with a line of text for each damaged entry that is removed; ignored
	// if nil. It must be safe for concurrent use.
	Warn func(text string)

	trees  sync.Map // *tree by directory, as it was at the last look
	looked sync.Map // *tree by directory of an entry, see All
}

// Subdirectories that are no kinds.
const (
	dirDigest = "digests" // digests by identity of a file
	dirLock   = "locks"
)

// digestMark stands in the name of an entry between its own name and its digest.
const digestMark = "@"

// Path returns the path of a kind, or of a file in it.
func (c *Cache) Path(kind string, parts ...string) string {
	return filepath.Join(append([]string{c.Dir, kind}, parts...)...)
}

func (c *Cache) warn(format string, args ...any) {
	if c.Warn != nil {
		c.Warn(fmt.Sprintf(format, args...))
	}
}

// Make returns the directory of the entry kind/name. If it is missing or damaged, fill
// writes the files of a new one below a temporary path, and a rename puts it in place.
func (c *Cache) Make(ctx context.Context, kind, name string, fill func(dir string) error) (string, error) {
	if dir := c.find(ctx, kind, name, c.check, false); dir != "" {
		touch(dir)
		return dir, nil
	}
	unlock, err := c.Lock(ctx, kind)
	if err != nil {
		return "", err
	}
	defer unlock()
	if dir := c.find(ctx, kind, name, c.check, true); dir != "" {
		return dir, nil // another process was faster
	}
	return c.Install(ctx, kind, func(dir string) (string, error) { return name, fill(dir) })
}

// All returns the directories of the intact entries of a kind whose names are wanted, by name.
// It removes damaged ones, and adds the digest to what earlier versions left without one.
//
// All looks at all files of an entry once: those that are used of it must be checked with
// Unchanged.
func (c *Cache) All(ctx context.Context, kind string, wanted func(name string) bool) (dirs []string, err error) {
	var bad bool
	list := func(repair bool) {
		dirs, bad = nil, false
		items, _ := os.ReadDir(c.Path(kind))
		for _, i := range items {
			switch name, _, ok := strings.Cut(i.Name(), digestMark); {
			case strings.HasPrefix(name, "."), !wanted(name):
			case !ok && repair:
				c.adopt(ctx, kind, name)
				bad = true
			default:
				if dir := c.find(ctx, kind, name, c.checkOnce, repair); dir == "" {
					bad = true
				} else if !slices.Contains(dirs, dir) {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	if list(false); !bad || ctx.Err() != nil {
		return dirs, ctx.Err()
	}
	unlock, err := c.Lock(ctx, kind)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list(true)
	list(false) // with those that were adopted
	return dirs, ctx.Err()
}

// adopt adds the digest to the name of an entry from before entries had one.
func (c *Cache) adopt(ctx context.Context, kind, name string) {
	dir := c.Path(kind, name)
	digest, err := c.treeDigest(ctx, dir, known)
	if err == nil {
		err = os.Rename(dir, dir+digestMark+digest)
	}
	if err != nil && ctx.Err() == nil {
		c.warn("%s in the image cache is not used: %v", dir, err)
	}
}

// checker returns why the entry in dir cannot be used.
type checker func(ctx context.Context, dir, digest string) error

// find returns the directory of the intact entry kind/name, or "". With repair it removes
// damaged ones: the caller must hold the lock then, else another process may just have
// made the entry anew.
func (c *Cache) find(ctx context.Context, kind, name string, check checker, repair bool) string {
	items, err := os.ReadDir(c.Path(kind))
	if err != nil {
		return ""
	}
	for _, i := range items {
		digest, ok := strings.CutPrefix(i.Name(), name+digestMark)
		if !ok {
			continue
		}
		dir := c.Path(kind, i.Name())
		err := check(ctx, dir, digest)
		if err == nil {
			return dir
		}
		if !repair || ctx.Err() != nil || isShortage(err) {
			continue
		}
		c.warn("%s in the image cache is damaged and is made again: %v", dir, err)
		if err := removeAll(dir); err != nil {
			c.warn("%v", err)
		}
	}
	return ""
}

// Check reads all files of an entry, whatever is remembered of them, and returns why it
// cannot be used. It removes it then.
func (c *Cache) Check(ctx context.Context, e Entry) error {
	_, digest, ok := strings.Cut(filepath.Base(e.Path), digestMark)
	if !ok {
		return nil
	}
	got, err := c.treeDigest(ctx, e.Path, readAll)
	if err == nil && got != digest {
		err = ErrChanged
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s %w", e.Path, err), removeAll(e.Path))
}

// ErrChanged is wrapped in the error for an entry whose files are not what they were.
var ErrChanged = errors.New("its files are not those that were stored")

// isShortage reports whether the host lacks what it takes to look at a file, which says
// nothing about the file.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// check is a checker that looks at all files of the entry.
func (c *Cache) check(ctx context.Context, dir, digest string) error {
	got, err := c.treeDigest(ctx, dir, known)
	if err == nil && got != digest {
		err = ErrChanged
	}
	return err
}

// removeAll is os.RemoveAll, also for directories whose modes do not allow that.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Install makes an entry: fill writes its files below a temporary path and returns its
// name, and a rename puts it in place. It returns the directory of the entry.
func (c *Cache) Install(ctx context.Context, kind string, fill func(dir string) (name string, err error)) (string,
	error) {
	tmp, err := c.MakeTemp(kind)
	if err != nil {
		return "", err
	}
	defer removeAll(tmp)
	defer holdTemp(tmp)()
	entry := filepath.Join(tmp, "entry")
	if err := os.Mkdir(entry, 0o755); err != nil {
		return "", c.explain("make image cache entry", err)
	}
	name, err := fill(entry)
	if err != nil {
		return "", c.explain("", err)
	}
	var digest string
	if err = tighten(entry); err == nil {
		// Nobody else knows the files: what is remembered of them stays true.
		digest, err = c.treeDigest(ctx, entry, ownFiles)
	}
	if err != nil {
		return "", c.explain("install image cache entry", err)
	}
	dir := c.Path(kind, name+digestMark+digest)
	err = os.Rename(entry, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		err = c.check(ctx, dir, digest) // another process was faster
	}
	if err != nil {
		return "", c.explain("install image cache entry", err)
	}
	return dir, nil
}

// explain returns an error of a write to the cache, and what to do about a full disk.
func (c *Cache) explain(what string, err error) error {
	if what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w; the image cache is in %s: make room on its disk, or empty it with `provium image clean`",
			err, c.Dir)
	}
	return err
}

// tighten takes the right to write an entry from others, which a umask or a package may
// have given them.
func tighten(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode()&0o022 != 0 {
			err = os.Chmod(path, info.Mode()&^0o022)
		}
		return err
	})
}

// MakeTemp makes a temporary directory for an entry of a kind that cannot be filled in
// one step. The caller removes it.
func (c *Cache) MakeTemp(kind string) (string, error) {
	dir := c.Path(kind)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		dir, err = os.MkdirTemp(dir, ".new-")
	}
	if err != nil {
		return "", c.explain("make image cache", err)
	}
	return dir, nil
}

// holdTemp keeps Clean from removing a temporary directory until release is called. Where a file system has no locks,
// nothing does.
func holdTemp(dir string) (release func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_SH)
	return func() { f.Close() }
}

// isHeld reports whether another process, or this one, fills a temporary directory.
func isHeld(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// TempDir makes a temporary directory of a kind that several processes use one after the
// other. Its name must start with a dot. Like all of these it is removed a day after its last
// use.
func (c *Cache) TempDir(kind, name string) (string, error) {
	dir := c.Path(kind, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", c.explain("make image cache", err)
	}
	touch(dir)
	return dir, nil
}

// touch marks an entry as used now, for the order of eviction. The digests of its files
// stay known: only the time of their directory changes. A cache that cannot be written to
// can still be read.
func touch(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
}

// Touch is touch for the entry that has the file at path.
func (c *Cache) Touch(path string) {
	if rel, err := filepath.Rel(c.Dir, path); err == nil {
		if parts := strings.SplitN(rel, "/", 3); len(parts) == 3 && parts[0] != ".." {
			touch(c.Path(parts[0], parts[1]))
		}
	}
}

// lockPoll is the time between two tries for a lock that another process has.
const lockPoll = 20 * time.Millisecond

// Lock takes an advisory lock between processes, so that they do not do the same work
// twice. It is not needed for correctness, see Install.
func (c *Cache) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(c.Path(dirLock), 0o755); err != nil {
		return nil, c.explain("make image cache", err)
	}
	path := c.Path(dirLock, name)
	f, err := openLock(path)
	if errors.Is(err, unix.EISDIR) && os.Remove(path) == nil {
		f, err = openLock(path)
	}
	if errors.Is(err, unix.EISDIR) {
		c.warn("%s, a lock of the image cache, is a directory: work may be done twice; remove it", path)
		return func() {}, nil
	}
	if err != nil {
		return nil, c.explain("lock image cache", err)
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
			return nil, fmt.Errorf("lock image cache: %w", context.Cause(ctx))
		case <-timer.C:
		}
	}
}

func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644) }

// Entry is one entry of the cache.
type Entry struct {
	Kind string
	// Name identifies the entry within its kind.
	Name string
	Path string
	// Size is the size of all its files, in bytes. Holes do not count.
	Size int64
	// Used is when it was last used.
	Used time.Time
}

// List returns the entries, by kind and, within one, the last used first.
func (c *Cache) List() ([]Entry, error) {
	out, err := c.Entries()
	for i := range out {
		out[i].Size = treeSize(out[i].Path)
	}
	return out, err
}

// Entries is List without sizes, for which all files would be looked at.
func (c *Cache) Entries() ([]Entry, error) {
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
			name, _, _ := strings.Cut(item.Name(), digestMark)
			e := Entry{Kind: kind, Name: name, Path: c.Path(kind, item.Name())}
			info, err := item.Info()
			if err != nil {
				continue // removed meanwhile
			}
			e.Used = info.ModTime()
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
				size := info.Size()
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					size = min(size, st.Blocks*512)
				}
				n += size
			}
		}
		return nil
	})
	return n
}

// Clean empties the cache and returns the entries it had. A process that uses an entry
// at that moment must resolve its image again; one that is being made is completed.
func (c *Cache) Clean() ([]Entry, error) {
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	// Locks stay: a process could hold a removed one, and another a new one.
	for _, kind := range append(slices.Clone(c.Kinds), dirDigest) {
		items, _ := os.ReadDir(c.Path(kind))
		for _, i := range items {
			dir := c.Path(kind, i.Name())
			if strings.HasPrefix(i.Name(), ".") && isHeld(dir) {
				continue
			}
			if err := removeAll(dir); err != nil {
				return nil, fmt.Errorf("clean image cache: %w", err)
			}
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
				_ = removeAll(c.Path(kind, i.Name()))
			}
		}
	}
}

// Prune removes entries, the longest unused first, until the cache holds at most limit
// bytes, and returns what it removed. Entries of the kind spared and entries used
// within keep stay. One that is larger than the limit goes first, and takes no room of others
// while it stays.
func (c *Cache) Prune(limit int64, keep time.Duration, now time.Time, spared string) ([]Entry, error) {
	c.sweep(now.Add(-24 * time.Hour))
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	var total int64
	var large, rest []Entry
	for _, e := range entries {
		if e.Size > limit && e.Kind != spared {
			large = append(large, e)
		} else {
			rest = append(rest, e)
			total += e.Size
		}
	}
	slices.SortFunc(rest, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	var out []Entry
	for i, e := range slices.Concat(large, rest) {
		if i >= len(large) && total <= limit {
			break
		}
		if e.Kind == spared || now.Sub(e.Used) < keep {
			continue
		}
		if info, err := os.Stat(e.Path); err != nil || !info.ModTime().Equal(e.Used) {
			continue // somebody uses it, or has removed it
		}
		if err := removeAll(e.Path); err != nil {
			return out, fmt.Errorf("prune image cache: %w", err)
		}
		if i >= len(large) {
			total -= e.Size
		}
		out = append(out, e)
	}
	return out, nil
}
