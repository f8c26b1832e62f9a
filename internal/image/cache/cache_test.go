package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill returns a function that fills an entry with a file.
func fill(content string) func(dir string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644) }
}

// every wants all entries.
func every(string) bool { return true }

func TestMake(t *testing.T) {
	c := &Cache{Dir: filepath.Join(t.TempDir(), "cache"), Kinds: []string{"a", "b"}}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("empty: %v, %v", list, err)
	}
	for _, content := range []string{"first", "second"} {
		dir, err := c.Make(t.Context(), "a", "one", fill(content))
		must(t, err)
		if p, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(p) != "first" {
			t.Errorf("%q, %v", p, err)
		}
	}
	failed := errors.New("failed")
	if _, err := c.Make(t.Context(), "b", "two", func(string) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	_, err := c.Install(t.Context(), "b", func(dir string) (string, error) { return "three", fill("123")(dir) })
	must(t, err)
	list, err := c.List()
	if err != nil || len(list) != 2 || list[0].Name != "one" || list[0].Size != 5 || list[1].Kind != "b" ||
		list[1].Name != "three" {
		t.Errorf("%+v, %v", list, err)
	}
	gone, err := c.Clean()
	if err != nil || len(gone) != 2 {
		t.Errorf("%v, %v", gone, err)
	}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("after clean: %v, %v", list, err)
	}
}

// TestDamagedEntry damages an entry in every way. It must be made again with one warning,
// and never be returned as it is.
func TestDamagedEntry(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"truncated":    func(dir string) error { return os.Truncate(filepath.Join(dir, "file"), 3) },
		"changed":      func(dir string) error { return flip(filepath.Join(dir, "file")) },
		"replaced":     func(dir string) error { return replace(filepath.Join(dir, "file"), "abcdefgh") },
		"removed":      func(dir string) error { return os.Remove(filepath.Join(dir, "file")) },
		"added":        func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o644) },
		"link":         func(dir string) error { return relink(filepath.Join(dir, "file")) },
		"for everyone": func(dir string) error { return os.Chmod(filepath.Join(dir, "file"), 0o666) },
		"open":         func(dir string) error { return os.Chmod(dir, 0o777) },
		"foreign":      func(dir string) error { return os.Chown(filepath.Join(dir, "file"), 1234, 1234) },
		"a foreign one": func(dir string) error {
			return errors.Join(os.Chown(dir, 1234, 1234), os.Chmod(dir, 0))
		},
	} {
		for _, all := range []bool{false, true} {
			var warnings []string
			c := &Cache{Dir: t.TempDir(), Warn: func(text string) { warnings = append(warnings, text) }}
			dir, err := c.Make(t.Context(), "k", "one", fill("contents"))
			must(t, err)
			if err := damage(dir); err != nil {
				if strings.Contains(name, "foreign") {
					continue // this user cannot give files away
				}
				t.Fatal(err)
			}
			if all {
				if dirs, err := c.All(t.Context(), "k", every); err != nil || len(dirs) != 0 {
					t.Errorf("%s: All returns %v, %v", name, dirs, err)
				}
			}
			again, err := c.Make(t.Context(), "k", "one", fill("contents"))
			must(t, err)
			if p, err := os.ReadFile(filepath.Join(again, "file")); err != nil || string(p) != "contents" {
				t.Errorf("%s: %q, %v", name, p, err)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], dir+" in the image cache is damaged") {
				t.Errorf("%s: warnings %q", name, warnings)
			}
		}
	}
}

// flip changes a bit and leaves size and time of change as they were.
func flip(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p[0] ^= 1
	return errors.Join(os.WriteFile(path, p, 0o644), os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// replace puts another file in place of one, with its time of change.
func replace(path, content string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+"~", []byte(content), 0o644), os.Chtimes(path+"~", info.ModTime(),
		info.ModTime()), os.Rename(path+"~", path))
}

// relink replaces a file by a link to a copy of it.
func relink(path string) error {
	elsewhere := filepath.Join(filepath.Dir(path), "../../copy")
	return errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
}

// TestAdopt uses an entry that an earlier version made, which has no digest.
func TestAdopt(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), Warn: func(text string) { t.Error(text) }}
	old := c.Path("k", "old")
	must(t, os.MkdirAll(old, 0o755))
	must(t, fill("contents")(old))
	for range 2 {
		dirs, err := c.All(t.Context(), "k", every)
		if err != nil || len(dirs) != 1 || !strings.HasPrefix(dirs[0], old+digestMark) {
			t.Fatalf("%v, %v", dirs, err)
		}
	}
}

