-- Suspend-to-RAM: the guest sleeps by its own doing, the test wakes it.
local vm = provium:vm("sleeper", "host"):boot()

test("a guest that is awake is not woken", function(t)
  t:assert_contains(t:assert_raises(function() vm:wakeup() end), "not suspended")
  t:assert_contains(vm:read_file("/sys/power/mem_sleep"), "deep")
end)

test("processes and the link survive the sleep", function(t)
  local id = vm:read_file("/proc/sys/kernel/random/boot_id")
  local sleeper = vm:run_async("cat")
  local suspend = vm:run_async("echo mem > /sys/power/state; echo woke")
  wait_until(function() return (pcall(vm.wakeup, vm)) end, {timeout = "30s", desc = "the guest is asleep"})
  t:assert_eq(suspend:wait("30s").stdout, "woke\n")
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:read_file("/proc/sys/kernel/random/boot_id"), id)
  sleeper:stdin_write("still here"); sleeper:close_stdin()
  t:assert_eq(sleeper:wait("30s").stdout, "still here")
end)
