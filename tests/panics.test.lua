-- A kernel that panics while the host is at something with its guest: what is under way fails at once with the panic,
-- and the next guest is fine.

local panic = "Kernel panic - not syncing: sysrq triggered crash"
local base = provium:vm("base", "host", {memory = "128M"}):boot()

-- doomed returns a guest whose kernel panics soon.
local function doomed()
  local vm = base:fork()
  vm:run("(sleep 0.2; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 < /dev/null &"):assert_ok()
  return vm
end

-- until_it_fails does something again until it raises, and returns why.
local function until_it_fails(t, vm, fn)
  local ok, err
  repeat ok, err = pcall(fn) until not ok
  t:assert_contains(tostring(err), "sysrq triggered crash")
  t:assert_eq(vm:state(), "dead")
end

test("while snapshots are taken", {timeout = "1m"}, function(t)
  t:expect_kernel(panic)
  local vm = doomed()
  until_it_fails(t, vm, function() vm:snapshot() end)
end)

test("while it is paused and goes on", {timeout = "1m"}, function(t)
  t:expect_kernel(panic)
  local vm = doomed()
  until_it_fails(t, vm, function() vm:pause() vm:resume() end)
end)

test("while it is asked to power off", {timeout = "1m"}, function(t)
  t:expect_kernel(panic)
  local vm = base:fork()
  vm:run("rmmod button") -- so that it ignores the button
  if vm:run("ls /sys/bus/acpi/drivers/button").exit_code == 0 then t:skip("the button's driver cannot be taken away") end
  vm:run("(sleep 0.2; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 < /dev/null &"):assert_ok()
  t:assert_contains(t:assert_raises(function() vm:power_button("50s") end), "sysrq triggered crash")
  t:assert_eq(vm:state(), "dead")
end)

test("behind a restore", {timeout = "1m"}, function(t)
  t:expect_kernel(panic)
  local vm = base:fork()
  vm:run("(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 < /dev/null &"):assert_ok()
  local snap = vm:snapshot()
  vm:shutdown()
  vm:restore(snap)
  until_it_fails(t, vm, function() vm:run("true") end)
end)

test("two guests at once", {timeout = "1m"}, function(t)
  t:expect_kernel(panic)
  local a, b = doomed(), doomed()
  parallel{
    function() until_it_fails(t, a, function() a:run("sleep 1000") end) end,
    function() until_it_fails(t, b, function() b:run("sleep 1000") end) end,
  }
end)

test("the next guest is fine", function(t)
  t:assert_eq(base:fork():run("echo fine").stdout, "fine\n")
end)
