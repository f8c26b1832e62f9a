package script

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// logs returns the log of each test, in order.
func (o outcome) logOf(t *testing.T, name string) string {
	t.Helper()
	return strings.Join(o.passed(t, name).Log, " ")
}

func TestHooks(t *testing.T) {
	o := run(t, `
local order = {}
local function note(text) return function() order[#order + 1] = text end end
before_each(function(t) t:log("hook of " .. t.name) end)
before_each(note("before"))
after_each(note("after 1"))
after_each(note("after 2"))
test("a", function(t)
  t:defer(note("deferred 1"))
  t:defer(function() t:defer(note("nested")) order[#order + 1] = "deferred 2" end)
  order[#order + 1] = "body"
end)
test("b", function(t) t:log(table.concat(order, ", ")) end)
test("left out", {skip = true}, note("never"))
test("c", function(t) t:log(#order) end)
`)
	if got := o.logOf(t, "a"); got != "hook of a" {
		t.Errorf("log %q", got)
	}
	const want = "hook of b before, body, deferred 2, nested, deferred 1, after 2, after 1, before"
	if got := o.logOf(t, "b"); got != want {
		t.Errorf("order %q\nwant  %q", got, want)
	}
	if got := o.logOf(t, "c"); got != "hook of c 11" { // nothing ran around the skipped test
		t.Errorf("log %q", got)
	}
}

func TestHooksThatFail(t *testing.T) {
	o := run(t, `
local mode
before_each(function(t)
  if t.meta.before == "fail" then t:fail("before broke") end
  if t.meta.before == "skip" then t:skip("not here") end
end)
after_each(function(t)
  t:log("after")
  if t.meta.after == "fail" then t:fail("after broke") end
  if t.meta.after == "raise" then error("after raised") end
  if t.meta.after == "skip" then t:skip("late") end
end)
test("body does not run", {before = "fail"}, function(t) t:log("body") end)
test("skipped before", {before = "skip"}, function(t) t:log("body") end)
test("after fails", {after = "fail"}, function(t) t:log("body") end)
test("after raises", {after = "raise"}, function(t) t:defer(function() error("deferred raised") end) end)
test("both fail", {after = "raise"}, function(t) t:fail("body broke") end)
test("skip that fails after", {after = "raise"}, function(t) t:skip("gone") end)
test("no late skip", {after = "skip"}, function(t) end)
`)
	e := o.failed(t, "body does not run", "x.test.lua:4: before broke")
	if fmt.Sprint(e.Log) != "[after]" {
		t.Errorf("log %q", e.Log)
	}
	o.skipped(t, "skipped before", "not here")
	e = o.failed(t, "after fails", "x.test.lua:9: after broke\n", ">     9 |   if t.meta.after == \"fail\"")
	if fmt.Sprint(e.Log) != "[body after]" || strings.Contains(e.Reason, "later") {
		t.Errorf("log %q, reason %s", e.Log, e.Reason)
	}
	o.failed(t, "after raises", "x.test.lua:16: deferred raised\n",
		"later, after the body: tests/x.test.lua:10: after raised")
	e = o.failed(t, "both fail", "x.test.lua:17: body broke",
		"later, after the body: tests/x.test.lua:10: after raised")
	if !strings.HasPrefix(e.Reason, "tests/x.test.lua:17: body broke") {
		t.Errorf("reason %s", e.Reason)
	}
	o.failed(t, "skip that fails after", "x.test.lua:10: after raised")
	o.failed(t, "no late skip", "t:skip: the body has run, so the test cannot be skipped any more")
}

// What is to run after a test runs after one that was stopped, too.
func TestHooksAfterATimeout(t *testing.T) {
	o := run(t, `
local ran = {}
after_each(function(t) ran[#ran + 1] = "after " .. t.name end)
test("endless", {timeout = "50ms"}, function(t)
  t:defer(function() ran[#ran + 1] = "deferred" end)
  while true do end
end)
test("endless deferred", {timeout = "50ms"}, function(t) t:defer(function() while true do end end) end)
test("next", function(t) t:log(table.concat(ran, ", ")) end)
`)
	o.failed(t, "endless", "timed out after 0.05s at tests/x.test.lua:6")
	o.failed(t, "endless deferred", "timed out after 0.05s at tests/x.test.lua:8")
	if got := o.logOf(t, "next"); got != "deferred, after endless, after endless deferred" {
		t.Errorf("ran %q", got)
	}
}

