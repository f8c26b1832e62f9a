package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"provium/internal/event"
)

// outcome is what a run of a file showed from outside.
type outcome struct {
	Result
	events     []event.Event
	stdout     string
	stderr     string
	registered []string
}

// test returns the final event of a test.
func (o outcome) test(t *testing.T, name string) event.Event {
	t.Helper()
	var found event.Event
	for _, e := range o.events {
		switch e := e.(type) {
		case event.TestPassed:
			if e.Name == name {
				found = e
			}
		case event.TestFailed:
			if e.Name == name {
				found = e
			}
		case event.TestSkipped:
			if e.Name == name {
				found = e
			}
		}
	}
	if found == nil {
		t.Fatalf("no result of test %q; chunk error: %s", name, o.ChunkError)
	}
	return found
}

func (o outcome) passed(t *testing.T, name string) event.TestPassed {
	t.Helper()
	e, ok := o.test(t, name).(event.TestPassed)
	if !ok {
		t.Fatalf("test %q did not pass: %+v", name, o.test(t, name))
	}
	return e
}

func (o outcome) failed(t *testing.T, name string, needles ...string) event.TestFailed {
	t.Helper()
	e, ok := o.test(t, name).(event.TestFailed)
	if !ok {
		t.Fatalf("test %q did not fail: %+v", name, o.test(t, name))
	}
	for _, n := range needles {
		if !strings.Contains(e.Reason, n) {
			t.Errorf("reason of %q lacks %q:\n%s", name, n, e.Reason)
		}
	}
	return e
}

func (o outcome) skipped(t *testing.T, name, reason string) {
	t.Helper()
	e, ok := o.test(t, name).(event.TestSkipped)
	if !ok {
		t.Fatalf("test %q was not skipped: %+v", name, o.test(t, name))
	}
	if e.Reason != reason {
		t.Errorf("test %q was skipped with %q, want %q", name, e.Reason, reason)
	}
}

