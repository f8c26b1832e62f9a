-- The test framework itself: assertions, skipping, metadata, wait_until, scopes. No guest
-- is booted. The project's Go tests check the reports of failing tests.

local chunk_done = false
local order = {}

local function raised(t, fn)
  return t:assert_raises(fn)
end

test("the chunk ends before the first test begins", function(t)
  t:assert(chunk_done)
end)

test("t has the name and the metadata of its test", {tags = {"a", "b"}, ticket = 17}, function(t)
  t:assert_eq(t.name, "t has the name and the metadata of its test")
  t:assert_eq(t.meta.ticket, 17)
  t:assert_eq(t.meta.tags[2], "b")
end)

test("t.meta is an empty table without metadata", function(t)
  t:assert_eq(type(t.meta), "table")
  t:assert_eq(next(t.meta), nil)
end)

test("assertions raise what their messages promise", function(t)
  t:assert_contains(raised(t, function() t:assert(false) end), "assertion failed")
  t:assert_contains(raised(t, function() t:assert(nil, "no luck") end), "no luck")
  t:assert_contains(raised(t, function() t:assert_eq("a", "b") end), "assert_eq failed: a ~= b")
  t:assert_contains(raised(t, function() t:assert_eq(nil, 1, "leader") end), "leader: nil ~= 1")
  t:assert_contains(raised(t, function() t:assert_neq(2, 2) end), "assert_neq failed: 2 == 2")
  t:assert_contains(raised(t, function() t:assert_contains("hay", "needle") end),
    "assert_contains failed: needle not found in: hay")
  t:assert_contains(raised(t, function() t:assert_raises(function() end) end),
    "assert_raises: expected to raise")
  t:assert_contains(raised(t, function() t:fail() end), "explicit failure (t:fail)")
  t:assert_contains(raised(t, function() t:fail("because") end), "because")
end)

test("values that look alike are shown with their types", function(t)
  t:assert_contains(raised(t, function() t:assert_eq(1, "1") end), "1 (number) ~= 1 (string)")
end)

test("numbers compare by value and tables by identity", function(t)
  t:assert_eq(1, 1.0)
  local x = {}
  t:assert_eq(x, x)
  t:assert_neq({}, {})
end)

test("assert_contains takes plain text, not patterns", function(t)
  t:assert_contains("100% [sure]", "% [")
  t:assert_contains(raised(t, function() t:assert_contains(nil, "x") end), "nil")
end)

test("assert_raises gives the error value itself", function(t)
  local value = {code = 7}
  t:assert_eq(t:assert_raises(function() error(value) end), value)
  local text = t:assert_raises(function() error("boom") end)
  t:assert_contains(text, "test-framework.test.lua:")
end)

test("an error points at the line of its author", function(t)
  local line = debug.getinfo(1, "l").currentline + 1
  local err = t:assert_raises(function() t:assert(false) end)
  t:assert_contains(err, "test-framework.test.lua:" .. line .. ":")
end)

test("a skipped test does not run its body", {skip = "by its own wish"}, function(t)
  t:fail("it ran")
end)

test("t:skip ends a test", function(t)
  t:skip("not here")
  t:fail("it went on")
end)

test("t:skip survives pcall and a second error", function(t)
  local ok, err = pcall(t.skip, t, "wrapped")
  order.cleanup = not ok
  error(err, 0)
end)

test("cleanup code after a swallowed skip has run", function(t)
  t:assert(order.cleanup)
end)

test("registering inside a test body is an error", function(t)
  t:assert_contains(raised(t, function() test("late", function() end) end), "inside a test")
  t:assert_contains(raised(t, function() todo("late") end), "inside a test")
end)

test("wait_until gives the truthy value of its predicate", function(t)
  local calls = 0
  local got = wait_until(function()
    calls = calls + 1
    return calls == 3 and "third"
  end, {interval = "1ms"})
  t:assert_eq(got, "third")
  t:assert_eq(calls, 3)
end)

test("wait_until calls its predicate at least once", function(t)
  t:assert_eq(wait_until(function() return 5 end, {timeout = 0}), 5)
end)

test("wait_until names what it waited for", function(t)
  local err = raised(t, function()
    wait_until(function() return false end, {timeout = "20ms", interval = "5ms", desc = "a leader"})
  end)
  t:assert_contains(err, "wait_until: a leader not met within 0.02s")
end)

test("wait_until passes an error of its predicate on at once", function(t)
  t:assert_contains(raised(t, function()
    wait_until(function() error("predicate broke") end)
  end), "predicate broke")
end)

test("wait_until refuses bad arguments", function(t)
  t:assert_contains(raised(t, function() wait_until(7) end), "function")
  t:assert_contains(raised(t, function() wait_until(print, {timeout = "5 s"}) end), "bad timeout string")
  t:assert_contains(raised(t, function() wait_until(print, {timout = 5}) end), "timout")
end)

test("unknown settings are errors that list the valid ones", function(t)
  t:assert_contains(raised(t, function() provium.timeot = 5 end), "timeot")
  t:assert_contains(raised(t, function() provium.timeot = 5 end), "timeout")
  t:assert_contains(raised(t, function() provium.timeout = "soon" end), "soon")
end)

test("provium.timeout can be set and read", function(t)
  provium.timeout = "45s"
  t:assert_eq(provium.timeout, "45s")
  provium.timeout = nil
end)