// TestDamagedMemo damages what is remembered of digests.
func TestAllLooksAtWantedEntriesAlone(t *testing.T) {
	var warnings []string
	c := &Cache{Dir: t.TempDir(), Kinds: []string{"k"}, Warn: func(text string) { warnings = append(warnings, text) }}
	for _, name := range []string{"one", "other"} {
		dir, err := c.Make(t.Context(), "k", name, fill(name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("damaged "+name), 0o644))
	}
	dirs, err := c.All(t.Context(), "k", func(name string) bool { return name == "one" })
	if err != nil || len(dirs) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "/one@") {
		t.Errorf("%q, %v, warnings %q", dirs, err, warnings)
	}
	if list, err := c.List(); err != nil || len(list) != 1 || list[0].Name != "other" {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDamagedMemo(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	value := Key("value")
	for name, damage := range map[string]func(path string) error{
		"truncated":    func(path string) error { return os.Truncate(path, 20) },
		"empty":        func(path string) error { return os.Truncate(path, 0) },
		"changed":      flip,
		"replaced":     func(path string) error { return replace(path, Key("other")) },
		"of another":   func(path string) error { return os.Rename(c.memo("another"), path) },
		"for everyone": func(path string) error { return os.Chmod(path, 0o666) },
		"foreign":      func(path string) error { return os.Chown(path, 1234, 1234) },
		"a directory":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		c.Remember("it", value)
		c.Remember("another", Key("wrong"))
		if got, ok := c.Recall("it"); !ok || got != value {
			t.Fatalf("%q", got)
		}
		if err := damage(c.memo("it")); err != nil && name == "foreign" {
			continue
		}
		if got, ok := c.Recall("it"); ok {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestLockIsDirectory has directories stand where locks should be.
func TestLockIsDirectory(t *testing.T) {
	var warnings []string
	c := &Cache{Dir: t.TempDir(), Warn: func(text string) { warnings = append(warnings, text) }}
	must(t, os.MkdirAll(c.Path(dirLock, "full", "x"), 0o755))
	must(t, os.MkdirAll(c.Path(dirLock, "empty"), 0o755))
	for _, name := range []string{"empty", "full"} {
		if len(warnings) > 0 {
			t.Errorf("an empty directory: %q", warnings)
		}
		_, err := c.Make(t.Context(), name, "one", fill("x"))
		must(t, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], c.Path(dirLock, "full")+", a lock of the image cache, is "+
		"a directory") {
		t.Errorf("%q", warnings)
	}
}

// TestDiskFull fills the disk of the cache.
func TestDiskFull(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	if err := unix.Mount("tmpfs", c.Dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(c.Dir, unix.MNT_DETACH)
	_, err := c.Make(t.Context(), "k", "one", fill(strings.Repeat("x", 100<<10)))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the image cache is in "+c.Dir) {
		t.Error(err)
	}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if items, err := os.ReadDir(c.Path("k")); err != nil || len(items) != 0 {
		t.Errorf("left over: %v, %v", items, err)
	}
}

func TestPrune(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), Kinds: []string{"a", "spared"}}
	now := time.Now()
	dirs := map[string]string{}
	put := func(kind, name string, used time.Time) {
		t.Helper()
		dir, err := c.Make(t.Context(), kind, name, fill("12345"))
		must(t, err)
		must(t, os.Chtimes(dir, used, used))
		dirs[name] = dir
	}
	for i, name := range []string{"old", "middle", "new"} {
		put("a", name, now.Add(time.Duration(i-10)*time.Hour))
	}
	put("spared", "x", now.Add(-99*time.Hour))
	tmp, err := c.MakeTemp("a")
	must(t, err)
	must(t, os.Chtimes(tmp, now.Add(-48*time.Hour), now.Add(-48*time.Hour)))
	names := func(gone []Entry, err error) (out []string) {
		must(t, err)
		for _, e := range gone {
			out = append(out, e.Name)
		}
		return out
	}
	if gone := names(c.Prune(15, time.Hour, now, "spared")); !slices.Equal(gone, []string{"old"}) {
		t.Errorf("pruned %v", gone)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed process left: %v", err)
	}
	c.Touch(filepath.Join(dirs["middle"], "file"))
	if gone := names(c.Prune(0, time.Hour, now, "spared")); !slices.Equal(gone, []string{"new"}) {
		t.Errorf("pruned %v", gone)
	}
}

// TestPruneLarge has an entry that alone is larger than the limit.
func TestPruneLarge(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), Kinds: []string{"a", "spared"}}
	now := time.Now()
	put := func(name, text string, age time.Duration) {
		t.Helper()
		dir, err := c.Make(t.Context(), "a", name, fill(text))
		must(t, err)
		must(t, os.Chtimes(dir, now.Add(-age), now.Add(-age)))
	}
	gone := func(at time.Time) (out []string) {
		t.Helper()
		removed, err := c.Prune(10, time.Hour, at, "spared")
		must(t, err)
		for _, e := range removed {
			out = append(out, e.Name)
		}
		return out
	}
	put("large", strings.Repeat("x", 11), 30*time.Minute)
	put("small", "12345", 3*time.Hour)
	put("other", "12345", 2*time.Hour)
	// It is in use, and the others stay although they are not.
	if names := gone(now); names != nil {
		t.Errorf("pruned %v", names)
	}
	if names := gone(now.Add(time.Hour)); !slices.Equal(names, []string{"large"}) {
		t.Errorf("pruned %v", names)
	}
}