// A file that is stopped has a little time left for what is to run after a test.
func TestHooksAfterTheFileIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	project := write(t, map[string]string{testPath: `
test("waits", function(t)
  t:defer(function() print("deferred") end)
  t:defer(function() while true do end end)
  print("ready")
  while true do end
end)`})
	ready := &announcer{seen: make(chan struct{})}
	go func() {
		<-ready.seen
		cancel(fmt.Errorf("stopped from outside"))
	}()
	o := runFile(t, ctx, project, func(c *Config) { c.Stdout = ready })
	o.failed(t, "waits", "stopped from outside at tests/x.test.lua:",
		"later, after the body: stopped after 3s, which is what remains after a test was stopped at tests/x.test.lua:4")
}

// announcer closes seen at the first write.
type announcer struct {
	buffer
	seen chan struct{}
	once bool
}

func (a *announcer) Write(p []byte) (int, error) {
	if !a.once {
		a.once = true
		close(a.seen)
	}
	return a.buffer.Write(p)
}

func TestEach(t *testing.T) {
	o := run(t, `
test.each({1, "two", true}, "plain", function(t, case) t:log(type(case)) end)
test.each({{1, 2, sum = 3}, {4, 5, sum = 9}}, "{1} + {2} = {sum}", {tags = "maths"}, function(t, case)
  t:assert_eq(case[1] + case[2], case.sum)
  t:assert_eq(t.meta.tags, "maths")
end)
test.each({small = {n = 1}, big = {n = 1000}}, "size", function(t, case) t:log(case.n) end)
test.each({{}, {}}, "case {} of {not a field} {", function(t) end)
before_each(function(t, case) t:log("case " .. tostring(case)) end)
`)
	if o.ChunkError != "" || o.Failed != 0 {
		t.Fatalf("%+v", o.Result)
	}
	want := []string{"plain [1]", "plain [two]", "plain [true]", "1 + 2 = 3", "4 + 5 = 9", "size [big]", "size [small]",
		"case 1 of {not a field} {", "case 2 of {not a field} {"}
	if !slices.Equal(o.registered, want) {
		t.Errorf("registered %q", o.registered)
	}
	if got := o.logOf(t, "plain [two]"); got != "case two string" {
		t.Errorf("log %q", got)
	}
}

func TestBadAuthoring(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"each twice": {"test.each({1, 1}, 'a', print)", "test.each: duplicate name `a [1]` in this file"},
		"each none": {"test.each({}, 'a', print)",
			"test.each(cases, name, [meta,] fn): bad arguments: there are no cases"},
		"each cases": {"test.each('a', print)", "bad arguments: cases must be a table, got string"},
		"each name":  {"test.each({1}, print)", "bad arguments: the name must be a string, got function"},
		"each fn":    {"test.each({1}, 'a')", "bad arguments: the function is missing"},
		"each meta":  {"test.each({1}, 'a', 7, print)", "bad arguments: meta must be a table, got number"},
		"each hole": {"test.each({[2] = 1}, 'a', print)",
			"cases must be an array without holes, or a table with names"},
		"each field":  {"test.each({{n = 1}}, 'a {m}', print)", "the name has {m}, which case 1 does not have"},
		"each scalar": {"test.each({7}, 'a {m}', print)", "the name has {m}, and case 1 is no table but a number"},
		"each long": {"test.each({('x'):rep(2^16)}, 'a', print)",
			"the name of a case has 65540 bytes (at most 65536)"},
		"no method": {"test.eech({1}, 'a', print)", "unknown field or method `eech` on test (did you mean `each`?)"},
		"before":    {"before_each()", "before_each: argument 1 (fn) must be a function, got nil"},
		"after": {"after_each(print, 2)",
			"after_each: unexpected argument 2, a number: the form is after_each(fn)"},
	} {
		if o := run(t, "\n"+c.source); !strings.Contains(o.ChunkError, c.want) ||
			!strings.HasPrefix(o.ChunkError, "tests/x.test.lua:2: ") {
			t.Errorf("%s: chunk error lacks %q:\n%s", name, c.want, o.ChunkError)
		}
	}
	for _, c := range []struct{ source, want string }{
		{"before_each(print)", "before_each: cannot be called inside a test body (call it at file scope)"},
		{"after_each(print)", "after_each: cannot be called inside a test body"},
		{"test.each({1}, 'a', print)", "test.each: cannot register tests inside a test body"},
		{"t:defer(7)", "t:defer: argument 1 (fn) must be a function, got number"},
		{"t:defer(print, 'x')", "t:defer: unexpected argument 2, a string: the form is t:defer(fn)"},
		{"t:step(print)", "t:step: argument 1 (name) must be a string, got function"},
		{"t:step('', print)", "t:step: argument 1 (name) must have 1 to 1024 bytes, got 0"},
		{"t:step('a')", "t:step: argument 2 (fn) must be a function, got nil"},
		{"t:assert_matches('x', 7)", "t:assert_matches: argument 2 (pattern) must be a string, got number"},
		{"t:assert_matches('x', '[')", "t:assert_matches: argument 2 (pattern): malformed pattern (missing ']')"},
		{"t:assert_error_matches(7, 'x')", "t:assert_error_matches: argument 1 (fn) must be a function, got number"},
		{"t:assert_error_matches(error, '%')", "t:assert_error_matches: argument 2 (pattern): malformed pattern"},
	} {
		if got := body(t, c.source); !strings.Contains(got, c.want) || !strings.HasPrefix(got, "tests/x.test.lua:2: ") {
			t.Errorf("%s: reason lacks %q:\n%s", c.source, c.want, got)
		}
	}
}

