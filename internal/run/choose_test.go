package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/choose"
	"provium/internal/event"
	"provium/internal/shard"
)

// chosen is a project whose files boot a guest at file scope.
func chosen(t *testing.T) *localRun {
	t.Helper()
	const boot = "local vm = provium:vm('v', 'p')\nvm:boot()\n" // lines 1 and 2
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{
		"plain": boot + `test("boots", {tags = "smoke"}, function(t)
end)
test("reads a file", function(t) end)
test("is slow", {slow = true}, function(t) end)
`,
		"each": boot + `test.each({1, 2}, "case {}", {tags = "many"}, function(t) end)
test("last", {tags = {"smoke", "net"}}, function(t) end)
`,
		"hidden": boot + `for _, n in ipairs{"a", "b"} do
  test("loop " .. n, {tags = "loop"}, function(t) end)
end
`,
		"needs": boot + `local kernel = vm:run("uname -r").stdout
for _, n in ipairs{"a", "b"} do test("needs " .. n, {tags = "guest"}, function(t) end) end
`,
	})
	l.o.Select.Paths = nil
	return l
}

func TestChoosingTests(t *testing.T) {
	l := chosen(t)
	if err := os.Remove(filepath.Join(l.o.Config.Dir, "needs.test.lua")); err != nil { // its chunk cannot run here
		t.Fatal(err)
	}
	spawned := func() int {
		n := 0
		for _, e := range l.events {
			if _, ok := e.(event.VMSpawned); ok {
				n++
			}
		}
		return n
	}
	for name, c := range map[string]struct {
		paths  []string
		filter choose.Filter
		want   string // tests that ran, and files
		boots  int
	}{
		"name":      {nil, choose.Filter{Names: []string{"reads"}}, "plain: reads a file", 1},
		"names":     {nil, choose.Filter{Names: []string{"reads", "/^last$/"}}, "each: last; plain: reads a file", 2},
		"each case": {nil, choose.Filter{Names: []string{"case 2"}}, "each: case 2", 1},
		"loop":      {nil, choose.Filter{Names: []string{"loop b"}}, "hidden: loop b", 1},
		"keyword":   {nil, choose.Filter{Keyword: "smoke and not net"}, "plain: boots", 1},
		"path word": {nil, choose.Filter{Keyword: "hidden"}, "hidden: loop a, loop b", 1},
		"line":      {[]string{"plain.test.lua:4"}, choose.Filter{}, "plain: boots", 1},
		"lines": {[]string{"plain.test.lua:5", "./each.test.lua:3"}, choose.Filter{},
			"each: case 1, case 2; plain: reads a file", 2},
		"line of a loop": {[]string{"hidden.test.lua:4"}, choose.Filter{}, "hidden: loop a, loop b", 1},
		"path and name":  {[]string{"each.test.lua::case 1"}, choose.Filter{}, "each: case 1", 1},
		"name of all":    {[]string{"each.test.lua::case {}"}, choose.Filter{}, "each: case 1, case 2", 1},
		"whole file, too": {[]string{"each.test.lua::last", "each.test.lua"}, choose.Filter{},
			"each: case 1, case 2, last", 1},
		"in the directory": {[]string{".", "each.test.lua::last"}, choose.Filter{Tags: []string{"many"}},
			"each: case 1, case 2; hidden: ; plain: ", 1},
		"tag": {[]string{"plain.test.lua", "each.test.lua", "hidden.test.lua"},
			choose.Filter{Tags: []string{"net"}}, "each: last; hidden: ; plain: ", 1},
		"tag of a loop": {[]string{"plain.test.lua", "hidden.test.lua"}, choose.Filter{Tags: []string{"loop"}},
			"hidden: loop a, loop b; plain: ", 1},
		"slow by name": {[]string{"plain.test.lua::is slow"}, choose.Filter{}, "plain: ", 0},
		"slow":         {[]string{"plain.test.lua::is slow"}, choose.Filter{IncludeSlow: true}, "plain: is slow", 1},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			l.o.Select.Paths, l.o.Filter = c.paths, c.filter
			code, err := l.run()
			if code != ExitOK || err != nil {
				t.Fatalf("%d, %v, %s", code, err, l.stderr)
			}
			if got := l.ran(); got != c.want || spawned() != c.boots {
				t.Errorf("ran  %s with %d boots\nwant %s with %d", got, spawned(), c.want, c.boots)
			}
		})
	}
}

