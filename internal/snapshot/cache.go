package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// Cache is a directory of snapshots by key, shared by any number of processes.
// An entry is KEY.snap; KEY.ok beside it notes which file was verified, by its state. Its
// time is that of the entry's last use, and of the entry itself as long as there was none.
type Cache struct {
	Dir   string
	Limit int64 // bytes on disk that Prune leaves; 0 is no limit
}

// ErrMiss is returned for a key without an entry.
var ErrMiss = errors.New("snapshot is not in the cache")

// Path returns the path of a key's entry. Keys are file names.
func (c *Cache) Path(key string) string { return filepath.Join(c.Dir, key+".snap") }

// Has reports whether there is an entry, which may be damaged.
func (c *Cache) Has(key string) bool {
	_, err := os.Stat(c.Path(key))
	return err == nil
}

// Choose returns the key of an entry that one of the forms describes, or of the first form
// where there is none. Each form is a description that can be written as JSON.
func (c *Cache) Choose(forms ...any) string {
	var first string
	for _, form := range forms {
		text, err := json.Marshal(form)
		if err != nil {
			return ""
		}
		sum := sha256.Sum256(text)
		key := hex.EncodeToString(sum[:20])
		if c.Has(key) {
			return key
		}
		if first == "" {
			first = key
		}
	}
	return first
}

func (c *Cache) notePath(key string) string { return filepath.Join(c.Dir, key+".ok") }

// Open opens and verifies the entry of a key. Only the first use of a file reads all of
// it. A file that somebody else may have written is an error, whatever is in it, and so is
// the entry of another key.
func (c *Cache) Open(ctx context.Context, key string, now time.Time) (*Reader, error) {
	r, err := c.OpenUnnamed(ctx, key, now)
	if err != nil || r.manifest.Key == key {
		return r, err
	}
	r.Close()
	if r.manifest.Key != "" {
		return nil, &Error{r.path, damaged("it was stored as %s", r.manifest.Key)}
	}
	// Of an earlier version, whose entries do not say whose they are.
	if err := c.Evict(key); err != nil {
		return nil, err
	}
	return nil, ErrMiss
}

// OpenUnnamed is Open for a file that was not made by Create: the caller knows by its
// digest that it is the right one.
func (c *Cache) OpenUnnamed(ctx context.Context, key string, now time.Time) (*Reader, error) {
	r, err := Open(c.Path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMiss
	}
	if err != nil {
		return nil, err
	}
	if r.distrust != nil {
		r.Close()
		return nil, &Error{r.path, r.distrust}
	}
	note, err := os.ReadFile(c.notePath(key))
	if err == nil && bytes.Equal(note, r.state.text()) {
		_ = os.Chtimes(c.notePath(key), now, now) // else it is dropped a little early
		return r, nil
	}
	if err := r.Verify(ctx); err != nil {
		r.Close()
		return nil, err
	}
	// Without the note the next user verifies again.
	if c.note(key, r.state) == nil {
		_ = os.Chtimes(c.notePath(key), now, now)
	}
	return r, nil
}

// Keys returns the keys of all entries.
func (c *Cache) Keys() ([]string, error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var keys []string
	for _, e := range entries {
		if key, ok := strings.CutSuffix(e.Name(), ".snap"); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Check reads an entry through, whatever is known of it, and returns why it cannot be
// used. It removes it then, unless it is that of another version of Provium.
func (c *Cache) Check(ctx context.Context, key string) error {
	err := CheckFile(ctx, c.Path(key))
	if err == nil || ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) || IsForeign(err) {
		return nil
	}
	return errors.Join(err, c.Evict(key))
}

// IsForeign reports whether a snapshot cannot be used since another version of Provium has written it.
func IsForeign(err error) bool {
	var version *VersionError
	return errors.As(err, &version)
}

// CheckFile reads a snapshot through, and returns why it cannot be used.
func CheckFile(ctx context.Context, path string) error {
	r, err := Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.distrust != nil {
		return &Error{path, r.distrust}
	}
	return r.VerifySlowly(ctx)
}

// Trust marks the entry of a key as verified, if it still is this file.
func (c *Cache) Trust(key string, id FileID) error {
	var st unix.Stat_t
	err := unix.Stat(c.Path(key), &st)
	if err == nil && fileID(&st) == id {
		return c.note(key, stateOf(&st))
	}
	// Another process has replaced or removed it.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot cache: %w", &fs.PathError{Op: "stat", Path: c.Path(key), Err: err})
	}
	return nil
}

