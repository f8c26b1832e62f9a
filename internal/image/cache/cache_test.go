package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write returns a function that fills an entry with a file.
func write(content string) func(tmp string) error {
	return func(tmp string) error { return os.WriteFile(tmp, []byte(content), 0o644) }
}

func TestInstall(t *testing.T) {
	c := &Cache{Dir: filepath.Join(t.TempDir(), "cache"), Kinds: []string{"a", "b"}}
	if list, err := c.List(); err != nil || len(list) != 0 {
		t.Errorf("empty: %v, %v", list, err)
	}
	dir := func(content string) func(tmp string) error {
		return func(tmp string) error {
			must(t, os.Mkdir(tmp, 0o755))
			return os.WriteFile(filepath.Join(tmp, "file"), []byte(content), 0o644)
		}
	}
	must(t, c.Install("a", "one", dir("first")))
	must(t, c.Install("a", "one", dir("second")))
	if p, err := os.ReadFile(c.Path("a", "one", "file")); err != nil || string(p) != "first" {
		t.Errorf("%q, %v", p, err)
	}
	failed := errors.New("failed")
	if err := c.Install("b", "two", func(string) error { return failed }); err != failed {
		t.Error(err)
	}
	must(t, c.InstallNamed("b", func(tmp string) (string, error) { return "three", write("123")(tmp) }))
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

func TestPrune(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), Kinds: []string{"a", "spared"}}
	now := time.Now()
	for i, name := range []string{"old", "middle", "new"} {
		must(t, c.Install("a", name, write("12345")))
		used := now.Add(time.Duration(i-10) * time.Hour)
		must(t, os.Chtimes(c.Path("a", name), used, used))
	}
	must(t, c.Install("spared", "x", write("12345")))
	must(t, os.Chtimes(c.Path("spared", "x"), now.Add(-99*time.Hour), now.Add(-99*time.Hour)))
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
	Touch(c.Path("a", "middle"))
	if gone := names(c.Prune(0, time.Hour, now, "spared")); !slices.Equal(gone, []string{"new"}) {
		t.Errorf("pruned %v", gone)
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
	other := Key("other")
	must(t, os.WriteFile(c.Path(dirDigest, memos[0].Name()), []byte(other), 0o644))
	if two, err := c.FileDigest(t.Context(), old); err != nil || two != other {
		t.Errorf("%q, %v, was %q", two, err, one)
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