// TestLock has several goroutines do what only one may at a time.
func TestLock(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	var wg sync.WaitGroup
	inside := make(chan struct{}, 1)
	for range 4 {
		wg.Go(func() {
			unlock, err := c.Lock(t.Context(), "x")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			select {
			case inside <- struct{}{}:
				<-inside
			default:
				t.Error("two have the lock")
			}
		})
	}
	wg.Wait()
	unlock, err := c.Lock(t.Context(), "x")
	must(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Lock(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFileDigest checks that a remembered digest is used, and that a new file's is not
// remembered.
func TestFileDigest(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("content"), 0o644))
	first, err := c.FileDigest(t.Context(), path)
	must(t, err)
	if !isDigest(first) {
		t.Errorf("%q", first)
	}
	if memos, err := os.ReadDir(c.Path(dirDigest)); err == nil && len(memos) > 0 {
		t.Errorf("%v is remembered", memos)
	}
	must(t, os.WriteFile(path, []byte("CONTENT"), 0o644))
	second, err := c.FileDigest(t.Context(), path)
	must(t, err)
	if second == first {
		t.Error("the digest stays")
	}
	const old = "/bin/sh" // installed long ago
	one, err := c.FileDigest(t.Context(), old)
	must(t, err)
	memos, err := os.ReadDir(c.Path(dirDigest))
	if err != nil || len(memos) != 1 {
		t.Fatalf("%v, %v", memos, err)
	}
	if two, err := c.FileDigest(t.Context(), old); err != nil || two != one {
		t.Errorf("%q, %v, was %q", two, err, one)
	}
	var st unix.Stat_t
	must(t, unix.Stat(old, &st))
	other := Key("other")
	c.Remember(identity(&st), other)
	if two, err := c.FileDigest(t.Context(), old); err != nil || two != other {
		t.Errorf("%q, %v: what was remembered is not used", two, err)
	}
}

// TestContentDigest compares digests of files with the same content and with others.
func TestContentDigest(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	digest := func(size int64, parts map[int64]string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for at, p := range parts {
			if _, err := f.WriteAt([]byte(p), at); err != nil {
				t.Fatal(err)
			}
		}
		d, err := c.ContentDigest(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const mib = 1 << 20
	base := digest(100*mib, map[int64]string{3*mib + 5: "some", 50 * mib: "more"})
	for name, same := range map[string]string{
		"zeroes for holes": digest(100*mib, map[int64]string{3*mib + 5: "some", 50 * mib: "more",
			10 * mib: string(make([]byte, 2*mib))}),
		"another length": digest(51*mib+1, map[int64]string{3*mib + 5: "some", 50 * mib: "more"}),
	} {
		if same != base {
			t.Errorf("%s: another digest", name)
		}
	}
	seen := map[string]string{base: "base"}
	for name, other := range map[string]string{
		"a byte":        digest(100*mib, map[int64]string{3*mib + 5: "somE", 50 * mib: "more"}),
		"another place": digest(100*mib, map[int64]string{3*mib + 6: "some", 50 * mib: "more"}),
		"another block": digest(100*mib, map[int64]string{4*mib + 5: "some", 50 * mib: "more"}),
		"a part":        digest(100*mib, map[int64]string{3*mib + 5: "some"}),
		"nothing":       digest(100*mib, nil),
		"its last byte": digest(100*mib, map[int64]string{3*mib + 5: "some", 50 * mib: "more", 100*mib - 1: "x"}),
	} {
		if like := seen[other]; like != "" {
			t.Errorf("%s: the digest of %s", name, like)
		}
		seen[other] = name
	}
	if _, err := c.ContentDigest(t.Context(), filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file has a digest")
	}
	// A terabyte of nothing takes no time; one that ends does not go on.
	digest(1<<40, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, 2*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContentDigest(ctx, path); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestCleanWhileMade empties a cache while an entry is made, and beside what a process that was killed has left.
func TestCleanWhileMade(t *testing.T) {
	dir := t.TempDir()
	c, other := &Cache{Dir: dir, Kinds: []string{"a"}}, &Cache{Dir: dir, Kinds: []string{"a"}}
	left, err := c.MakeTemp("a")
	must(t, err)
	made, err := c.Install(t.Context(), "a", func(into string) (string, error) {
		must(t, fill("first half")(into))
		_, err := other.Clean()
		must(t, err)
		return "one", os.WriteFile(filepath.Join(into, "other"), nil, 0o644)
	})
	must(t, err)
	if text, err := os.ReadFile(filepath.Join(made, "file")); string(text) != "first half" {
		t.Error(text, err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Errorf("%s is still there", left)
	}
	gone, err := other.Clean()
	if must(t, err); len(gone) != 1 {
		t.Error(gone)
	}
}