// buffer is a writer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// write puts files below a fresh project directory.
func write(t *testing.T, files map[string]string) (project string) {
	t.Helper()
	project = t.TempDir()
	for name, text := range files {
		path := filepath.Join(project, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return project
}

const testPath = "tests/x.test.lua"

// runFile runs tests/x.test.lua of a project on a host of fake machines.
func runFile(t *testing.T, ctx context.Context, project string, change func(*Config)) outcome {
	t.Helper()
	var out outcome
	var mu sync.Mutex
	var stdout, stderr buffer
	cfg := Config{
		Env: Env{
			Project: project, Roots: []string{filepath.Join(project, "tests")},
			Host:   testHost(t),
			Stdout: &stdout, Stderr: &stderr,
			Emit: func(e event.Event) {
				mu.Lock()
				defer mu.Unlock()
				out.events = append(out.events, e)
			},
		},
		Path: testPath, AbsPath: filepath.Join(project, testPath),
		Registered: func(names []string) { out.registered = names },
	}
	if change != nil {
		change(&cfg)
	}
	out.Result = Run(ctx, cfg)
	out.stdout, out.stderr = stdout.String(), stderr.String()
	for _, e := range out.events {
		if m, ok := e.(event.TestStarted); ok {
			if err := m.Meta.Check(); err != nil {
				t.Errorf("meta of %q: %v", m.Name, err)
			}
		}
	}
	return out
}

// run runs one file made of source.
func run(t *testing.T, source string) outcome {
	t.Helper()
	return runFile(t, context.Background(), write(t, map[string]string{testPath: source}), nil)
}

// body runs source as the body of one test and gives its reason of failure, "" if it passed.
func body(t *testing.T, source string) string {
	t.Helper()
	o := run(t, "test('it', function(t)\n"+source+"\nend)")
	switch e := o.test(t, "it").(type) {
	case event.TestFailed:
		return e.Reason
	case event.TestSkipped:
		t.Fatalf("skipped: %s", e.Reason)
	}
	return ""
}

func TestOutcomes(t *testing.T) {
	o := run(t, `
print("loading")
test("good", {n = 1, list = {1, 2}, [3] = "x"}, function(t) t:log(12) t:log({}) print("hi", 1) end)
test("bad", function(t) t:assert_eq(1, 2) end)
test("raises", function(t) local x = nil; x.y = 1 end)
test("out", function(t) t:skip("no disk") end)
test("swallowed", function(t) pcall(t.fail, t) end)
`)
	if o.ChunkError != "" || o.Passed != 1 || o.Failed != 3 || o.Skipped != 1 || o.Poisoned {
		t.Errorf("result %+v", o.Result)
	}
	if o.stdout != "loading\nhi\t1\n" {
		t.Errorf("stdout %q", o.stdout)
	}
	if got := strings.Join(o.registered, ","); got != "good,bad,raises,out,swallowed" {
		t.Errorf("registered %s", got)
	}
	good := o.passed(t, "good")
	if len(good.Log) != 2 || good.Log[0] != "12" || !strings.HasPrefix(good.Log[1], "table: ") {
		t.Errorf("log %q", good.Log)
	}
	if fmt.Sprint(good.Meta) != "map[3:x list:[1 2] n:1]" {
		t.Errorf("meta %v", good.Meta)
	}
	o.failed(t, "bad", "tests/x.test.lua:4: assert_eq failed: 1 ~= 2\n", "\n>     4 | test(\"bad\"")
	o.failed(t, "raises", "tests/x.test.lua:5: attempt to index a nil value (local 'x')", "\n>     5 | test(\"raises\"")
	o.skipped(t, "out", "no disk")
	o.failed(t, "swallowed", "tests/x.test.lua:7: explicit failure (t:fail)")
}

func TestEventsComeInPairs(t *testing.T) {
	o := run(t, `test("a", function() end) test("b", {skip = true}, function() end)`)
	var kinds []string
	for _, e := range o.events {
		kinds = append(kinds, string(e.Kind()))
	}
	if got := strings.Join(kinds, " "); got != "test_started test_passed test_started test_skipped" {
		t.Error(got)
	}
}

func TestChunkErrors(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"syntax":     {"test('a', function(t)\n x = = 1 end)", "tests/x.test.lua:2:"},
		"raise":      {"\nerror('early')", "tests/x.test.lua:2: early\n      1 |\n>     2 | error('early')"},
		"table":      {"error({code = 7, text = 'x'})", "error object: {\n  code = 7,\n  text = \"x\",\n}"},
		"duplicate":  {"test('a', print) test('a', print)", "test: duplicate name `a` in this file"},
		"no name":    {"test(print)", "test(name, [meta,] fn): bad arguments: the name must be a string, got function"},
		"empty name": {"test('', print)", "bad arguments: the name must not be empty"},
		"no fn":      {"test('a')", "bad arguments: the function is missing"},
		"no fn 2":    {"test('a', {})", "bad arguments: the last argument must be a function, got nil"},
		"meta type":  {"test('a', 7, print)", "bad arguments: meta must be a table, got number"},
		"meta fn":    {"test('a', {f = print}, print)", "bad arguments: meta.f is a function"},
		"meta cycle": {"local m = {}; m.x = {m} test('a', m, print)", "meta.x[1] is a cycle"},
		"meta key":   {"test('a', {[true] = 1}, print)", "meta has a key of type boolean"},
		"meta size":  {"test('a', {v = ('x'):rep(2^20)}, print)", "meta is too large (at most 1048576 bytes)"},
		"meta many":  {"local m = {} for i = 1, 1e5 do m[i] = true end test('a', m, print)", "meta is too large"},
		"long name":  {"test(('n'):rep(2^16 + 1), print)", "the name has 65537 bytes (at most 65536)"},
		"meta ud":    {"test('a', {v = {provium}}, print)", "meta.v[1] is a lab"},
		"skip":       {"test('a', {skip = {}}, print)", "meta.skip must be"},
		"slow":       {"test('a', {slow = 'yes'}, print)", "meta.slow must be"},
		"tags":       {"test('a', {tags = {1}}, print)", "meta.tags must be an array of strings, entry 1 is number"},
		"spec":       {"test('a', {spec = 1}, print)", "meta.spec must be"},
		"timeout":    {"test('a', {timeout = '5 s'}, print)", "meta.timeout: duration: cannot parse `5 s`"},
		"oops":       {"test('a', {allow_oops = 1}, print)", "meta.allow_oops must be true or false, got number"},
		"warnings": {"test('a', {allow_warnings = 1}, print)",
			"meta.allow_warnings must be true or false, got number"},
		"panic":     {"test('a', {expect_panic = 'x'}, print)", "meta.expect_panic must be true or false, got string"},
		"setting":   {"provium.timout = 1", "provium: unknown setting `timout` (valid: timeout, reset_between_tests)"},
		"setting 2": {"provium.timeout = {}", "provium.timeout: duration: expected number|string, got table"},
		"exit":      {"os.exit(3)", "os.exit"},
		"require":   {"require('no.such')", "module 'no.such' not found"},
	} {
		o := run(t, c.source)
		if !strings.Contains(o.ChunkError, c.want) {
			t.Errorf("%s: chunk error lacks %q:\n%s", name, c.want, o.ChunkError)
		}
		if len(o.events) != 0 || o.registered != nil {
			t.Errorf("%s: %d events, registered %v", name, len(o.events), o.registered)
		}
	}
	if o := run(t, ""); o.ChunkError != "" || len(o.events) != 0 {
		t.Errorf("empty file: %+v", o)
	}
}

func TestAssertions(t *testing.T) {
	long := strings.Repeat("x", 100)
	for source, want := range map[string]string{
		"t:assert(1)":                        "",
		"t:assert(false)":                    "tests/x.test.lua:2: assertion failed",
		"t:assert(nil, 'why')":               "tests/x.test.lua:2: why",
		"t:assert_eq(1, 1.0)":                "",
		"t:assert_eq('a', 'b', 'leader')":    "leader: a ~= b",
		"t:assert_eq(nil, 'n1')":             "assert_eq failed: nil ~= n1",
		"t:assert_eq(1, '1')":                "assert_eq failed: 1 (number) ~= 1 (string)",
		"t:assert_neq(1, 2)":                 "",
		"t:assert_neq(2, 2)":                 "assert_neq failed: 2 == 2",
		"t:assert_neq({}, {})":               "",
		"t:assert_contains('hay', 'a')":      "",
		"t:assert_contains('hay', 'a.')":     "assert_contains failed: a. not found in: hay",
		"t:assert_contains('hay', 'b', 'm')": "m: b not found in: hay",

		"t:assert_contains(nil, 1)": "assert_contains failed: needs two strings, got nil and number",

		"t:assert_raises(error)":                        "",
		"t:assert_raises(function() end)":               "assert_raises: expected to raise",
		"t:assert_raises(function() end, 'm')":          "m: expected to raise",
		"t:assert_raises(nil)":                          "t:assert_raises: argument 1 (fn) must be a function, got nil",
		"t:fail()":                                      "explicit failure (t:fail)",
		"t:fail('f')":                                   "tests/x.test.lua:2: f",
		"t.assert(true)":                                "':'",
		"t:asert(true)":                                 "did you mean `assert`?",
		"t:assert_raises(function() t:fail() end)":      "",
		"t:assert_eq('a\\nb\\nc', 'a\\nB\\nc')":         "difference (- first, + second):\n  a\n- b\n+ B\n  c",
		"t:assert_eq('" + long + "1', '" + long + "2')": "first difference at byte 101",
		"t:assert_eq({1, a = {2}}, {1, a = {3}})":       "  {\n    1,\n    a = {\n-     2,\n+     3,\n    },\n  }",

		"t:assert_eq({1}, {1})": "both tables hold the same, but assert_eq compares tables by identity",

		"local x = {} x.x = x; t:assert_eq(x, {})": "= <cycle to the outermost " +
			"table>",
		"t:assert_eq(setmetatable({}, {__eq = function() return true end}), {})":       "",
		"local r = t:assert_raises(function() error({c = 1}) end) t:assert_eq(r.c, 1)": "",
	} {
		got := body(t, source)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %q", source, got, want)
		}
	}
}

