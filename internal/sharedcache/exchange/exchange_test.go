package exchange

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"provium/internal/fixture"
	"provium/internal/image/cache"
	"provium/internal/sharedcache"
	"provium/internal/snapshot"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// user returns the empty caches of a user, and a directory beside them.
func user(t *testing.T) (l *Locals, dir string) {
	dir = t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	for _, name := range []string{"boots", "fixtures", "images", "tmp"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	return &Locals{
		Boots: &snapshot.Cache{Dir: dir + "/boots"},
		Fixtures: &fixture.Cache{Dir: dir + "/fixtures", Program: "this",
			Profile: func(context.Context, string) (string, error) { return "", nil }},
		Images: &cache.Cache{Dir: dir + "/images", Kinds: []string{"kernels"}},
		Fit:    sharedcache.Fit{Form: snapshot.Form(), Arch: "amd64", QEMU: "7.2", Accel: "tcg"},
	}, dir + "/tmp"
}

func putSnapshot(t *testing.T, w *snapshot.Writer, err error) {
	t.Helper()
	must(t, err)
	_, err = w.Commit(&snapshot.Manifest{Key: "aa", Machine: snapshot.Machine{QEMU: "7.2", Accel: "tcg"}})
	must(t, err)
}

// fill puts an entry of each kind into the caches, and returns the fixture.
func fill(t *testing.T, l *Locals) fixture.Source {
	t.Helper()
	w, err := l.Boots.Create("aa", snapshot.PageSize)
	putSnapshot(t, w, err)
	_, err = l.Images.Install(t.Context(), "kernels", func(dir string) (string, error) {
		return "linux", os.WriteFile(dir+"/vmlinuz", []byte("kernel"), 0o644)
	})
	must(t, err)
	s := fixture.Source{Name: "web", Path: filepath.Join(t.TempDir(), "web.fixture.lua")}
	must(t, os.WriteFile(s.Path, []byte("source"), 0o644))
	var tr fixture.Trace
	must(t, tr.File(s.Path))
	path, err := l.Fixtures.TempPath()
	must(t, err)
	w, err = snapshot.Create(path, snapshot.PageSize)
	putSnapshot(t, w, err)
	e, err := l.Fixtures.Install(s, &tr, fixture.Built{Kind: fixture.VM, Label: "box", Path: path})
	must(t, err)
	e.Close()
	return s
}

// texts returns a function for results, and what it was called with.
func texts() (tell func(Result), all *[]string) {
	all = new([]string)
	return func(r Result) {
		switch {
		case r.Err != nil:
			*all = append(*all, r.Err.Error())
		case r.Unfit != "":
			*all = append(*all, string(r.Kind)+": "+r.Unfit)
		case r.Moved:
			*all = append(*all, string(r.Kind))
		default:
			*all = append(*all, string(r.Kind)+" was there")
		}
	}, all
}

func expect(t *testing.T, got *[]string, want string) {
	t.Helper()
	if text := strings.Join(*got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	*got = nil
}

// TestExchange moves an entry of each kind to another user, whose caches then have it.
func TestExchange(t *testing.T) {
	shared, err := sharedcache.Open("oci:"+t.TempDir(), "/", 0)
	must(t, err)
	one, _ := user(t)
	s := fill(t, one)
	tell, got := texts()
	must(t, one.Push(t.Context(), shared, tell))
	expect(t, got, "boot\nfixture\nimage")
	must(t, one.Push(t.Context(), shared, tell))
	expect(t, got, "boot was there\nfixture was there\nimage was there")

	two, dir := user(t)
	must(t, two.Pull(t.Context(), shared, Temp{dir, dir}, tell))
	expect(t, got, "boot\nfixture\nimage")
	if _, err := os.Stat(two.Boots.Dir + "/aa.ok"); err != nil {
		t.Errorf("the first use reads the snapshot again: %v", err)
	}
	r, err := two.Boots.Open(t.Context(), "aa", time.Now())
	must(t, err)
	r.Close()
	e, reason, err := two.Fixtures.Find(t.Context(), s)
	if must(t, err); e == nil {
		t.Fatalf("the fixture is not there: %s", reason)
	}
	must(t, two.Fixtures.Verify(t.Context(), e))
	e.Close()
	_, err = two.Images.Make(t.Context(), "kernels", "linux", func(string) error {
		t.Error("the kernel is not there")
		return nil
	})
	must(t, err)
	must(t, two.Pull(t.Context(), shared, Temp{dir, dir}, tell))
	expect(t, got, "boot was there\nfixture was there\nimage was there")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}

	// Another QEMU has no use for the boot.
	three, dir := user(t)
	three.Fit.QEMU = "10.0"
	must(t, three.Pull(t.Context(), shared, Temp{dir, dir}, tell))
	expect(t, got, "boot: QEMU 7.2, here 10.0\nfixture\nimage")
}

// TestForeignContents has entries whose files are not those of their keys.
func TestForeignContents(t *testing.T) {
	shared, err := sharedcache.Open("oci:"+t.TempDir(), "/", 0)
	must(t, err)
	one, _ := user(t)
	fill(t, one)
	all, err := one.entries()
	must(t, err)
	for _, e := range all {
		switch e.Kind {
		case sharedcache.Boot:
			e.Key = "bb"
		case sharedcache.Fixture:
			e.Key = "cc-dd"
		case sharedcache.Image:
			e.Key = strings.TrimRight(e.Key, "0123456789abcdef") + strings.Repeat("0", 40)
		}
		_, err := shared.Push(t.Context(), e)
		must(t, err)
	}
	tell, got := texts()
	two, dir := user(t)
	must(t, two.Pull(t.Context(), shared, Temp{dir, dir}, tell))
	for i, want := range []string{"boot `bb`: ", "fixture `cc-dd`: its record is that of `",
		"its files are not those of its name"} {
		if len(*got) != 3 || !strings.Contains((*got)[i], want) {
			t.Fatalf("%q: no %q", *got, want)
		}
	}
	if boots, err := two.Boots.List(); err != nil || len(boots) > 0 {
		t.Errorf("%v, %v", boots, err)
	}
	if images, err := two.Images.Entries(); err != nil || len(images) > 0 {
		t.Errorf("%v, %v", images, err)
	}
	// Names that lead out of the cache.
	for _, key := range []string{"kernels/../x@1", "kernels/.new@1", "other/a@1", "kernels/a", "kernels/a@",
		"kernels/@1"} {
		if _, _, ok := imageKey(two.Images.Kinds, key); ok {
			t.Errorf("`%s` is a key", key)
		}
	}
}

// TestRemovedMeanwhile pushes caches of which an entry is removed while it is sent: the others are stored, and nothing
// is said.
func TestRemovedMeanwhile(t *testing.T) {
	one, _ := user(t)
	fill(t, one)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	remote := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_ = os.Remove(one.Boots.Path("aa"))
		}
		remote.ServeHTTP(w, r)
	}))
	defer s.Close()
	shared, err := sharedcache.Open(strings.TrimPrefix(s.URL, "http://")+"/team/cache", "/", 0)
	must(t, err)
	tell, got := texts()
	must(t, one.Push(t.Context(), shared, tell))
	expect(t, got, "fixture\nimage")
}

