package sharedcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLayoutRefuses stores an entry in directories that cannot be made or are something else: each says once what is
// wrong, and what was there stays.
func TestLayoutRefuses(t *testing.T) {
	dir, site := sample(t), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	must(t, os.WriteFile(site+"/index.json", []byte(`{"pages": []}`), 0o644))
	for ref, want := range map[string]string{
		"/proc/none/x":         "it cannot be written: mkdir /proc/none: no such file or directory; give a directory",
		"oci:" + file + "/sub": "it cannot be written: open " + file + "/sub/index.json: not a directory",
		site:                   site + "/index.json is that of something else",
	} {
		_, err := open(t, ref, 0).Push(t.Context(), local("abc", dir))
		if away := (*AwayError)(nil); !errors.As(err, &away) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "`"+ref+"`") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if left, err := os.ReadDir(site); err != nil || len(left) != 1 { // nothing but the index.json
		t.Errorf("%v, %v", left, err)
	}
	_, err := open(t, site, 0).List(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "something else") {
		t.Error(err)
	}
}

// TestLayoutHalfWritten stores an entry beside what a push that died has left of it.
func TestLayoutHalfWritten(t *testing.T) {
	at, dir := t.TempDir(), sample(t)
	c := open(t, at, 0)
	push := func() {
		t.Helper()
		if stored, err := c.Push(t.Context(), local("abc", dir)); err != nil || !stored {
			t.Fatal(stored, err)
		}
	}
	push()
	must(t, os.Remove(at+"/index.json"))
	blobs, err := filepath.Glob(at + "/blobs/sha256/*")
	if err != nil || len(blobs) < 4 {
		t.Fatal(blobs, err)
	}
	for _, blob := range blobs {
		must(t, os.Truncate(blob, 3))
	}
	push()
	all := entries(t, c)
	if len(all) != 1 {
		t.Fatal(all)
	}
	to := t.TempDir()
	must(t, c.Pull(t.Context(), &all[0], to))
	same(t, dir, to+"/tree")
}

// TestLayoutChanges looks at a directory again after somebody else has stored another entry.
func TestLayoutChanges(t *testing.T) {
	at, dir := t.TempDir(), sample(t)
	one, other := open(t, at, 0), open(t, at, 0)
	for i, key := range []string{"aa", "bb", "cc"} {
		if e, err := one.Find(t.Context(), Boot, key); err != nil || e != nil {
			t.Fatal(e, err)
		}
		_, err := other.Push(t.Context(), local(key, dir))
		must(t, err)
		if e, err := one.Find(t.Context(), Boot, key); err != nil || e == nil || len(entries(t, one)) != i+1 {
			t.Fatal(key, e, err)
		}
	}
}