func TestStickyFailure(t *testing.T) {
	o := run(t, `
test("pcall", function(t) pcall(function() t:assert_eq(1, 2, "first") end) t:log("on") t:fail("second") end)
test("skip after failure", function(t) pcall(t.fail, t, "broken") t:skip("later") end)
test("skip in pcall", function(t) pcall(t.skip, t, "why") end)
test("skip raised again", function(t) local ok, err = pcall(t.skip, t, "why") error(err, 0) end)
test("failure raised again", function(t) local ok, err = pcall(t.fail, t, "why") error(err, 0) end)
test("skip in assert_raises", function(t) t:assert_raises(function() t:skip("why") end) t:fail() end)
test("swallowed in assert_raises", function(t) t:assert_raises(function() pcall(t.fail, t) error("x") end) end)
test("nested", function(t)
  t:assert_raises(function() t:assert_raises(function() end) end)
end)
test("coroutine", function(t) coroutine.wrap(function() pcall(t.fail, t, "inside") end)() end)
local old
test("keeps t", function(t) old = t end)
test("t of another test", function(t) old:assert(true) end)
`)
	e := o.failed(t, "pcall", "tests/x.test.lua:2: first: 1 ~= 2")
	if strings.Contains(e.Reason, "x.test.lua:2: second") || len(e.Log) != 1 {
		t.Errorf("reason %q log %q", e.Reason, e.Log)
	}
	o.failed(t, "skip after failure", "broken")
	o.skipped(t, "skip in pcall", "why")
	o.skipped(t, "skip raised again", "why")
	o.failed(t, "failure raised again", "tests/x.test.lua:6: why")
	o.skipped(t, "skip in assert_raises", "why")
	o.passed(t, "swallowed in assert_raises")
	o.passed(t, "nested")
	o.failed(t, "coroutine", "tests/x.test.lua:12: inside")
	o.failed(t, "t of another test", "this t belongs to test `keeps t`, which has ended")
}