// TestPushNowhere pushes to a directory that cannot be made: that is an error, once.
func TestPushNowhere(t *testing.T) {
	one, _ := user(t)
	fill(t, one)
	shared, err := sharedcache.Open("oci:/proc/none/x", "/", 0)
	must(t, err)
	tell, got := texts()
	err = one.Push(t.Context(), shared, tell)
	if err == nil || !strings.Contains(err.Error(), "`oci:/proc/none/x`: it cannot be written: mkdir /proc/none: ") {
		t.Error(err)
	}
	expect(t, got, "")
}

// TestLinks brings entries whose files are links, to files that never end or are somebody else's.
func TestLinks(t *testing.T) {
	shared, err := sharedcache.Open("oci:"+t.TempDir(), "/", 0)
	must(t, err)
	for kind, name := range map[sharedcache.Kind]string{sharedcache.Boot: bootName, sharedcache.History: historyName} {
		made := t.TempDir()
		must(t, os.Symlink("/dev/zero", filepath.Join(made, name)))
		key := map[bool]string{true: "aa", false: sharedcache.HistoryKey}[kind == sharedcache.Boot]
		_, err := shared.Push(t.Context(), sharedcache.Local{Header: sharedcache.Header{Kind: kind, Key: key},
			Paths: map[string]string{".": made}})
		must(t, err)
	}
	two, dir := user(t)
	two.History = filepath.Join(dir, "history.json")
	tell, got := texts()
	must(t, two.Pull(t.Context(), shared, Temp{dir, dir}, tell))
	if all := strings.Join(*got, "\n"); strings.Count(all, "is a link") != 2 {
		t.Error(all)
	}
}