func TestComparisons(t *testing.T) {
	for _, c := range []struct{ source, want string }{ // "": passes
		{"t:assert_gt(2, 1) t:assert_ge(2, 2) t:assert_lt(1, 1.5) t:assert_le('a', 'b')", ""},
		{"t:assert_gt(1, 2)", "assert_gt failed: 1 is not greater than 2"},
		{"t:assert_gt(2, 2)", "assert_gt failed: 2 is not greater than 2"},
		{"t:assert_ge(1, 2, 'users')", "users: 1 is not at least 2"},
		{"t:assert_lt('b', 'a')", "assert_lt failed: b is not less than a"},
		{"t:assert_le(0/0, 1)", "is not at most 1"},
		{"t:assert_gt('10', 9)", "assert_gt failed: cannot compare string and number (10 and 9)"},
		{"t:assert_le(nil, 9, 'free')", "free: cannot compare nil and number (nil and 9)"},
		{"local m = {__lt = function() error('no order', 0) end} local a = setmetatable({}, m) t:assert_lt(a, a)",
			"assert_lt failed: no order"},
		{"t:assert_eq(t:assert_matches('id=42', 'id=(%d+)'), '42')", ""},
		{"t:assert_matches('abc', '^%d')", "assert_matches failed: pattern ^%d does not match: abc"},
		{"t:assert_matches(nil, 'x', 'uname')", "uname: needs a string, got nil"},
		{"t:assert_contains(t:assert_error_matches(function() error('code 7') end, 'code %d'), 'code 7')", ""},
		{"t:assert_error_matches(function() error('code x') end, 'code %d')",
			"assert_error_matches failed: pattern code %d does not match the error: tests/x.test.lua:2: code x"},
		{"t:assert_error_matches(function() end, 'x')", "assert_error_matches: expected to raise"},
		{"t:assert_error_matches(function() t:fail() end, 'explicit')", ""},
	} {
		got := body(t, c.source)
		if c.want == "" && got != "" || c.want != "" &&
			(!strings.Contains(got, c.want) || !strings.HasPrefix(got, "tests/x.test.lua:2: ")) {
			t.Errorf("%s: want %q, got\n%s", c.source, c.want, got)
		}
		if strings.Contains(got, "operators:") {
			t.Errorf("%s: the traceback has our own function:\n%s", c.source, got)
		}
	}
}