func TestSkipping(t *testing.T) {
	source := `
test("flag", {skip = true}, function(t) t:fail() end)
test("number", {skip = 1}, function(t) t:fail() end)
test("text", {skip = "no kvm"}, function(t) t:fail() end)
test("off", {skip = false, slow = 0}, function(t) end)
test("slow", {slow = 1, tags = "x"}, function(t) end)
`
	o := runFile(t, context.Background(), write(t, map[string]string{testPath: source}), func(c *Config) {
		c.Filter = func(r Registered) (bool, string) { return r.Meta.Slow, "filtered: slow" }
	})
	o.skipped(t, "flag", "skipped (meta.skip)")
	o.skipped(t, "number", "skipped (meta.skip)")
	o.skipped(t, "text", "skipped: no kvm")
	o.passed(t, "off")
	o.skipped(t, "slow", "filtered: slow")

	o = run(t, `test("a", function(t) t:fail() end) todo() test("b", {skip = true}, print)`)
	o.skipped(t, "a", "todo")
	o.skipped(t, "b", "todo")
	o = run(t, `todo("next week") test("a", print)`)
	o.skipped(t, "a", "next week")
	o = run(t, `todo({})`)
	if !strings.Contains(o.ChunkError, "todo: argument 1 (reason) must be a string, got table") {
		t.Error(o.ChunkError)
	}
}

func TestRequireAndPaths(t *testing.T) {
	o := runFile(t, context.Background(), write(t, map[string]string{
		testPath: `
local helper = require("lib.helper")
test("error in a helper", function(t) helper.fail(t) end)
test("relative push", function(t) provium:vm("v", "host"):push_file("gone", "/x") end)
test("helper push", function(t) helper.push(provium:vm("v", "host")) end)`,

		"tests/lib/helper.lua": "return {\nfail = function(t) t:assert(false) end,\n" +
			"push = function(v) v:push_file('gone', '/x') end}",
	}), nil)
	if o.ChunkError != "" {
		t.Fatal(o.ChunkError)
	}
	e := o.failed(t, "error in a helper", "tests/lib/helper.lua:2: assertion failed", "tests/x.test.lua:3: in function")
	if strings.Contains(e.Reason, "[C]: in ?") {
		t.Error(e.Reason)
	}
	o.failed(t, "relative push", "/tests/gone: no such file or directory")
	o.failed(t, "helper push", "/tests/lib/gone: no such file")
}

