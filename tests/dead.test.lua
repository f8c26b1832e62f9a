-- Guests that have ended although their QEMU runs: what was in flight fails at once, with the
-- reason. The command line has `quiet`.
local base = provium:vm("base", "host"):boot()

local function death(t, vm, command)
  local why = t:assert_raises(function() vm:run(command .. "; sleep 100") end)
  t:assert_eq(vm:state(), "dead")
  return why
end

test("a halt without a power-off", {timeout = "60s"}, function(t)
  t:assert_contains(death(t, base:fork(), "halt -f"), "the guest has halted without powering off")
end)

test("nobody else's words are a halt", function(t)
  base:run("echo 'reboot: System halted' > /dev/console"):assert_ok()
  t:assert_eq(base:run("echo alive").stdout, "alive\n")
end)

test("a power-off", {timeout = "60s"}, function(t)
  t:assert_contains(death(t, base:fork(), "poweroff -f"), "guest powered off")
end)

test("a panic leaves its log", {allow_oops = true, timeout = "60s"}, function(t)
  local vm = base:fork()
  t:assert_contains(death(t, vm, "echo the last > /dev/kmsg; echo c > /proc/sysrq-trigger"), "sysrq triggered crash")
  t:assert_contains(vm:dmesg(), "the last")
  t:assert_contains(vm:dmesg(), "Call Trace:")
end)
