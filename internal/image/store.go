package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Runner runs a program of the host to its end. env is added to the caller's own
// environment, dir is the working directory. It must be safe for concurrent use.
type Runner interface {
	Run(ctx context.Context, dir string, env []string, name string, args ...string) (stdout, stderr []byte, err error)
}

// Config is what images are resolved with, for every profile alike.
type Config struct {
	// CacheDir is the directory for everything that is derived or downloaded. It
	// is made when needed and may be shared by any number of processes.
	CacheDir string
	// Payload holds the guest binaries; the embedded ones if nil.
	Payload fs.FS
	// Overlay is an agent overlay file for all profiles that name none
	// (PROVIUM_OVERLAY).
	Overlay string
	// Executable is the path of the running binary; installed overlays are
	// searched near it. None are if it is empty.
	Executable string
	// HostRoot is where the host's boot and lib/modules stand; "/" if empty.
	HostRoot string
	// HostRelease is the release of the running kernel; asked from it if empty.
	HostRelease string
	// Runner starts the package manager; without one no kernel is downloaded.
	Runner Runner
	// Notice is told in one line what takes long; ignored if nil. It may be
	// called from several goroutines.
	Notice func(text string)
}

// Store resolves profiles to images and owns the cache directory's layout. Its
// methods are safe for concurrent use, also by other processes.
type Store struct {
	cfg Config
}

// Parts of the cache directory, which are also the kinds of its entries.
const (
	kindKernel  = "kernels"  // downloaded kernel packages, unpacked
	kindVmlinux = "unpacked" // uncompressed kernels, by digest of the bzImage
	kindInitrd  = "initrd"   // initrds with the agent, by key
	dirDigest   = "digests"  // content digests by identity of a file
	dirLock     = "locks"
)

// NewStore checks the configuration. Nothing is written before it is needed.
func NewStore(cfg Config) (*Store, error) {
	if cfg.CacheDir == "" || !filepath.IsAbs(cfg.CacheDir) {
		return nil, fmt.Errorf("image cache directory %q is not an absolute path", cfg.CacheDir)
	}
	if cfg.Payload == nil {
		cfg.Payload = embeddedPayload()
	}
	if cfg.HostRoot == "" {
		cfg.HostRoot = "/"
	}
	if cfg.HostRelease == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, fmt.Errorf("read kernel release: %w", err)
		}
		cfg.HostRelease = unix.ByteSliceToString(u.Release[:])
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	return &Store{cfg: cfg}, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.CacheDir}, parts...)...)
}

// install makes the cache entry kind/name: fill writes it under a temporary path,
// and a rename puts it in place. If another process was faster, its entry stays.
func (s *Store) install(kind, name string, fill func(tmp string) error) error {
	return s.installNamed(kind, func(tmp string) (string, error) { return name, fill(tmp) })
}

// installNamed is install for an entry whose name depends on what is in it.
func (s *Store) installNamed(kind string, fill func(tmp string) (name string, err error)) error {
	dir := s.path(kind)
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

// touch marks an entry as used, for the order of eviction. A cache that cannot
// be written to is still good for reading.
func touch(path string, now time.Time) { _ = os.Chtimes(path, now, now) }

// lockPoll is how often a lock held by another process is tried again.
const lockPoll = 20 * time.Millisecond

// lock takes an advisory lock between processes, so that they do not do the same
// work twice. Correctness rests on install.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(s.path(dirLock), 0o755); err != nil {
		return nil, fmt.Errorf("make image cache: %w", err)
	}
	f, err := os.OpenFile(s.path(dirLock, name), os.O_CREATE|os.O_RDWR, 0o644)
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

// settleTime is how old a file has to be for its digest to be remembered: one
// that still changes within the clock's granularity can keep its identity.
const settleTime = 2 * time.Second

// fileDigest returns the SHA-256 of a file's content, in hex. It remembers the
// digests of files by identity, so that a large initrd is read once.
func (s *Store) fileDigest(ctx context.Context, path string) (string, error) {
	return s.digest(ctx, path, "", func(f *os.File, h hash.Hash) error {
		_, err := io.Copy(h, &contextReader{ctx, f})
		return err
	})
}

// ContentDigest names what a disk's image has: its content without regard to where
// it ends in zeroes, or where the file has holes, which cost nothing. It remembers
// digests like fileDigest.
func (s *Store) ContentDigest(ctx context.Context, path string) (string, error) {
	return s.digest(ctx, path, "content", func(f *os.File, h hash.Hash) error {
		return hashBlocks(ctx, f, h)
	})
}

// contentBlock is the unit in which zeroes are left out of a content's digest, in
// bytes.
const contentBlock = 1 << 20

