package run

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/config"
	"provium/internal/snapshot"
)

// TestSpotCheckFindsDamage has the only cached file lose a bit that its times do not show.
func TestSpotCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	o := &Options{BootCache: filepath.Join(dir, "boots"), ImageCache: filepath.Join(dir, "images"),
		Config: &config.Config{CacheDir: filepath.Join(dir, "fixtures")}, Stderr: stderr}
	check := func() string {
		t.Helper()
		for _, check := range o.cachedEntries() {
			if err := check(t.Context()); err != nil {
				return err.Error()
			}
		}
		return ""
	}
	if n := len(o.cachedEntries()); n != 0 {
		t.Errorf("%d entries in caches that are not there", n)
	}
	boots := &snapshot.Cache{Dir: o.BootCache}
	w, err := boots.Create("k", snapshot.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PutRAM(0, bytes.Repeat([]byte{1}, snapshot.PageSize)); err != nil {
		t.Fatal(err)
	}
	id, err := w.Commit(&snapshot.Manifest{})
	if err == nil {
		err = boots.Trust("k", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	if text := check(); text != "" {
		t.Errorf("a good file: %s", text)
	}
	f, err := os.OpenFile(boots.Path("k"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{3}, 100)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// As if the file system knew nothing of it.
	if id, err = snapshot.Identify(boots.Path("k")); err == nil {
		err = boots.Trust("k", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := boots.Open(t.Context(), "k", time.Now())
	if err != nil {
		t.Fatalf("the damage shows: %v", err)
	}
	r.Close()
	over, stop := o.startSpotCheck(t.Context())
	<-over
	stop()
	if _, err := os.Stat(boots.Path("k")); !os.IsNotExist(err) {
		t.Errorf("the damaged file stays: %v", err)
	}
	text, err := os.ReadFile(stderr.Name())
	if err != nil || !strings.Contains(string(text), "a cached file was damaged, and is removed: snapshot `"+
		boots.Path("k")+"` is damaged") {
		t.Errorf("%q, %v", text, err)
	}
}
