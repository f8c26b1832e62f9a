-- vm:console(): the log of the serial port. The default command line keeps the kernel quiet.

local loud = {kernel_cmdline_append = "loglevel=7"}
local vm = provium:vm("talks", "host", loud):boot()
local console = vm:console()

test("the log begins with the kernel's first line", function(t)
  t:assert_contains(console:read_log(), "Linux version")
end)

test("expect finds what is printed and moves past it", function(t)
  vm:run("echo marker-one > /dev/console"):assert_ok()
  t:assert_eq(console:expect("marker-one", "10s"), "marker-one")
  vm:run("echo marker-two > /dev/console"):assert_ok()
  console:expect("marker-two")
  local err = t:assert_raises(function() console:expect("marker-one", "50ms") end)
  t:assert_contains(err, "expect timed out waiting for `marker-one`")
end)

test("patterns are plain text and an empty one matches at once", function(t)
  vm:run("echo 'a.*[b' > /dev/console"):assert_ok()
  console:expect("a.*[b")
  console:expect("", 0)
end)

test("the log stays across a reset, expect does not look back", function(t)
  vm:run("echo before-the-reset > /dev/console"):assert_ok()
  console:expect("before-the-reset")
  vm:reset()
  t:assert_contains(console:read_log(), "before-the-reset")
  console:expect("Linux version", "30s")
end)

test("the log can be read after the end", function(t)
  local short = provium:vm("short", "host", loud):boot()
  local log = short:console()
  short:shutdown()
  t:assert_contains(log:read_log(), "Linux version")
end)

test("expect refuses bad arguments", function(t)
  t:assert_contains(t:assert_raises(function() console:expect(7) end), "string")
  t:assert_contains(t:assert_raises(function() console:expect("x", "5 s") end), "cannot parse")
end)
