-- systemd is PID 1, and the agent a service of it (tests/profiles/systemd).

local function works(t, vm)
  t:assert_eq(vm:run("cat", {stdin = "in"}).stdout, "in")
  vm:write_file("/tmp/file", "content")
  t:assert_eq(vm:read_file("/tmp/file"), "content")
  local GETPID, GETPPID = 39, 110
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(GETPPID).ret, vm:syscall(GETPPID).ret)
  t:assert_eq(vm:read_file("/proc/" .. w:syscall(GETPID).ret .. "/comm"), "provium-agent\n")
  t:assert_eq(w:run("systemctl is-active guest-link").stdout, "active\n")
  w:join()
end

test("the agent is a service of systemd", function(t)
  local vm = provium:vm("box", "systemd", {memory = "384M"}):boot()
  t:assert_contains(vm:run("readlink /proc/1/exe").stdout, "/lib/systemd/systemd\n")
  t:assert_eq(vm:run("cat /proc/$PPID/comm; cat /proc/$PPID/cgroup").stdout,
    "provium-agent\n0::/system.slice/guest-link.service\n")
  local state = vm:run("systemctl is-system-running --wait").stdout
  t:assert(state == "running\n" or state == "degraded\n", state)
  works(t, vm)
  vm:run("echo kept >/run/kept")
  local snapshot = vm:snapshot()
  local copy = provium:vm("copy", "systemd", {memory = "384M"})
  copy:restore(snapshot)
  t:assert_eq(copy:read_file("/run/kept"), "kept\n")
  works(t, copy)
  -- systemd starts it again.
  local agent = copy:run("echo $PPID").stdout
  pcall(copy.run, copy, "systemctl restart guest-link")
  t:assert_neq(copy:run("echo $PPID").stdout, agent)
  works(t, copy)
end)

test("and comes back after a reset", {slow = true}, function(t)
  local vm = provium:vm("box", "systemd", {memory = "384M"}):boot()
  works(t, vm)
  vm:reset()
  works(t, vm)
end)