// ran names the tests that passed, by file.
func (l *localRun) ran() string {
	tests := map[string][]string{}
	for _, e := range l.events {
		switch e := e.(type) {
		case event.FileCompleted:
			tests[e.Path] = append(tests[e.Path], []string{}...)
		case event.TestPassed:
			tests[e.Path] = append(tests[e.Path], e.Name)
		}
	}
	var out []string
	for path, names := range tests {
		out = append(out, strings.TrimSuffix(path, testSuffix)+": "+strings.Join(names, ", "))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// A file of which every test is left out boots nothing, and shows the tests as skipped.
func TestFilesOfWhichNothingRuns(t *testing.T) {
	l := chosen(t)
	l.o.Filter = choose.Filter{NoTags: []string{"smoke", "loop", "many", "guest"}, Tags: []string{"smoke", "loop",
		"many", "guest"}}
	l.o.Select.AllowEmpty = true
	code, err := l.run()
	const want = "each case 1=skipped case 2=skipped last=skipped ok; hidden loop a=skipped loop b=skipped ok; " +
		"needs ok; " +
		"plain boots=skipped reads a file=skipped is slow=skipped ok"
	if code != ExitOK || err != nil || l.results() != want {
		t.Errorf("%d, %v\n%s\n%s", code, err, l.results(), l.stderr)
	}
	if kinds := l.kinds(); slices.Contains(kinds, event.KindVMSpawned) || slices.Contains(kinds,
		event.KindClaimAcquired) {
		t.Errorf("something has booted: %v", kinds)
	}
	var tests []string
	for _, e := range l.events {
		if s, ok := e.(event.TestSkipped); ok {
			tests = append(tests, s.Name+": "+s.Reason)
		}
	}
	for _, want := range []string{"case 2: filtered: matched --no-tag many", "boots: filtered: matched --no-tag smoke",
		"is slow: filtered: slow tests skipped (pass --include-slow)"} {
		if !slices.Contains(tests, want) {
			t.Errorf("%q is missing in %q", want, tests)
		}
	}
}

func TestSelectionsThatMatchNothing(t *testing.T) {
	for name, c := range map[string]struct {
		paths  []string
		filter choose.Filter
		shard  shard.Shard
		want   string // "" runs
	}{
		"name": {nil, choose.Filter{Names: []string{"reads a fiel"}}, shard.Shard{},
			"no test matches --test reads a fiel; did you mean `reads a file`?"},
		"expression": {nil, choose.Filter{Names: []string{"/^boot$/"}}, shard.Shard{},
			"no test matches --test /^boot$/; did you mean `boots`?"},
		"keyword": {nil, choose.Filter{Keyword: "boots and net"},
			shard.Shard{}, "no test matches -k `boots and net`"},
		"both": {nil, choose.Filter{Names: []string{"boots"}, Keyword: "net"}, shard.Shard{},
			"no test matches both --test boots and -k `net`"},
		"tag": {nil, choose.Filter{Tags: []string{"smok"}}, shard.Shard{},
			"no test has the tag `smok`; did you mean `smoke`?"},
		"tag in a shard": {nil, choose.Filter{Tags: []string{"zzz"}},
			shard.Shard{Index: 1, Count: 2}, "no test has the tag `zzz`"},
		"line": {[]string{"plain.test.lua:1"}, choose.Filter{}, shard.Shard{},
			"`plain.test.lua` has no test at line 1; the nearest: `boots` at lines 3 to 4"},
		"line behind": {[]string{"plain.test.lua:99"}, choose.Filter{}, shard.Shard{},
			"`plain.test.lua` has no test at line 99; the nearest: `is slow` at lines 6 to 6"},
		"name in a file": {[]string{"plain.test.lua::boot"}, choose.Filter{}, shard.Shard{},
			"`plain.test.lua` has no test `boot`; did you mean `boots`?"},
		"one of two": {[]string{"plain.test.lua::boots", "each.test.lua::gone"}, choose.Filter{},
			shard.Shard{}, "`each.test.lua` has no test `gone`"},
		"line of a directory": {[]string{".:3"}, choose.Filter{}, shard.Shard{},
			"a line or a name needs a file, and `.` is a directory"},
		"no such file": {[]string{"gone.test.lua:3"}, choose.Filter{}, shard.Shard{},
			"no such file or directory: `gone.test.lua`"},
		"old: tag of another file": {[]string{"hidden.test.lua"}, choose.Filter{Tags: []string{"net"}},
			shard.Shard{}, ""},
		"old: no tag": {nil, choose.Filter{NoTags: []string{"zzz"}, Tags: []string{"smoke"}},
			shard.Shard{}, ""},
		"old: meta": {[]string{"plain.test.lua"}, choose.Filter{TagMeta: []string{"k=zzz"}},
			shard.Shard{}, ""},
		"old: one tag of two": {nil, choose.Filter{Tags: []string{"zzz", "smoke"}}, shard.Shard{}, ""},
		"empty shard":         {nil, choose.Filter{Names: []string{"boots"}}, shard.Shard{Index: 1, Count: 2}, ""},
		"the other shard":     {nil, choose.Filter{Names: []string{"boots"}}, shard.Shard{Index: 2, Count: 2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := chosen(t)
			os.Remove(filepath.Join(l.o.Config.Dir, "needs.test.lua"))
			l.o.Select.Paths, l.o.Filter, l.o.Select.Shard = c.paths, c.filter, c.shard
			code, err := l.run()
			switch {
			case c.want == "" && (code != ExitOK || err != nil):
				t.Errorf("%d, %v, %s", code, err, l.stderr)
			case c.want != "" && (code != ExitError || err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%d, %v, want %s", code, err, c.want)
			}
			if c.want == "" || strings.Contains(c.want, "no such file") || strings.Contains(c.want, "directory") {
				return
			}
			if len(l.events) > 0 {
				t.Errorf("something ran: %v", l.kinds())
			}
			l.o.Select.AllowEmpty = true
			if code, err := l.run(); code != ExitOK || err != nil {
				t.Errorf("with --allow-empty: %d, %v", code, err)
			}
		})
	}
}

// Where only the run shows the names of tests, it is the end of the run that says that none
// matched.
func TestNothingMatchesAtTheEnd(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `
local case = test
case("boots", function(t) end)
error(vm == nil and "needs a guest" or nil) -- as collecting sees it
`, "b": passes})
	if err := os.WriteFile(filepath.Join(l.o.Config.Dir, "a"+testSuffix), []byte(`
local case, count = test, io.open("count", "a")
count:write("x") count:close()
assert(#io.open("count"):read("a") > 1, "the first time it fails, as one that needs a guest")
case("boots", function(t) end)
`), 0o644); err != nil {
		t.Fatal(err)
	}
	l.o.Filter.Names = []string{"boot it"}
	code, err := l.run()
	if code != ExitError || err == nil || err.Error() != "no test matches what was asked for; did you mean `boots`?" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	l.o.Filter.Names = []string{"boots"}
	if code, err := l.run(); code != ExitOK || err != nil || l.results() != "a boots=passed ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
}

func TestRerunFailedTests(t *testing.T) {
	const file = `
local mended = io.open("mended")
test("a", function(t) t:assert(mended) end)
test("b", function(t) end)
test("c", function(t) t:assert(mended) end)
`
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": file, "b": passes})
	if code, err := l.run(); code != ExitFailed || err != nil ||
		l.results() != "a a=failed b=passed c=failed; b p=passed ok" {
		t.Fatalf("%d, %v, %s", code, err, l.results())
	}
	l.o.Select.RerunFailed, l.o.Select.RerunState = true, l.o.RerunState
	if code, err := l.run(); code != ExitFailed || err != nil || l.results() != "a a=failed b=skipped c=failed" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if err := os.WriteFile(filepath.Join(l.o.Config.Dir, "mended"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.o.Filter.Names = []string{"a"} // one of them, of the two that failed
	if code, err := l.run(); code != ExitOK || err != nil || l.results() != "a a=passed b=skipped c=skipped ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	l.o.Filter.Names = nil
	if code, err := l.run(); code != ExitOK || err != nil || l.results() != "a a=skipped b=skipped c=passed ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if code, err := l.run(); code != ExitOK || err != nil || !strings.Contains(l.stderr, "nothing to re-run") {
		t.Errorf("%d, %v, %s", code, err, l.stderr)
	}
}

func TestListTests(t *testing.T) {
	l := chosen(t)
	list := func() string {
		tests, notice, err := ListTests(t.Context(), l.o)
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, test := range tests {
			out = append(out, fmt.Sprintf("%s:%d %s %q", strings.TrimSuffix(test.Path, testSuffix), test.Line,
				test.Name,
				test.Tags))
		}
		return strings.Join(append(out, notice), "\n")
	}
	const all = `each:3 case 1 ["many"]
each:3 case 2 ["many"]
each:4 last ["smoke" "net"]
hidden:4 loop a ["loop"]
hidden:4 loop b ["loop"]
needs:4 ? ["guest"]
plain:3 boots ["smoke"]
plain:5 reads a file []
plain:6 is slow []
`
	if got := list(); got != all {
		t.Errorf("got\n%s\nwant\n%s", got, all)
	}
	l.o.Filter = choose.Filter{Tags: []string{"net"}}
	if got := list(); got != "each:4 last [\"smoke\" \"net\"]\n" {
		t.Errorf("got\n%s", got)
	}
	l.o.Filter = choose.Filter{NoTags: []string{"net"}}
	l.o.Select.Paths = []string{"each.test.lua:4"}
	if got := list(); got != "no test is selected (1 files)" {
		t.Errorf("got\n%s", got)
	}
}