test("pack and unpack are those of string", function(t)
  t:assert_eq(provium.pack("<I4", 0xdeadbeef), "\xef\xbe\xad\xde")
  t:assert_eq(provium:pack("<i2", -2), "\xfe\xff")
  t:assert_eq(provium.unpack("<I4", "\xef\xbe\xad\xde"), 0xdeadbeef)
end)

test("os.exit raises instead of ending the run", function(t)
  t:assert_contains(raised(t, function() os.exit(0) end), "os.exit: the host program cannot be ended from Lua")
end)

-- run_apart runs this program on a test file with the content and returns its result.
local function run_apart(content)
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir " .. dir))
  local function write(name, data)
    local f <close> = assert(io.open(dir .. "/" .. name, "w"))
    f:write(data)
  end
  write("provium.toml", "[provium]\n")
  write("a.test.lua", content)
  local self <close> = assert(io.open("/proc/self/stat"))
  local command = "cd %s && /proc/%d/exe --json a.test.lua 2>/dev/null"
  local out <close> = assert(io.popen(command:format(dir, self:read("n"))))
  local text = out:read("a")
  os.execute("rm -r " .. dir)
  return json.decode((text:match("[^\n]*")))
end

test("Lua loops stop at the limit of a test", {spec = {"time-limits"}}, function(t)
  local result = run_apart([[
test("endless", {timeout = "0.2s"}, function() while true do end end)
test("catches", {timeout = "0.2s"}, function() while true do pcall(function() while true do end end) end end)
test("ends", {timeout = "60s"}, function() for _ = 1, 1e5 do end end)
]])
  local endless, catches, ends = table.unpack(result.tests)
  t:assert_eq(endless.status, "failed")
  t:assert_contains(endless.message, "timed out after 0.2s at a.test.lua:1")
  t:assert_eq(catches.status, "failed")
  t:assert_contains(catches.message, "timed out after 0.2s at a.test.lua:2")
  t:assert_eq(ends.status, "passed")
end)

test("assert_same compares what tables hold", function(t)
  t:assert_same({1, {x = "y"}}, {1, {x = "y"}})
  local err = raised(t, function() t:assert_same({a = {b = {1, 2}}}, {a = {b = {1, 3}}}) end)
  t:assert_contains(err, "assert_same failed: 2 ~= 3 at a.b[2]")
  t:assert_contains(raised(t, function() t:assert_same({1}, {1, 2}, "list") end), "list: nil ~= 2 at [2]")
end)

test("values are compared by their order", function(t)
  t:assert_gt(2, 1)
  t:assert_ge(2, 2)
  t:assert_lt("a", "b")
  t:assert_le(1, 1.5)
  t:assert_contains(raised(t, function() t:assert_gt(1, 2) end), "assert_gt failed: 1 is not greater than 2")
  t:assert_contains(raised(t, function() t:assert_le(2, 1, "load") end), "load: 2 is not at most 1")
  t:assert_contains(raised(t, function() t:assert_lt(nil, 1) end), "cannot compare nil and number")
end)

test("assert_matches takes Lua patterns and returns their captures", function(t)
  local major, minor = t:assert_matches("Linux 6.1", "(%d+)%.(%d+)")
  t:assert_same({major, minor}, {"6", "1"})
  t:assert_contains(raised(t, function() t:assert_matches("abc", "^%d") end),
    "assert_matches failed: pattern ^%d does not match: abc")
  t:assert_contains(raised(t, function() t:assert_matches("abc", "[") end), "malformed pattern")
end)

test("assert_error_matches returns the error that matches", function(t)
  local err = t:assert_error_matches(function() error("code 7") end, "code %d$")
  t:assert_contains(err, "code 7")
  t:assert_contains(raised(t, function() t:assert_error_matches(function() end, "x") end), "expected to raise")
  t:assert_contains(raised(t, function() t:assert_error_matches(function() error("y") end, "x") end),
    "does not match the error")
end)

local cases = {}
test.each({{2, 3, sum = 5}, {10, -10, sum = 0}}, "{1} and {2} make {sum}", {tags = "sums"}, function(t, case)
  t:assert_eq(case[1] + case[2], case.sum)
  t:assert_eq(t.meta.tags, "sums")
  cases[#cases + 1] = t.name
end)

test("test.each has registered a test for each case", function(t)
  t:assert_same(cases, {"2 and 3 make 5", "10 and -10 make 0"})
  t:assert_contains(raised(t, function() test.each({1}, "late", print) end), "inside a test")
end)

test("hooks and deferred functions run around a test", function(t)
  local result = run_apart([[
local order = {}
local function note(text) return function() order[#order + 1] = text end end
before_each(note("before"))
after_each(note("after"))
test("first", function(t)
  t:defer(note("last"))
  t:defer(note("first"))
  t:step("a step", note("body"))
end)
test("second", function(t) t:log(table.concat(order, " ")) end)
test("fails", function(t)
  t:defer(function() error("in cleanup") end)
  t:step("outer", function() t:step("inner", function() t:fail("broken") end) end)
end)
]])
  t:assert_same(result.tests[2].log, {"before body first last after before"})
  t:assert_matches(result.tests[3].message, "^a.test.lua:13: broken\nin step `outer` > `inner`\n")
  t:assert_contains(result.tests[3].message, "later, after the body: a.test.lua:12: in cleanup")
end)

test("tests are whole sentences in UTF-8: größer, älter – überall", function(t)
  t:assert_contains(t.name, "größer")
end)

chunk_done = true
