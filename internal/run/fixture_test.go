package run

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"provium/internal/fixture"
)

// TestWorkshop builds, lists and drops fixtures of machines without a kernel.
func TestWorkshop(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{
		"a": `test("p", function(t) provium:vm_fixture("x") end)`,
		"b": `test("p", function(t) provium:vm_fixture("x") provium:vm_fixture("gone") end)`,
	})
	dir := l.o.Config.Dir
	t.Chdir(dir) // the workshop enters it
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("x.fixture.lua", `return provium:vm("box", "p"):boot():snapshot()`)
	write("bad.fixture.lua", `error("as it is meant")`)
	l.o.Config.Roots = []string{dir}
	messages, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Close()
	l.o.Stdout, l.o.Stderr = messages, messages
	w, err := OpenWorkshop(t.Context(), l.o)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			w.Close()
		}
	}()

	stale, err := w.Stale(t.Context())
	if err != nil || len(stale) != 2 || stale[0].Name != "bad" || stale[1].Name != "x" || stale[1].Reason == "" {
		t.Errorf("%+v, %v", stale, err)
	}
	x, err := l.o.Source("x")
	if err != nil || x != (fixture.Source{Name: "x", Path: filepath.Join(dir, "x.fixture.lua")}) {
		t.Errorf("%+v, %v", x, err)
	}
	for i, want := range []bool{true, false} {
		if built, err := w.Build(t.Context(), x); built != want || err != nil {
			t.Errorf("build %d: %v, %v", i, built, err)
		}
	}
	if stale, err = w.Stale(t.Context()); err != nil || len(stale) != 1 || stale[0].Name != "bad" {
		t.Errorf("%+v, %v", stale, err)
	}
	if err := w.Drop(x); err != nil {
		t.Error(err)
	}
	var notes []string
	err = w.Prepare(t.Context(), func(format string, values ...any) {
		notes = append(notes, fmt.Sprintf(format, values...))
	})
	if err == nil || !strings.Contains(err.Error(), "b.test.lua: unknown fixture `gone` (known: bad, x)") {
		t.Error(err)
	}
	if want := []string{"booting profile `p`", "built fixture `x`"}; !reflect.DeepEqual(notes, want) {
		t.Errorf("%q", notes)
	}
	bad, err := l.o.Source("bad")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Build(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "as it is meant") {
		t.Error(err)
	}
	w.Close()
	closed = true
	if left, err := os.ReadDir(l.o.TempBase); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestSource(t *testing.T) {
	cfg := project(t, "tests/x.fixture.lua", "tests/sub/y.fixture.lua", "more/x.fixture.lua", "more/deep/z.fixture.lua",
		"outside.fixture.lua")
	cfg.Roots = []string{
		filepath.Join(cfg.Dir, "tests"), filepath.Join(cfg.Dir, "more"), filepath.Join(cfg.Dir, "more/deep"),
	}
	o := &Options{Config: cfg, Select: Selection{WorkDir: cfg.Dir}}
	for arg, want := range map[string]string{
		"x":                       "x",
		"sub/y":                   "sub/y",
		"tests/x.fixture.lua":     "x",
		"tests/sub/y.fixture.lua": "sub/y",
		"more/x.fixture.lua":      "ambiguous: another root has a `x`",
		"more/deep/z.fixture.lua": "ambiguous: roots give it the names `deep/z`, `z`",
		"outside.fixture.lua":     "is below no root",
		"gone.fixture.lua":        "fixture `gone.fixture.lua`: no such file or directory",
		"gone":                    "unknown fixture `gone` (known: deep/z, sub/y, x, z)",
	} {
		s, err := o.Source(arg)
		if err == nil && s.Name != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %s", arg, s, err, want)
		}
	}
	empty := project(t, "tests/a.test.lua")
	if _, err := (&Options{Config: empty}).Source("x"); err == nil ||
		!strings.Contains(err.Error(), "no root has a *") {
		t.Error(err)
	}
}