// TestSourcePath has the running chunk know where it is.
func TestSourcePath(t *testing.T) {
	dir := write(t, map[string]string{
		testPath: `
local before = _PROVIUM_SOURCE_PATH
local pkg = require("lib.pkg")
local after = _PROVIUM_SOURCE_PATH
pcall(require, "lib.bad")
test("paths", function(t)
  t:assert_contains(before, "/tests/x.test.lua")
  t:assert_eq(before:sub(1, 1), "/")
  t:assert_contains(pkg.path, "/tests/lib/pkg/init.lua")
  t:assert_contains(pkg.inner, "/tests/lib/inner.lua")
  t:assert_eq(pkg.after, pkg.path)
  t:assert_eq(pkg.name, "lib.pkg")
  t:assert_eq(after, before) t:assert_eq(_PROVIUM_SOURCE_PATH, before)
end)`,
		"tests/lib/pkg/init.lua": `local path, inner = _PROVIUM_SOURCE_PATH, require("lib.inner")
return {path = path, inner = inner, after = _PROVIUM_SOURCE_PATH, name = ...}`,
		"tests/lib/inner.lua": "return _PROVIUM_SOURCE_PATH",
		"tests/lib/bad.lua":   "error('no')",
	})
	o := runFile(t, context.Background(), dir, nil)
	if o.ChunkError != "" {
		t.Fatal(o.ChunkError)
	}
	o.passed(t, "paths")
}

func TestTimeouts(t *testing.T) {
	o := run(t, `
test("loop", {timeout = "50ms"}, function(t)
  while true do
  end
end)
test("pcall loop", {timeout = 0.05}, function(t)
  while true do pcall(function() while true do end end) end
end)
test("op", {timeout = "1s"}, function(t)
  wait_until(function() return false end, {timeout = 100, interval = 100, desc = "never"})
end)
test("setting", function(t)
  provium.timeout = "20ms"
  while true do end
end)
test("setting stays", function(t) while true do end end)
test("meta wins", {timeout = 0}, function(t) for i = 1, 1e7 do end end)
test("after", {timeout = "10s"}, function(t) end)
`)
	if e := o.failed(t, "loop", "timed out after 0.05s at tests/x.test.lua:"); strings.Contains(e.Reason, " in ") &&
		strings.Contains(strings.SplitN(e.Reason, "\n", 2)[0], " in ") {
		t.Error(e.Reason)
	}
	o.failed(t, "pcall loop", "timed out after 0.05s at tests/x.test.lua:7")
	o.failed(t, "op", `timed out after 1s in wait_until("never") at tests/x.test.lua:10`)
	o.failed(t, "setting", "timed out after 0.02s at tests/x.test.lua:14")
	o.failed(t, "setting stays", "timed out after 0.02s")
	o.passed(t, "meta wins")
	o.passed(t, "after")
}

func TestFileStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	project := write(t, map[string]string{testPath: `
test("runs", function(t) print("started") while true do end end)
test("never", function(t) end)`})
	o := runFile(t, ctx, project, func(c *Config) {
		c.Stdout = writerFunc(func(p []byte) { cancel(errors.New("the file's limit has passed")) })
	})
	o.failed(t, "runs", "the file's limit has passed at tests/x.test.lua:2")
	o.skipped(t, "never", "not run: the file's limit has passed")
}

