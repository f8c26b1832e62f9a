package script

import (
	"fmt"
	"runtime/debug"
	"testing"

	"provium/internal/fulltest"
)

func TestParallel(t *testing.T) {
	most := fulltest.Of(1_000, 10_000) // which is Go's own limit
	defer debug.SetMaxThreads(debug.SetMaxThreads(most))
	check(t, "", map[string]string{
		`local a, b, c = parallel{function() return 1, 9 end, function() end, function() return "x" end}
		 t:assert_eq(a, 1) t:assert_eq(b, nil) t:assert_eq(c, "x")`: "",
		`t:assert_eq(select("#", parallel{}), 0)`: "",
		// Each waits for what another one does.
		`local n = 0
		 local function step(k) return function() wait_until(function() return n == k end, {interval = "1ms"}) n
		= n + 1 end end
		 parallel{step(2), step(1), step(0)} t:assert_eq(n, 3)`: "",
		`local reached
		 local err = t:assert_raises(function()
			parallel{function() provium:barrier("b", 2) error("first") end,
			         function() provium:barrier("b", 2) wait_until(function() return reached end, {timeout = 60}) end}
		 end)
		 t:assert_contains(err, "first") t:assert_eq(reached, nil)`: "",

		`parallel{function() error({code = 7}) end}`: "code = 7",

		`local ok, err = pcall(parallel, {function() error({code = 7}) end}) t:assert_eq(err.code, 7)`: "",

		`parallel{function() t:assert_eq(1, 2) end}`: "assert_eq failed: 1 ~= 2",

		`pcall(parallel, {function() t:assert_eq(1, 2) end})`: "assert_eq failed: 1 ~= 2",

		`t:assert_raises(function() parallel{function() t:assert_eq(1, 2) end} end)`: "",

		`t:assert_eq(select(2, parallel{function() end, function() return parallel{function() return 5 end}
			end}), 5)`: "",

		`t:assert_eq(("ab"):gsub(".", function(c) return parallel{function() provium:barrier("g", 1) return c:upper()
			end} end), "AB")`: "",

		// More than the Go runtime allows OS threads.
		fmt.Sprintf(`local tasks, n = {}, %d
		 for i = 1, n do tasks[i] = function() return provium:barrier("all", n) end end
		 t:assert_eq(select("#", parallel(tasks)), n)`, most+most/10): "",

		`local tasks = {} for i = 1, 100001 do tasks[i] = print end parallel(tasks)`: "parallel: too many tasks: " +
			"100001 more beside 1 that run, and at most 100000 can",

		`parallel()`:           "parallel: argument 1 (functions) must be an array of functions, got nil",
		`parallel(print)`:      "must be an array of functions, got function",
		`parallel({print}, 1)`: "takes one argument",
		`parallel{print, 7}`:   "parallel: entry 2 must be a function, got number",
		`parallel{x = print}`:  "must be an array, it has the key `x`",
	})
	o := run(t, `test("s", function(t) parallel{function() t:skip("enough") end, function()
		wait_until(function() end, {timeout = 60}) end} end)
test("late", {timeout = "1s"}, function(t) parallel{function() end, function() wait_until(function() end,
{timeout = 60}) end} end)
test("after", function(t) t:assert_eq(parallel{function() return 1 end}, 1) end)`)
	o.skipped(t, "s", "enough")
	o.failed(t, "late", "timed out after 1s in wait_until")
	o.passed(t, "after")
}

func TestBarrier(t *testing.T) {
	check(t, "", map[string]string{
		`local log = {}
		 local function side(n) return function() for i = 1, 20 do provium:barrier("go", 3) log[#log + 1] = i
		end end end
		 parallel{side(1), side(2), side(3)}
		 for i = 1, 20 do for j = 1, 3 do t:assert_eq(log[(i - 1) * 3 + j], i) end end`: "",
		`provium:barrier("alone", 1)`: "",
		`provium:barrier("b", 2)`:     "`b`: 1 of 2 tasks have arrived, and no task is left that could arrive",

		`parallel{function() provium:barrier("b", 3) end, function() provium:barrier("b", 3) end, function()
			end}`: "`b`: 2 of 3 tasks have arrived, and no task is left",

		`parallel{function() provium:barrier("b", 2) end, function() provium:lab("x"):barrier("b", 2)
			end}`: "no task is left that could arrive",

		`parallel{function() provium:barrier("b", 2, "20ms") end, function() wait_until(function() end, {timeout =
			30}) end}`: "lab:barrier: `b`: timed out after 0.02s: 1 of 2 tasks have arrived",

		`parallel{function() provium:barrier("b", 2) end, function() provium:barrier("b", 3)
			end}`: "callers disagree on count",

		`provium:barrier("", 2)`:       "argument 1 (name) must not be empty",
		`provium:barrier("b", 0)`:      "argument 2 (count) must be between 1 and 65536, got 0",
		`provium:barrier("b")`:         "argument 2 (count) must be an integer, got nil",
		`provium:barrier("b", 2, 0)`:   "argument 3 (timeout) must be above 0",
		`provium:barrier("b", 2, "x")`: "duration: cannot parse `x`",
	})
}

func TestBackground(t *testing.T) {
	check(t, "", map[string]string{
		`local log = {}
		 local function side(n) return co.wrap(function(x) log[#log + 1] = x provium:barrier("b", 2) log[#log +
		1] = "met" end) end
		 side(1)("a") t:assert_eq(#log, 1) side(2)("b")
		 wait_until(function() return #log == 4 end)`: "",
		// The body ends first and waits.

		`co.wrap(function() wait_until(function() return false end, {timeout = "30ms", desc = "never"})
			end)()`: "wait_until: never not met within 0.03s",

		`co.wrap(function() error("boom") end)()`: "boom",

		`co.wrap(function() t:assert(false) end)()`: "assertion failed",

		`local w = co.wrap(function() end) w() w()`: "co.wrap: this task has ended",

		`local w = co.wrap(function() provium:barrier("b", 2) end) w() pcall(w) provium:barrier("b", 2)`: "",

		`local w = co.wrap(function() provium:barrier("b", 2) end) w() local ok, e = pcall(w) provium:barrier("b", 2)
			t:assert_contains(e, "running in the background")`: "",

		`co.wrap(function() provium:barrier("b", 2) end)()`: "no task is left that could arrive",

		`co.wrap(function() wait_until(function() end, {timeout = 60}) end)() error("body")`: "body",
		`co.wrap(7)`: "co.wrap: argument 1 (fn) must be a function, got number",
		`local c = co.create(function() co.yield(1) end) t:assert_eq(select(2, co.resume(c)), 1)`: "",
	})
	o := run(t, `test("late", {timeout = "1s"}, function(t) co.wrap(function() wait_until(function() end,
		{timeout = 60}) end)() end)
test("after", function() end)`)
	o.failed(t, "late", "timed out after 1s in wait_until")
	o.passed(t, "after")
}
