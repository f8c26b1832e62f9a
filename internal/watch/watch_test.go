package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree makes files below a directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGraph(t *testing.T) {
	dir := tree(t, map[string]string{
		"tests/a.test.lua": `require "lib.one"`,
		"tests/b.test.lua": `test("b", function(t)
			provium:vm_fixture("net/base") vm:push_file("../bin/x", "/x")
		end)`,
		"tests/c.test.lua":  `dofile("data/c.lua") for l in io.lines("data/list") do end require(name)`,
		"tests/lib/one.lua": `require("lib.two") require("lib.one")`,
		"tests/net/base.fixture.lua": `require("lib.two") vm:push_file("guest.conf", "/etc/x")
			provium:vm_fixture("other")`,
		"tests/other.fixture.lua":     ``,
		"more/lib/two.lua":            ``,
		"data/c.lua":                  `require('lib.three')`,
		"tests/unused/other.test.lua": ``,
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Symlink(in("tests"), in("link")); err != nil {
		t.Fatal(err)
	}
	tests := []string{in("link/a.test.lua"), in("tests/b.test.lua"), in("tests/c.test.lua")}
	g := NewGraph(tests, Project{Dir: dir, Roots: []string{in("tests"), in("more")},
		Tracked: func(name string) []string { return []string{in("tracked-" + filepath.Base(name))} }})
	for changed, want := range map[string]string{
		"tests/a.test.lua": "a", "link/a.test.lua": "a", "tests/b.test.lua": "b", "tests/c.test.lua": "c",
		"tests/lib/one.lua": "a", "more/lib/two.lua": "a b",
		"tests/lib/two.lua":          "a b", // it would be found first
		"tests/net/base.fixture.lua": "b", "tests/net/guest.conf": "b", "bin/x": "b",
		"tests/other.fixture.lua": "b", "tracked-base": "b", "tracked-base/below/it": "b", "tracked-other": "b",
		"data/c.lua": "c", "data/list": "c", "more/lib/three.lua": "c",
		"tests/new.lua": "a b c", "tests/new.test.lua": "", "tests/new.fixture.lua": "", "tests/notes": "",
		"elsewhere.lua": "", "tests/unused/other.test.lua": "",
	} {
		var got []string
		for _, test := range g.Tests(in(changed)) {
			got = append(got, strings.TrimSuffix(filepath.Base(test), testSuffix))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s concerns %v, want %s", changed, got, want)
		}
	}
	if files := g.Files(); !slices.Contains(files, in("bin/x")) || !slices.Contains(files, in("tests/lib/two.lua")) {
		t.Errorf("not all is to be watched: %v", files)
	}
}

// next waits for changes, which may come in several batches, until all wanted files are among
// them.
func next(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	missing := slices.Clone(want)
	for limit := time.After(20 * time.Second); len(missing) > 0; {
		select {
		case batch := <-w.Changes():
			missing = slices.DeleteFunc(missing, func(path string) bool { return slices.Contains(batch, path) })
		case err := <-w.Errors():
			t.Fatal(err)
		case <-limit:
			t.Fatalf("not noticed: %v", missing)
		}
	}
}

func TestWatcher(t *testing.T) {
	dir := tree(t, map[string]string{"tests/deep/a": "", "tests/.git/x": "", "beside/b": "", "alone/c": "",
		"alone/other": "", "whole/x/y": ""})
	in := func(name string) string { return filepath.Join(dir, name) }
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.Symlink(in("tests"), in("link")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Tree(in("link")); err != nil {
			t.Fatal(err)
		}
		if err := w.File(in("alone/c")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.File(in("whole")); err != nil {
		t.Fatal(err)
	}
	write(t, in("whole/x/y"), "changed")
	next(t, w, in("whole/x/y"))
	if err := w.File(in("nowhere/x")); err != nil {
		t.Error(err)
	}
	if err := w.Tree(in("nowhere")); err == nil {
		t.Error("there is no such directory")
	}
	write(t, in("tests/deep/a"), "changed")
	next(t, w, in("tests/deep/a"))
	write(t, in("alone/c"), "changed")
	next(t, w, in("alone/c"))
	write(t, in("tests/new/below/d"), "") // which is there before its directory is watched
	next(t, w, in("tests/new/below/d"))
	write(t, in("tests/new/below/e"), "")
	next(t, w, in("tests/new/below/e"))
	if err := os.Remove(in("tests/deep/a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(in("tests/new/below/e"), in("tests/f")); err != nil { // as editors do
		t.Fatal(err)
	}
	next(t, w, in("tests/deep/a"), in("tests/f"), in("tests/new/below/e"))
	write(t, in("tests/.git/x"), "changed")
	write(t, in("beside/b"), "changed")
	if err := os.Chmod(in("tests/f"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, in("tests/last"), "")
	for seen := false; !seen; {
		batch := <-w.Changes()
		seen = slices.Contains(batch, in("tests/last"))
		for _, path := range batch {
			if path != in("tests/last") {
				t.Errorf("%s was told", path)
			}
		}
	}
}