// hashBlocks adds the blocks of a file that are not zero, each behind its number.
func hashBlocks(ctx context.Context, f *os.File, h hash.Hash) error {
	block, zeroes := make([]byte, contentBlock), make([]byte, contentBlock)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		switch {
		case err == unix.ENXIO:
			return nil
		case err == nil:
			at = max(at, data/contentBlock*contentBlock)
		}
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return nil
		}
		clear(block[n:])
		if !bytes.Equal(block, zeroes) {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
			h.Write(block)
		}
		at += contentBlock
	}
}

// digest gives a file's digest of a kind, as add makes it or as it is remembered.
func (s *Store) digest(ctx context.Context, path, kind string, add func(f *os.File, h hash.Hash) error) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	id := hashStrings(fmt.Sprintf("%s%d:%d:%d:%d.%d:%d.%d", kind, st.Dev, st.Ino, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec))
	memo := s.path(dirDigest, id)
	if text, err := os.ReadFile(memo); err == nil && isDigest(string(text)) {
		return string(text), nil
	}
	h := sha256.New()
	if err := add(f, h); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if changed := time.Unix(st.Ctim.Unix()); time.Since(changed) > settleTime {
		// Without the note the next run reads the file again, which is no error.
		_ = s.install(dirDigest, id, func(tmp string) error {
			return os.WriteFile(tmp, []byte(sum), 0o644)
		})
	}
	return sum, nil
}

func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size
}

func hashStrings(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		io.WriteString(h, p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// CacheEntry is one item of the image cache.
type CacheEntry struct {
	// Kind is "kernels", "vmlinux" or "initrd".
	Kind string
	// Name identifies the entry within its kind: a package or a digest.
	Name string
	// Path is where it stands.
	Path string
	// Size is what it holds, in bytes.
	Size int64
	// Used is when it was last used.
	Used time.Time
	// Note says what it is, where that is known: a kernel's release.
	Note string
}

// List returns what is cached, by kind and, within one, the last used first.
func (s *Store) List() ([]CacheEntry, error) {
	var out []CacheEntry
	for _, kind := range []string{kindKernel, kindVmlinux, kindInitrd} {
		items, err := os.ReadDir(s.path(kind))
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
			e := CacheEntry{Kind: kind, Name: item.Name(), Path: s.path(kind, item.Name())}
			info, err := item.Info()
			if err != nil {
				continue // removed meanwhile
			}
			e.Used = info.ModTime()
			e.Size = treeSize(e.Path)
			if kind == kindVmlinux {
				var v vmlinuxInfo
				if text, err := os.ReadFile(filepath.Join(e.Path, infoFile)); err == nil && json.Unmarshal(text, &v) == nil {
					e.Note = v.Version
					if v.Reason != "" {
						e.Note = strings.TrimSpace(e.Note + " (booted compressed: " + v.Reason + ")")
					}
				}
			}
			out = append(out, e)
		}
		slices.SortFunc(out[at:], func(a, b CacheEntry) int { return b.Used.Compare(a.Used) })
	}
	return out, nil
}

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

// Clean empties the cache and returns what was in it. A process that uses an
// entry at that moment has to resolve its image again.
func (s *Store) Clean() ([]CacheEntry, error) {
	entries, err := s.List()
	if err != nil {
		return nil, err
	}
	// Locks stay: removing one would split its holders from those who wait.
	for _, kind := range []string{kindKernel, kindVmlinux, kindInitrd, dirDigest} {
		if err := os.RemoveAll(s.path(kind)); err != nil {
			return nil, fmt.Errorf("clean image cache: %w", err)
		}
	}
	return entries, nil
}

// sweep removes what processes that were killed left behind before the given
// time. Failures are harmless: the next sweep comes.
func (s *Store) sweep(before time.Time) {
	for _, kind := range []string{kindKernel, kindVmlinux, kindInitrd, dirDigest} {
		items, _ := os.ReadDir(s.path(kind))
		for _, i := range items {
			info, err := i.Info()
			if err == nil && strings.HasPrefix(i.Name(), ".") && info.ModTime().Before(before) {
				_ = os.RemoveAll(s.path(kind, i.Name()))
			}
		}
	}
}

// Prune removes derived entries, the longest unused first, until the cache holds
// at most limit bytes, and returns what it removed. Downloaded kernels, which
// may not be there to download again, and entries used within keep stay.
func (s *Store) Prune(limit int64, keep time.Duration, now time.Time) ([]CacheEntry, error) {
	s.sweep(now.Add(-24 * time.Hour))
	entries, err := s.List()
	if err != nil {
		return nil, err
	}
	var total int64
	for _, e := range entries {
		total += e.Size
	}
	slices.SortFunc(entries, func(a, b CacheEntry) int { return a.Used.Compare(b.Used) })
	var out []CacheEntry
	for _, e := range entries {
		if total <= limit {
			break
		}
		if e.Kind == kindKernel || now.Sub(e.Used) < keep {
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
