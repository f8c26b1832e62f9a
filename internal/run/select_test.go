package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/config"
	"provium/internal/report"
	"provium/internal/shard"
)

// project makes a project with these files, each holding nothing.
func project(t *testing.T, files ...string) *config.Config {
	t.Helper()
	dir := canonical(t.TempDir())
	for _, f := range files {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &config.Config{Path: filepath.Join(dir, config.FileName), Dir: dir,
		Roots: []string{filepath.Join(dir, "tests")}}
}

func selectPaths(t *testing.T, cfg *config.Config, s Selection) []string {
	t.Helper()
	if s.WorkDir == "" {
		s.WorkDir = cfg.Dir
	}
	got, err := Select(cfg, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{}
	for _, c := range got.Files {
		paths = append(paths, c.Path)
		if !filepath.IsAbs(c.Abs) {
			t.Errorf("%s is not absolute", c.Abs)
		}
	}
	if len(paths) == 0 && got.Notice == "" {
		t.Error("nothing is selected and no notice says why")
	}
	return paths
}

func wantPaths(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestDiscovery(t *testing.T) {
	cfg := project(t, "tests/b.test.lua", "tests/a/z.test.lua", "tests/a.test.lua", "tests/helper.lua",
		"tests/x.fixture.lua",
		"tests/.hidden/h.test.lua", "more/m.test.lua", "top.test.lua")
	all := []string{"tests/a.test.lua", "tests/a/z.test.lua", "tests/b.test.lua"}
	wantPaths(t, selectPaths(t, cfg, Selection{}), all...)
	wantPaths(t, selectPaths(t, cfg, Selection{Paths: []string{"more", "tests/a"}}), "more/m.test.lua",
		"tests/a/z.test.lua")
	wantPaths(t, selectPaths(t, cfg, Selection{Paths: []string{"tests/b.test.lua", "tests", "./tests/../tests"}}),
		"tests/b.test.lua", "tests/a.test.lua", "tests/a/z.test.lua")
	wantPaths(t, selectPaths(t, cfg,
		Selection{WorkDir: filepath.Join(cfg.Dir, "more"), Paths: []string{".", "../top.test.lua"}}),
		"more/m.test.lua", "top.test.lua")
	wantPaths(t, selectPaths(t, cfg, Selection{Paths: []string{filepath.Join(cfg.Dir, "tests/.hidden")}}),
		"tests/.hidden/h.test.lua")

	cfg.Roots = nil
	wantPaths(t, selectPaths(t, cfg, Selection{WorkDir: filepath.Join(cfg.Dir, "more")}), "more/m.test.lua")

	outside := project(t, "o.test.lua")
	abs := filepath.Join(outside.Dir, "o.test.lua")
	wantPaths(t, selectPaths(t, cfg, Selection{Paths: []string{abs}}), abs)
}

func TestDiscoveryOfLinks(t *testing.T) {
	cfg := project(t, "real/a.test.lua", "tests/b.test.lua")
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(cfg.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("real", "link")
	link("..", "tests/loop")
	link("nowhere", "tests/gone.test.lua")
	link("../real", "tests/dir.test.lua")
	link("b.test.lua", "tests/c.test.lua")
	wantPaths(t, selectPaths(t, cfg, Selection{}), "tests/b.test.lua", "tests/gone.test.lua")
	wantPaths(t, selectPaths(t, cfg, Selection{Paths: []string{"link"}}), "link/a.test.lua")

	alias := filepath.Join(canonical(t.TempDir()), "alias")
	if err := os.Symlink(cfg.Dir, alias); err != nil {
		t.Fatal(err)
	}
	wantPaths(t, selectPaths(t, cfg, Selection{WorkDir: alias, Paths: []string{"real"}}), "real/a.test.lua")
}

func TestDiscoveryErrors(t *testing.T) {
	cfg := project(t, "tests/helper.lua")
	for _, c := range []struct {
		s    Selection
		want string
	}{
		{Selection{Paths: []string{"nope"}}, "no such file or directory: `nope`"},
		{Selection{Paths: []string{"tests/helper.lua"}},
			"path `tests/helper.lua`: not a directory and not a `*.test.lua` file"},
		{Selection{Since: "nope"}, "--since: no such file: `nope`"},
	} {
		c.s.WorkDir = cfg.Dir
		if _, err := Select(cfg, c.s, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.s, err)
		}
	}
	cfg.Roots = []string{filepath.Join(cfg.Dir, "gone")}
	_, err := Select(cfg, Selection{WorkDir: cfg.Dir}, 0)
	if want := fmt.Sprintf("root `%s/gone` of `%s/provium.toml`: no such directory", cfg.Dir, cfg.Dir); err == nil ||
		err.Error() != want {
		t.Errorf("root: %v", err)
	}
}

func TestNotices(t *testing.T) {
	cfg := project(t, "tests/helper.lua")
	got, err := Select(cfg, Selection{WorkDir: cfg.Dir}, 0)
	if err != nil || got.Files != nil || got.Notice != fmt.Sprintf("no *.test.lua files found in `%s/tests`", cfg.Dir) {
		t.Errorf("%+v, %v", got, err)
	}
	cfg = project(t, "tests/a.test.lua")
	got, err = Select(cfg, Selection{WorkDir: cfg.Dir, Filter: "x"}, 0)
	if err != nil || got.Notice != "no file is selected (1 found)" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = Select(cfg,
		Selection{WorkDir: cfg.Dir, RerunFailed: true, RerunState: filepath.Join(cfg.Dir, "none.json")}, 0)
	if err != nil || !strings.Contains(got.Notice, "nothing to re-run") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSelectionOrder(t *testing.T) {
	var files []string
	for i := range 8 {
		files = append(files, fmt.Sprintf("tests/%d.test.lua", i))
	}
	cfg := project(t, append(files, "tests/other.test.lua", "reference")...)
	state := filepath.Join(cfg.Dir, "rerun.json")
	for i, f := range files {
		when := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(filepath.Join(cfg.Dir, f), when, when); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1002, 0)
	if err := os.Chtimes(filepath.Join(cfg.Dir, "reference"), when, when); err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, i := range []int{1, 2, 5, 6} {
		failed = append(failed, filepath.Join(cfg.Dir, files[i]))
	}
	if err := updateFiles(state, failed, failed); err != nil {
		t.Fatal(err)
	}
	numbered := func(numbers ...int) []string {
		out := []string{}
		for _, n := range numbers {
			out = append(out, files[n])
		}
		return out
	}
	s := Selection{RerunState: state, Filter: ".test.lua"}
	wantPaths(t, selectPaths(t, cfg, s), append(files, "tests/other.test.lua")...)
	s.Since = "reference"
	wantPaths(t, selectPaths(t, cfg, s), append(numbered(3, 4, 5, 6, 7), "tests/other.test.lua")...)
	s.RerunFailed = true
	wantPaths(t, selectPaths(t, cfg, s), numbered(5, 6)...)
	// The split comes before what differs from machine to machine.
	s.Shard = shard.Shard{Index: 2, Count: 2}
	wantPaths(t, selectPaths(t, cfg, s), numbered(5)...)
	// Behind the filter: 3 is now the first of two.
	s = Selection{Filter: "3", Shard: shard.Shard{Index: 1, Count: 2}}
	wantPaths(t, selectPaths(t, cfg, s), numbered(3)...)
	// The order of the paths does not move files to another part.
	s = Selection{Paths: []string{"tests/7.test.lua", "tests"}, Shard: shard.Shard{Index: 1, Count: 3}}
	wantPaths(t, selectPaths(t, cfg, s), numbered(0, 3, 6)...)
}

func TestShuffle(t *testing.T) {
	var files []string
	for i := range 20 {
		files = append(files, fmt.Sprintf("tests/%02d.test.lua", i))
	}
	cfg := project(t, files...)
	order := func(seed uint64) []string {
		got, err := Select(cfg, Selection{WorkDir: cfg.Dir, Shuffle: true}, seed)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range got.Files {
			out = append(out, c.Path)
		}
		return out
	}
	one := order(1)
	if !slices.Equal(one, order(1)) {
		t.Error("one seed gives two orders")
	}
	if slices.Equal(one, order(2)) || slices.Equal(one, files) {
		t.Error("the order is not shuffled")
	}
	slices.Sort(one)
	wantPaths(t, one, files...)
}

func TestList(t *testing.T) {
	cfg := project(t, "tests/a.test.lua", "tests/b.test.lua", "tests/s/x.fixture.lua", "tests/y.fixture.lua")
	for _, c := range []struct {
		s        Selection
		fixtures bool
		want     []string
	}{
		{Selection{}, false, []string{"tests/a.test.lua", "tests/b.test.lua"}},
		{Selection{Filter: "b"}, false, []string{"tests/b.test.lua"}},
		{Selection{}, true, []string{"tests/s/x.fixture.lua", "tests/y.fixture.lua"}},
		{Selection{Shard: shard.Shard{Index: 2, Count: 2}}, true, []string{"tests/y.fixture.lua"}},
		{Selection{Filter: "none"}, true, []string{}},
	} {
		c.s.WorkDir = cfg.Dir
		if got, _, err := List(t.Context(), Options{Config: cfg, Select: c.s}, c.fixtures); err != nil ||
			!reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %q, %v", c.s, got, err)
		}
	}
}

func (s rerunState) has(path string) bool {
	_, ok := s[path]
	return ok
}

// updateFiles is updateRerun for files that passed or failed as a whole.
func updateFiles(path string, ran, failed []string) error {
	outcomes := map[string]*fileOutcome{}
	for _, file := range ran {
		outcomes[file] = &fileOutcome{ran: true}
	}
	for _, file := range failed {
		outcomes[file] = &fileOutcome{whole: true}
	}
	return updateRerun(path, outcomes)
}

func TestRerunState(t *testing.T) {
	cfg := project(t, "a.test.lua", "b.test.lua", "c.test.lua")
	state := filepath.Join(cfg.Dir, "deep/er/rerun.json")
	abs := func(names ...string) []string {
		var out []string
		for _, n := range names {
			out = append(out, filepath.Join(cfg.Dir, n+".test.lua"))
		}
		return out
	}
	for _, step := range []struct{ ran, failed, want []string }{
		{abs("a"), nil, nil},                              // no failure: no state
		{abs("a", "b"), abs("a", "b"), abs("a", "b")},     //
		{abs("a"), nil, abs("b")},                         // a green partial run clears what it ran
		{abs("c"), nil, abs("b")},                         // and nothing else
		{nil, nil, abs("b")},                              // nothing ran
		{abs("a", "c"), abs("c"), abs("b", "c")},          // of what it ran only the failures
		{abs("a", "b", "c"), nil, nil},                    // all green
		{abs("a", "b", "c"), abs("a"), abs("a")},          //
		{abs("b"), abs("b", "b"), abs("a", "b")},          //
		{abs("gone"), abs("gone"), abs("a", "b", "gone")}, // a file that was removed
	} {
		if err := updateFiles(state, step.ran, step.failed); err != nil {
			t.Fatal(err)
		}
		failed, err := readRerun(state)
		if err != nil || len(failed) != len(step.want) {
			t.Errorf("%+v: %v, %v", step, failed, err)
		}
		for _, f := range step.want {
			if !failed.has(f) {
				t.Errorf("%+v: %s is missing", step, f)
			}
		}
	}

	// A state that does not change keeps its file.
	was, err := os.Stat(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := updateFiles(state, abs("c"), nil); err != nil {
		t.Fatal(err)
	}
	if is, err := os.Stat(state); err != nil || !os.SameFile(was, is) {
		t.Errorf("the state was written again: %v", err)
	}
	none := filepath.Join(cfg.Dir, "none.json")
	if err := updateFiles(none, abs("a"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a green run made a state: %v", err)
	}

	link := filepath.Join(cfg.Dir, "link")
	if err := os.Symlink(cfg.Dir, link); err != nil {
		t.Fatal(err)
	}
	if err := updateFiles(state, nil, []string{filepath.Join(link, "c.test.lua")}); err != nil {
		t.Fatal(err)
	}
	if failed, err := readRerun(state); err != nil || !failed.has(abs("c")[0]) {
		t.Errorf("through a link: %v, %v", failed, err)
	}
	left, err := os.ReadDir(filepath.Dir(state))
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}

	if err := os.WriteFile(state, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readRerun(state); err == nil || !strings.Contains(err.Error(), "rerun state `"+state+"` is damaged") {
		t.Errorf("damaged: %v", err)
	}
	if err := updateFiles(state, abs("b"), nil); err != nil {
		t.Errorf("over a damaged one: %v", err)
	}
	if failed, err := readRerun(state); err != nil || len(failed) != 0 {
		t.Errorf("after a damaged one: %v, %v", failed, err)
	}
	var pe *os.PathError
	if err := updateFiles(filepath.Join(state, "x"), nil, abs("a")); !errors.As(err, &pe) {
		t.Errorf("unwritable: %v", err)
	}
}

// TestRerunStateOfIterations has a file fail in one iteration and pass in the
// next: it is still one to run again.
func TestRerunStateOfIterations(t *testing.T) {
	cfg := project(t, "flaky.test.lua", "good.test.lua", "late.test.lua")
	state := filepath.Join(cfg.Dir, "rerun.json")
	var candidates []Candidate
	for _, name := range []string{"flaky", "good", "late"} {
		candidates = append(candidates, Candidate{Abs: filepath.Join(cfg.Dir, name+".test.lua")})
	}
	if err := updateFiles(state, nil, []string{candidates[1].Abs, candidates[2].Abs}); err != nil {
		t.Fatal(err)
	}
	s := &session{o: &Options{RerunState: state}}
	passed, failed := &report.FileResult{Status: report.FilePassed}, &report.FileResult{Status: report.FileTimedOut}
	for _, results := range [][]*report.FileResult{{failed, passed, nil}, {passed, passed, nil}} {
		if err := s.remember(candidates, results); err != nil {
			t.Fatal(err)
		}
		got, err := readRerun(state)
		if err != nil || len(got) != 2 || !got.has(candidates[0].Abs) || !got.has(candidates[2].Abs) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if err := (&session{o: &Options{}}).remember(candidates, []*report.FileResult{failed, nil, nil}); err != nil {
		t.Error(err)
	}
}

func TestRerunStateOfTests(t *testing.T) {
	const path = "/p/a.test.lua"
	state := filepath.Join(t.TempDir(), "rerun.json")
	result := func(status report.FileStatus, chunkError string, tests ...string) report.FileResult {
		r := report.FileResult{Status: status, ChunkError: chunkError}
		for _, text := range tests {
			name, how, _ := strings.Cut(text, "=")
			r.Tests = append(r.Tests, report.TestResult{Name: name, Status: report.TestStatus(how)})
		}
		return r
	}
	for i, step := range []struct {
		result report.FileResult
		want   string // "-": the file is not in the state
	}{
		{result(report.FileFailed, "", "a=failed", "b=passed", "c=failed"), "a c"},
		{result(report.FilePassed, "", "a=skipped", "b=passed", "c=passed"), "a"},
		{result(report.FileFailed, "", "a=skipped", "b=failed", "c=passed"), "a b"},
		{result(report.FilePassed, "", "b=passed", "c=passed"), "-"}, // a is no longer there
		{result(report.FileFailed, "broken"), ""},
		{result(report.FileInterrupted, "", "a=skipped"), ""},
		{result(report.FileFailed, "", "a=failed"), "a"},
		{result(report.FileCrashed, "", "a=failed"), ""},
		{result(report.FilePassed, "", "a=passed"), "-"},
		{result(report.FileTimedOut, "", "a=failed", "b=skipped"), ""},
		{result(report.FileTimedOut, "", "a=passed"), ""},
	} {
		outcome := &fileOutcome{}
		outcome.add(step.result)
		if err := updateRerun(state, map[string]*fileOutcome{path: outcome}); err != nil {
			t.Fatal(err)
		}
		all, err := readRerun(state)
		got := "-"
		if tests, ok := all[path]; ok {
			got = strings.Join(tests, " ")
		}
		if err != nil || got != step.want {
			t.Errorf("step %d: got %q, want %q, %v", i, got, step.want, err)
		}
	}
}