// note writes which file was verified.
func (c *Cache) note(key string, s state) error {
	f, err := os.CreateTemp(c.Dir, tempPrefix+"*")
	if err != nil {
		return fmt.Errorf("snapshot cache: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(s.text())
	if err = errors.Join(err, f.Close()); err == nil {
		unused := time.Unix(0, s.MtimeNS)
		err = os.Chtimes(f.Name(), unused, unused)
	}
	if err == nil {
		err = os.Rename(f.Name(), c.notePath(key))
	}
	if err != nil {
		return fmt.Errorf("snapshot cache: %w", err)
	}
	return nil
}

func (s state) text() []byte {
	return fmt.Appendf(nil, "%d %d %d %d %d\n", s.Dev, s.Ino, s.Size, s.MtimeNS, s.ctimeNS)
}

// Create starts the entry of a key, in place of what is there.
func (c *Cache) Create(key string, ram int64) (*Writer, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot cache: %w", err)
	}
	w, err := Create(c.Path(key), ram)
	if err == nil {
		w.key = key
	}
	return w, err
}

// Adopt moves a snapshot that was made elsewhere into the cache, from a path on the same file
// system. It fails if the snapshot is not that of the key, or damaged. The first use need not read it again.
func (c *Cache) Adopt(ctx context.Context, key, path string) error {
	r, err := Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.manifest.Key != key {
		return &Error{path, damaged("it was stored as %s", r.manifest.Key)}
	}
	if err := r.Verify(ctx); err != nil {
		return err
	}
	err = os.MkdirAll(c.Dir, 0o700)
	if err == nil {
		err = os.Rename(path, c.Path(key))
	}
	if err != nil {
		return fmt.Errorf("snapshot cache: %w", err)
	}
	return c.Trust(key, r.ID())
}

// Evict removes an entry; machines that run from it go on.
func (c *Cache) Evict(key string) error {
	err := errors.Join(ignoreMissing(os.Remove(c.Path(key))), ignoreMissing(os.Remove(c.notePath(key))))
	if err != nil {
		return fmt.Errorf("snapshot cache: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// abandoned is the age from which on a temporary file is that of a writer that was killed.
const abandoned = time.Hour

// trialShare is the share of the limit, as a divisor, above which entries that were never
// used are removed first: entries that are made and not used again, as those of a guest
// whose disks differ each time, must not displace used ones. An entry that each run of a
// suite uses once has to last from one run to the next, so all of these need room together.
const trialShare = 2

// Entry is an entry of a Cache.
type Entry struct {
	Key  string
	Size int64 // bytes on disk
	Made time.Time
	Used time.Time // the last time; Made if it never was
	// Manifest says what is in it; nil if it cannot be read.
	Manifest *Manifest
	// Foreign says that another version of Provium has written it.
	Foreign bool
}

// isProven reports whether the entry was used since it was made.
func (e *Entry) isProven() bool { return e.Used.After(e.Made) }

// entries returns all entries without their manifests, those first that were not used for
// the longest time. file is called for what is no entry.
func (c *Cache) entries(file func(fs.FileInfo)) ([]Entry, error) {
	files, err := os.ReadDir(c.Dir)
	if err != nil {
		if err = ignoreMissing(err); err != nil {
			err = fmt.Errorf("snapshot cache: %w", err)
		}
		return nil, err
	}
	var all []Entry
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			continue // removed meanwhile
		}
		key, ok := strings.CutSuffix(f.Name(), ".snap")
		if !ok || strings.HasPrefix(f.Name(), tempPrefix) {
			file(info)
			continue
		}
		e := Entry{Key: key, Made: info.ModTime(), Used: info.ModTime()}
		if e.Size, err = DiskSize(c.Path(key)); err != nil {
			continue
		}
		if note, err := os.Stat(c.notePath(key)); err == nil && note.ModTime().After(e.Used) {
			e.Used = note.ModTime()
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(a.Used.Compare(b.Used), strings.Compare(a.Key, b.Key)) })
	return all, nil
}

// List returns all entries, the one that was used last first.
func (c *Cache) List() ([]Entry, error) {
	all, err := c.entries(func(fs.FileInfo) {})
	for i := range all {
		r, err := Open(c.Path(all[i].Key))
		if err != nil {
			all[i].Foreign = IsForeign(err)
			continue
		}
		all[i].Manifest = r.Manifest()
		r.Close()
	}
	slices.Reverse(all)
	return all, err
}

// Clean removes all entries and returns them, without their manifests. Machines that run from
// them go on.
func (c *Cache) Clean(now time.Time) (removed []Entry, err error) {
	var failed error
	all, err := c.entries(c.sweep(now, &failed))
	for _, e := range all {
		if err := c.Evict(e.Key); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		removed = append(removed, e)
	}
	return removed, errors.Join(err, failed)
}

// sweep returns what removes the temporary files of writers that were killed. Errors are
// joined to failed.
func (c *Cache) sweep(now time.Time, failed *error) func(fs.FileInfo) {
	return func(info fs.FileInfo) {
		if strings.HasPrefix(info.Name(), tempPrefix) && now.Sub(info.ModTime()) > abandoned {
			*failed = errors.Join(*failed, ignoreMissing(os.Remove(filepath.Join(c.Dir, info.Name()))))
		}
	}
}

// TooLargeError is returned for entries that a cache does not keep: one alone is larger than its limit.
type TooLargeError struct{ Size, Limit int64 } // in bytes

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("it takes %.1f GiB, and all that is kept may take %.1f GiB", gib(e.Size), gib(e.Limit))
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// Prune removes the entries that were not used for the longest time, until the rest fits
// the limit, and the temporary files of writers that were killed. Entries that are larger than
// the limit go first, with a TooLargeError: others are not removed for them.
func (c *Cache) Prune(now time.Time) error {
	var failed error
	all, err := c.entries(c.sweep(now, &failed))
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e Entry) bool {
		if c.Limit <= 0 || e.Size <= c.Limit {
			return false
		}
		failed = errors.Join(failed, c.Evict(e.Key), &TooLargeError{e.Size, c.Limit})
		return true
	})
	var proven, trial []Entry
	var total, trials int64
	for _, e := range all {
		total += e.Size
		if e.isProven() {
			proven = append(proven, e)
		} else {
			trial = append(trial, e)
			trials += e.Size
		}
	}
	for c.Limit > 0 && total > c.Limit && len(proven)+len(trial) > 0 {
		from := &proven
		if len(proven) == 0 || len(trial) > 1 && trials > c.Limit/trialShare {
			from = &trial
			trials -= trial[0].Size
		}
		e := (*from)[0]
		*from = (*from)[1:]
		if err := c.Evict(e.Key); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		total -= e.Size
	}
	return failed
}