func TestAssertSame(t *testing.T) {
	for _, c := range []struct{ source, want string }{ // "": passes
		{"t:assert_same({1, {x = 'y'}}, {1.0, {x = 'y'}})", ""},
		{"t:assert_same('a', 'a') t:assert_same(nil, nil) t:assert_same(1, 1.0)", ""},
		{"local a, b = {}, {} a.self, b.self = a, b t:assert_same(a, b)", ""},
		{"local a = {} a.self = a t:assert_same(a, {self = {self = a}})", ""},
		{"local m = {__eq = function() return true end} t:assert_same(setmetatable({1}, m), setmetatable({2}, m))", ""},
		{"t:assert_same(setmetatable({1}, {}), {1})", ""},
		{"t:assert_same(1, 2)", "assert_same failed: 1 ~= 2\n"},
		{"t:assert_same(1, '1')", `assert_same failed: 1 ~= "1"`},
		{"t:assert_same({1}, 7, 'config')", "config: a table ~= 7\n"},
		{"t:assert_same({a = {b = {1, 2}}}, {a = {b = {1, 3}}})", "assert_same failed: 2 ~= 3 at a.b[2]\n" +
			"difference (- first, + second):\n"},
		{"t:assert_same({a = {b = {1, 2}}}, {a = {b = {1, 3}}})", "-       2,\n+       3,"},
		{"t:assert_same({1, 2}, {1})", "assert_same failed: 2 ~= nil at [2]"},
		{"t:assert_same({}, {x = false})", "assert_same failed: nil ~= false at x"},
		{"t:assert_same({0/0}, {0/0})", "at [1]"},
		{"local k = {} t:assert_same({[k] = 1}, {[{}] = 1})", "assert_same failed: 1 ~= nil at ["},
		{"local deep, other = {}, {} local a, b = deep, other " +
			"for _ = 1, 5000 do a.n, b.n = {}, {} a, b = a.n, b.n end " +
			"a.leaf = 1 t:assert_same(deep, other)", "assert_same failed: 1 ~= nil at n.n"},
	} {
		got := body(t, c.source)
		if c.want == "" && got != "" || !strings.Contains(got+"\n", c.want) {
			t.Errorf("%s: want %q, got\n%.2000s", c.source, c.want, got)
		}
	}
}

func TestSteps(t *testing.T) {
	o := run(t, `
test("returns", function(t) t:assert_eq(select("#", t:step("s", function() return 1, nil, 3 end)), 3) end)
test("asserts", function(t)
  t:step("set up", function() end)
  t:step("outer", function() t:step("inner", function() t:fail() end) end)
end)
test("raises", function(t)
  t:step("caught", function() pcall(t.step, t, "in", function() error("not this one") end) end)
  t:step("broken", function() error("this one") end)
end)
test("outside", function(t)
  pcall(t.step, t, "inside", function() error("first", 0) end)
  error("second")
end)
test("stops", {timeout = "50ms"}, function(t) t:step("endless", function() while true do end end) end)
test("tasks", function(t)
  t:step("both", function()
    parallel{function() t:step("left", function() end) end, function() t:step("right", function() t:fail() end) end}
  end)
end)
`)
	o.passed(t, "returns")
	o.failed(t, "asserts", "x.test.lua:5: explicit failure (t:fail)\nin step `outer` > `inner`\n")
	o.failed(t, "raises", "x.test.lua:9: this one\nin step `broken`\n")
	if e := o.failed(t, "outside", "x.test.lua:13: second"); strings.Contains(e.Reason, "in step") {
		t.Errorf("reason %s", e.Reason)
	}
	o.failed(t, "stops", "timed out after 0.05s", "in step `endless`")
	o.failed(t, "tasks", "explicit failure (t:fail)\nin step `both` > `right`\n")
}

// Hooks count against the limit of the test, and background tasks of a hook are awaited.
func TestHooksHaveTheLimitOfTheTest(t *testing.T) {
	started := time.Now()
	o := run(t, `
local done
before_each(function(t)
  if t.name == "slow" then while true do end end
  co.wrap(function() wait_until(function() return done end) t:log("task") end)()
end)
test("slow", {timeout = "50ms"}, function() end)
test("task", function(t) t:log("body") done = true end)
`)
	o.failed(t, "slow", "timed out after 0.05s at tests/x.test.lua:4")
	if got := o.logOf(t, "task"); got != "body task" {
		t.Errorf("log %q", got)
	}
	t.Logf("%v", time.Since(started))
}
