-- Guests that answer nothing any more: the host keeps the limits, and takes for dead what
-- gives no sign of life. Guests that cannot answer live on.

local function wait_dead(t, vm)
  wait_until(function() return vm:state() == "dead" end, {timeout = "40s", desc = "the guest is dead"})
  local why = t:assert_raises(function() vm:run("true") end)
  t:assert_contains(why, "no sign of life for")
  t:assert_contains(why, "at tests/limits.test.lua:")
end

test("an agent that is stopped", function(t)
  local vm = provium:vm("stopped", "host"):boot()
  local p = vm:run_async("sleep 1000")
  t:assert_contains(t:assert_raises(function()
    vm:run("kill -STOP $(pidof provium-agent); sleep 1000", {timeout = "2s"})
  end), "run: timed out after 2s, and the guest has not confirmed the end")
  t:assert_contains(t:assert_raises(function() p:wait("1s") end), "stopped")
  wait_dead(t, vm)
end)

-- A deterministic guest comes to sync points by itself as long as its agent runs.
test("a deterministic guest that comes to no sync point", {slow = true}, function(t)
  local vm = provium:vm("lost", "host", {deterministic = true, memory = "256M"}):boot()
  t:assert_contains(t:assert_raises(function()
    vm:run("kill -STOP $(pidof provium-agent); sleep 1000", {timeout = "2s"})
  end), "no sign of life for")
  wait_dead(t, vm)
  t:assert_contains(t:assert_raises(function() vm:snapshot() end), "vm `lost` is dead: no sign of life")
  vm:shutdown()
  t:assert_eq(vm:boot():run("echo alive").stdout, "alive\n")
end)

test("operations without a limit of their own", {op_timeout = "3s"}, function(t)
  local vm = provium:vm("limitless", "host"):boot()
  vm:run_async("kill -STOP $(pidof provium-agent)")
  -- At the end of op_timeout, or with the guest.
  local why = t:assert_raises(function() while true do vm:stat("/") end end)
  t:assert(why:find("the guest was silent for 3s", 1, true) or why:find("no sign of life", 1, true), why)
  wait_dead(t, vm)
end)

-- It burns the CPU until the guest is given up, as the two above are.
test("a program that leaves no time to anything else", {slow = true, op_timeout = "3s"}, function(t)
  local vm = provium:vm("realtime", "host"):boot()
  vm:write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1")
  local p = vm:run_async("while :; do :; done")
  local SYS_sched_setscheduler, SCHED_FIFO = 144, 1
  local ok = pcall(function()
    vm:syscall(SYS_sched_setscheduler, {args = {p:pid(), SCHED_FIFO, 0}, bufs = {("<i4"):pack(99)}, ptrs = {2}})
    vm:read_file("/proc/uptime")
  end)
  if ok then t:skip("this kernel leaves time to other programs") end
  wait_dead(t, vm)
end)

local vm = provium:vm("alive", "plain"):boot()

test("a paused guest", function(t)
  local ok, why
  parallel{
    function() ok, why = pcall(vm.run, vm, "sleep 1000", {timeout = "5s"}) end,
    function()
      wait_until(function() return vm:run("pidof sleep").exit_code == 0 end)
      vm:pause()
    end,
  }
  t:assert(not ok)
  t:assert_contains(tostring(why), "timed out after 5s, and the guest has not confirmed the end (it is paused)")
  vm:resume()
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

test("a guest that sleeps", function(t)
  local p = vm:run_async("sleep 1; cat")
  local ok, why
  parallel{
    function() ok, why = pcall(p.wait, p, "4s") end,
    function() vm:run_async("echo mem > /sys/power/state") end,
  }
  t:assert(not ok)
  t:assert_contains(tostring(why), "timed out after 4s, and the guest has not confirmed the end (it is suspended)")
  wait_until(function() return (pcall(vm.wakeup, vm)) end, {timeout = "30s", desc = "the guest is awake"})
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

test("a fork bomb", function(t)
  -- Whether the guest manages to end all of it in time or not, it lives.
  pcall(vm.run, vm, "ulimit -u 60; f() { f | f & }; f; wait", {user = 1000, timeout = "1s"})
  vm:run("pkill -KILL -u 1000 || kill -KILL $(ps -o pid,user | awk '$2 == 1000 {print $1}')")
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

test("many tasks wait at a time", function(t)
  local tasks, n = {}, 11000
  for i = 1, n do tasks[i] = function() return provium:barrier("all", n, "2m") end end
  t:assert_eq(select("#", parallel(tasks)), n)
end)
