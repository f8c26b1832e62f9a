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

test("tests are whole sentences in UTF-8: größer, älter – überall", function(t)
  t:assert_contains(t.name, "größer")
end)

chunk_done = true