type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestWaitUntil(t *testing.T) {
	for source, want := range map[string]string{
		"local n = 0; t:assert_eq(wait_until(function() n = n + 1 return n > 2 and n end, {interval = 0}), 3)": "",
		"t:assert_eq(wait_until(function() return 7 end, {timeout = 0}), 7)":                                   "",

		"wait_until(function() end, {timeout = 0})": "wait_until: condition not met within 0s",

		"wait_until(function() end, {timeout = '20ms', desc = 'x'})": "wait_until: x not met within 0.02s",

		"wait_until(function() error('broken') end)": "tests/x.test.lua:2: broken",

		"wait_until()":                         "wait_until: argument 1 (predicate) must be a function, got nil",
		"wait_until(print, {timeout = '5 s'})": "wait_until: bad timeout string `5 s`",
		"wait_until(print, {timout = 1})":      "unknown option `timout` (valid: timeout, interval, desc)",
		"wait_until(print, {timeout = -1})":    "must be a finite, non-negative number",
		"wait_until(print, 5)":                 "must be a table, got number",
		"wait_until(function() t:assert(false, 'in it') end, {timeout = 0})":   "tests/x.test.lua:2: in it",
		"coroutine.wrap(function() wait_until(function() return 1 end) end)()": "",
	} {
		got := body(t, source)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %q", source, got, want)
		}
	}
}

func TestJSONFromLua(t *testing.T) {
	for source, want := range map[string]string{
		`t:assert_eq(json.encode({1, 2.5, "x", true, {a = {}}}), '[1,2.5,"x",true,{"a":{}}]')`: "",
		`t:assert_eq(json.encode(nil), "null")`:                                                "",
		`t:assert_eq(json.encode({[1] = 1, [3] = 3}), "[1,null,3]")`:                           "",
		`t:assert_eq(json.encode({1, x = 2}), '{"1":1,"x":2}')`:                                "",
		`t:assert_eq(json.encode({[-1] = 1}), '{"-1":1}')`:                                     "",
		`t:assert_eq(json.encode(1e15), "1e+15")`:                                              "",
		`t:assert_eq(json.encode(3.0), "3.0")`:                                                 "",
		`t:assert_eq(json.decode('[1,null,3]')[3], 3)`:                                         "",
		`t:assert_eq(json.decode('{"a":18446744073709551615}').a, -1)`:                         "",

		`json.encode({a = {print}})`: "json.encode: value.a[1] is a function, which JSON cannot hold",

		`local c = {} c[1] = c json.encode(c)`: "json.encode: value[1] is a cycle",

		`json.encode({[1.5] = 1})`: "json.encode: value has a key of type number",

		`json.encode({[1] = 1, [9999999] = 1})`: "is an array with 9999997 gaps",

		`json.encode({[1] = 1, ["1"] = 1})`: "has the key `1` as integer and as string",

		`json.encode(0/0)`: "value is ",

		`json.decode('{')`: "json.decode: unexpected end of text, expected a string as key at line 1 column 2",

		`json.decode(7)`: "json.decode: argument 1 must be a string, got number",
	} {
		got := body(t, source)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %q", source, got, want)
		}
	}
}

// One rule for relative paths of the host, and errors that show where was looked.
func TestRelativeHostPaths(t *testing.T) {
	project := write(t, map[string]string{
		testPath: `
local helper = require("lib.helper")
local vm = provium:vm("v", "host"):boot()
test("push", function() vm:push_file("gone", "/x") end)
test("push in a helper", function() helper.push(vm) end)
test("wrong state", function() provium:vm("w", "host"):snapshot("gone.snap") end)`,
		"tests/lib/helper.lua": "return {push = function(v) v:push_file('gone', '/x') end}",
	})
	o := runFile(t, context.Background(), project, nil)
	for name, want := range map[string]string{
		"push":             "tests/gone: no such file or directory",
		"push in a helper": "tests/lib/gone: no such file or directory",
	} {
		e := o.failed(t, name, want)
		if !strings.Contains(e.Reason, filepath.Join(project, want[:strings.IndexByte(want+":", ':')])) {
			t.Errorf("%s does not show the path that was tried:\n%s", name, e.Reason)
		}
	}
	if e := o.failed(t, "wrong state"); strings.Contains(e.Reason, "tried") {
		t.Error(e.Reason)
	}
}
