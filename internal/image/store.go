package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/image/apt"
	"provium/internal/image/cache"
	"provium/internal/userland"
)

// Config is what all images are resolved with.
type Config struct {
	// CacheDir is the directory for everything that is derived or downloaded. It
	// is made when needed and may be shared by any number of processes.
	CacheDir string
	// Payload holds the guest binaries; the embedded ones if nil.
	Payload fs.FS
	// Overlay is an agent overlay file for all profiles that name none
	// (PROVIUM_OVERLAY).
	Overlay string
	// Executable is the path of the running binary, near which installed overlays
	// are searched; they are not used if it is empty.
	Executable string
	// HostRoot is the tree with the host's boot and lib/modules; "/" if empty.
	HostRoot string
	// HostRelease is the release of the running kernel; asked from it if empty.
	HostRelease string
	// Runner starts the package manager; without one no kernel is downloaded.
	Runner apt.Runner
	// Notice is called with a line of text before what takes long, and for each cached
	// file that was damaged; ignored if nil. It must be safe for concurrent use.
	Notice func(text string)
	// Download is called with each step of a download; ignored if nil.
	Download func(Download)
	// Waiting is called when a download begins, and what it returns at the end, so that
	// limits do not count that time; ignored if nil.
	Waiting func() (done func())
}

// Download is how far a download is.
type Download = apt.Progress

// Store resolves profiles to images. Its methods are safe for concurrent use, and
// several processes may use the same cache directory.
type Store struct {
	cfg     Config
	cache   *cache.Cache
	noticed *sync.Map // texts of noticeOnce
	// userlands are *madeUserland by source.
	userlands *sync.Map
	known     *known
	agent     func() (*builtin, error) // of the payload
	base      func() (*builtin, error) // the built-in initrd
	foreign   *sync.Map                // func() (*builtin, error) of other architectures
}

// noticeOnce is cfg.Notice for a text that is true of every image.
func (s *Store) noticeOnce(text string) {
	if _, twice := s.noticed.LoadOrStore(text, true); !twice {
		s.cfg.Notice(text)
	}
}

// Kinds of cache entries.
const (
	kindKernel  = "kernels"  // downloaded kernel packages, unpacked
	kindVmlinux = "unpacked" // uncompressed kernels, by digest of the bzImage
	kindInitrd  = "initrd"   // initrds with the agent, by key
)

// SharedKinds are the kinds of entries that are of use on other machines, too: what is known of
// the files of a host is not.
func SharedKinds() []string {
	return []string{kindKernel, kindVmlinux, kindInitrd, userland.KindArchive}
}

// NewStore checks the configuration. It writes nothing.
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
	if cfg.Download == nil {
		cfg.Download = func(Download) {}
	}
	kinds := []string{kindKernel, kindVmlinux, kindInitrd, userland.KindIndex, userland.KindArchive}
	s := &Store{cfg: cfg, cache: &cache.Cache{Dir: cfg.CacheDir, Kinds: kinds, Warn: cfg.Notice},
		noticed: new(sync.Map), userlands: new(sync.Map), known: new(known), foreign: new(sync.Map)}
	s.agent, s.base = builtinOf(s.payloadItems), builtinOf(s.baseItems)
	return s, nil
}

// Continue makes a store that nobody has used yet know what another one has found out, such as which files are as they
// were stored. Their configurations differ in Notice, Download and Waiting at most. Both may be used then.
func (s *Store) Continue(before *Store) {
	cfg := s.cfg
	*s = *before
	s.cfg = cfg
}

// ContentDigest returns a digest of the content of a disk's image, which is the same
// with fewer zeroes at the end and with holes in place of zeroes. It remembers digests
// by identity of the file.
func (s *Store) ContentDigest(ctx context.Context, path string) (string, error) {
	return s.cache.ContentDigest(ctx, path)
}

// CacheEntry is an entry of the image cache: a downloaded package, a kernel or an initrd.
type CacheEntry struct {
	cache.Entry
	// Note is what is known of it: a kernel's release.
	Note string
}

// noted adds notes to entries.
func noted(entries []cache.Entry) []CacheEntry {
	var out []CacheEntry
	for _, e := range entries {
		n := CacheEntry{Entry: e}
		if e.Kind == kindVmlinux {
			n.Note = vmlinuxNote(e.Path)
		}
		out = append(out, n)
	}
	return out
}

// List returns the cached entries, by kind and, within one, the last used first.
func (s *Store) List() ([]CacheEntry, error) {
	entries, err := s.cache.List()
	return noted(entries), err
}

// Entries is List without sizes and notes, for which files would be looked at.
func (s *Store) Entries() ([]CacheEntry, error) {
	entries, err := s.cache.Entries()
	out := make([]CacheEntry, len(entries))
	for i, e := range entries {
		out[i].Entry = e
	}
	return out, err
}

// Clean empties the cache and returns the entries it had. A process that uses an entry
// at that moment must resolve its image again.
func (s *Store) Clean() ([]CacheEntry, error) {
	entries, err := s.cache.Clean()
	return noted(entries), err
}

// Prune removes derived entries, the longest unused first, until the cache holds at most
// limit bytes, and returns what it removed. Entries used within keep stay, and so do
// downloaded kernels, which may not be available again.
func (s *Store) Prune(limit int64, keep time.Duration, now time.Time) ([]CacheEntry, error) {
	entries, err := s.cache.Prune(limit, keep, now, kindKernel)
	return noted(entries), err
}

// Bounds of the cache.
const (
	// Bound is how many bytes the cache may have on disk, downloaded kernels included.
	Bound = 20 << 30
	// unused is for how long an entry was not used that is removed for that.
	unused = 7 * 24 * time.Hour
	// trimInterval is how often it is looked at how much there is.
	trimInterval = time.Hour

	trimStamp = ".trimmed" // file in the cache, of the time of the last look
)

// Trim prunes the cache to Bound, unless that was done a moment ago. An entry that is larger is kept for as long as it
// is used.
func (s *Store) Trim(now time.Time) error {
	stamp := filepath.Join(s.cfg.CacheDir, trimStamp)
	if info, err := os.Stat(stamp); err == nil && now.Sub(info.ModTime()) < trimInterval {
		return nil
	}
	if err := os.MkdirAll(s.cfg.CacheDir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(stamp, now, now); err != nil {
		return err
	}
	_, err := s.Prune(Bound, unused, now)
	return err
}

// Check reads all files of an entry, whatever is known of them, and returns why it cannot
// be used. It removes it then.
func (s *Store) Check(ctx context.Context, e CacheEntry) error { return s.cache.Check(ctx, e.Entry) }
