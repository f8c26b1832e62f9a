-- vm:clock(): the guest's CLOCK_REALTIME.

local vm = provium:vm("timed", "host"):boot()
local clock = vm:clock()

local function near(t, got, want)
  t:assert(got >= want and got < want + 60, ("%.3f is not within a minute after %.3f"):format(got, want))
end

test("get and get_ns read the same clock", function(t)
  t:assert_eq(math.type(clock:get()), "float")
  t:assert_eq(math.type(clock:get_ns()), "integer")
  near(t, clock:get_ns() / 1e9, clock:get() - 30)
end)

test("set takes seconds, whole or not", function(t)
  t:assert_eq(clock:set(1700000000), nil)
  near(t, clock:get(), 1700000000)
  clock:set(1500000000.25)
  near(t, clock:get(), 1500000000.25)
  t:assert_contains(vm:run("date -u +%Y").stdout, "2017")
end)

test("set_ns takes integer nanoseconds", function(t)
  clock:set_ns(1600000000123456789)
  near(t, clock:get(), 1600000000)
end)

test("advance jumps both ways without waiting", function(t)
  clock:set(1700000000)
  t:assert_eq(clock:advance("1h"), nil)
  near(t, clock:get(), 1700003600)
  clock:advance("-30m")
  near(t, clock:get(), 1700001800)
  clock:advance(-800)
  near(t, clock:get(), 1700001000)
end)

test("sleep passes time in the guest", function(t)
  local before = clock:get_ns()
  clock:sleep("50ms")
  t:assert(clock:get_ns() - before >= 50000000)
  clock:sleep(0)
end)

test("sync sets the clock to the host's", function(t)
  clock:set(1000000000)
  clock:sync()
  near(t, clock:get(), os.time() - 30)
end)

test("one VM has one clock handle", function(t)
  t:assert_eq(vm:clock(), clock)
end)

test("bad times are refused", function(t)
  local function refused(needle, fn) t:assert_contains(t:assert_raises(fn), needle) end
  refused("finite", function() clock:set(0 / 0) end)
  refused("finite", function() clock:set(math.huge) end)
  refused("number", function() clock:set("noon") end)
  refused("integer", function() clock:set_ns(0.5) end)
  refused("duration: cannot parse `soon`", function() clock:sleep("soon") end)
  refused("duration: expected number|string, got table", function() clock:advance({}) end)
  refused("duration: must be a finite, non-negative number", function() clock:sleep(-1) end)
  refused("finite", function() clock:advance(1 / 0) end)
end)

test("what the guest's kernel does not take is named", function(t)
  clock:set(1600000000)
  for _, seconds in ipairs{-1, -1.5, -1 << 30, 0} do
    local err = t:assert_raises(function() clock:set(seconds) end)
    t:assert_contains(err, "Linux takes no time before 1970 plus its uptime")
    t:assert_contains(err, "EINVAL")
  end
  t:assert_contains(t:assert_raises(function() clock:set_ns(-1) end), "before 1970")
  t:assert_contains(t:assert_raises(function() clock:advance(-1700000000) end), "before 1970")
  near(t, clock:get(), 1600000000)
end)

test("a paused guest's clock cannot be read", function(t)
  vm:pause()
  t:assert_contains(t:assert_raises(function() clock:get() end), "paused")
  t:assert_contains(t:assert_raises(function() clock:set(0) end), "resume")
  vm:resume()
end)

test("the clock of a VM that does not run cannot be read", function(t)
  local cold = provium:vm("cold", "host")
  t:assert_contains(t:assert_raises(function() cold:clock():get() end), "not booted")
end)
