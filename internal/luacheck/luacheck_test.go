package luacheck

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/luascan"
)

// project is the one in testdata. It takes for a syntax error what Lua would refuse there.
func project(t testing.TB, dir string) *Project {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &Project{
		Profiles: []string{"host"}, Fixtures: []string{"setups/base"}, Roots: []string{dir},
		Compile: func(text, name string) error {
			if before, _, ok := strings.Cut(text, "local = "); ok {
				return fmt.Errorf("%s:%d: <name> expected near '='", name, 1+strings.Count(before, "\n"))
			}
			return nil
		},
		Show: func(path string) string {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				t.Error(err)
			}
			return rel
		},
	}
}

// wanted returns the findings that the files of testdata announce behind -->.
func wanted(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		for i, line := range bytes.Split(text, []byte("\n")) {
			if _, texts, ok := strings.Cut(string(line), "--> "); ok {
				for _, one := range strings.Split(texts, "; ") {
					found = append(found, fmt.Sprintf("%s:%d: %s", rel, i+1, one))
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

func TestCheck(t *testing.T) {
	const dir = "testdata"
	p := project(t, dir)
	var paths []string
	for _, name := range []string{"wrong.test.lua", "right.test.lua", "a.fixture.lua", "syntax.test.lua"} {
		paths = append(paths, filepath.Join(p.Roots[0], name))
	}
	found, files, err := p.Check(append(paths, paths[0]))
	if err != nil {
		t.Fatal(err)
	}
	if files != 5 {
		t.Errorf("%d files", files)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.String())
	}
	slices.Sort(got)
	want := wanted(t, dir)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("false alarm: %s", g)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	p := project(t, t.TempDir())
	if _, _, err := p.Check([]string{filepath.Join(p.Roots[0], "x.test.lua")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	large := filepath.Join(p.Roots[0], "large.test.lua")
	if err := os.WriteFile(large, bytes.Repeat([]byte(" "), maxFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Check([]string{large}); err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Error(err)
	}
}

// Whatever can be parsed can be checked.
func FuzzCheck(f *testing.F) {
	for _, path := range []string{"testdata/wrong.test.lua", "testdata/right.test.lua"} {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("local a = b local b = a a = b a:c() a.d{e = {f = function(g) g:h() end}}")
	f.Add("local function f() return f() end f(f):f()")
	f.Fuzz(func(t *testing.T, text string) {
		body, err := luascan.Parse([]byte(text))
		if err != nil {
			return
		}
		p := &Project{Fixtures: []string{"a"}, Profiles: []string{"host"}}
		c := &check{Project: p, globals: map[string]bool{}}
		s := &source{path: "x", body: body, vars: resolve(body)}
		for name := range s.vars.globals {
			c.globals[name] = true
		}
		k := &checker{check: c, source: s}
		k.duplicates(body, map[string]int{})
		k.block(body)
	})
}
