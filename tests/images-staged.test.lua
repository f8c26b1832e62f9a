-- An image whose builder took one file out of the agent's overlay, signed it, and put it
-- where it likes. tests/profiles/staged builds it.

-- works drives a guest in each way that there is.
local function works(t, vm)
  t:assert_eq(vm:run("cat; exit 3", {stdin = "in"}).stdout, "in")
  vm:write_file("/tmp/file", "content")
  t:assert_eq(vm:read_file("/tmp/file"), "content")
  local GETPPID = 110
  t:assert_eq(vm:syscall(GETPPID).ret, vm:syscall_async(GETPPID):await().ret)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(GETPPID).ret, vm:syscall(GETPPID).ret)
  t:assert_eq(w:run("cat /tmp/file").stdout, "content")
  w:join()
  vm:run("rm /tmp/file"):assert_ok()
  -- Both kinds of process have its name, whatever its file is called.
  local comms = vm:run("cat /proc/$PPID/comm; for e in $(cat /proc/$PPID/task/*/children); do cat /proc/$e/comm; done")
  t:assert_contains(comms.stdout, "provium-agent\nprovium-agent\n")
end

-- restored drives a guest that goes on where a snapshot of vm was taken.
local function restored(t, vm)
  vm:run("echo kept >/tmp/kept")
  local snapshot = vm:snapshot()
  local copy = provium:vm(vm:name() .. "-copy", "staged")
  copy:restore(snapshot)
  t:assert_eq(copy:read_file("/tmp/kept"), "kept\n")
  works(t, copy)
end

test("the agent is PID 1 as /init", function(t)
  local vm = provium:vm("init", "staged"):boot()
  t:assert_eq(vm:read_file("/proc/1/cmdline"), "/init\0")
  t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/opt/staged/guest-link\n")
  t:assert_eq(vm:run("cat /proc/sys/kernel/hostname").stdout, "staged\n")
  works(t, vm)
  restored(t, vm)
  -- In a command's hands it is a file like any other.
  local r = vm:run("cp /init /tmp/any-name && chmod 0700 /tmp/any-name && /tmp/any-name --help"):assert_ok()
  t:assert_contains(r.stdout, "Usage: provium-agent [--port N]")
  vm:run("mkdir /tmp/ro && mount -t tmpfs -o size=16M ro /tmp/ro && cp /tmp/any-name /tmp/ro && mount -o remount,ro /tmp/ro")
  local p = vm:run_async("exec /tmp/ro/any-name --port 1024")
  wait_until(function() return vm:read_file("/proc/" .. p:pid() .. "/comm") == "provium-agent\n" end)
  t:assert_eq(p:status(), "running")
  p:kill()
  vm:run("mount -o remount,noexec /tmp/ro")
  t:assert_contains(vm:run("/tmp/ro/any-name --help").stderr, "Permission denied")
  -- A second agent leaves the guest to the first.
  r = vm:run("/init")
  t:assert_contains(r.stderr, "another agent serves this guest")
  t:assert_eq(r.exit_code, 1)
end)

local function under_any_name(t, reset)
  local vm = provium:vm("foo", "staged", {kernel_cmdline_append = "rdinit=/bin/foo hello=world word"}):boot()
  if reset then
    vm:run("touch /tmp/before")
    vm:reset()
    t:assert_eq(vm:run("ls /tmp").stdout, "")
  end
  t:assert_eq(vm:read_file("/proc/1/cmdline"), "/bin/foo\0word\0")
  t:assert_contains(vm:read_file("/proc/1/environ"), "hello=world\0")
  t:assert_eq(vm:read_file("/proc/1/comm"), "provium-agent\n")
  works(t, vm)
end
test("the agent is PID 1 under any name, with its arguments and environment", function(t) under_any_name(t, false) end)
test("the agent is PID 1 under any name after a reset, too", {slow = true}, function(t) under_any_name(t, true) end)

test("the agent is PID 1 on a disk, and survives it", function(t)
  -- The disk is another one each time that the profile is built.
  local vm = provium:vm("disk", "staged", {kernel_cmdline_append = "rdinit=/etc/to-disk", cold = true,
    disks = {{template = "dist/profiles/staged/root.img", id = "root"}}}):boot()
  t:assert_eq(vm:read_file("/proc/1/cmdline"), "/opt/staged/guest-link\0an-argument\0")
  t:assert_contains(vm:run("mount").stdout, "/dev/vda on / type ext4 (ro")
  t:assert_eq(vm:run("readlink /proc/$PPID/exe").stdout, "/memfd:provium-agent (deleted)\n")
  vm:write_file("/proc/sys/vm/drop_caches", "3")
  vm:disk("root"):fail_reads()
  t:assert_contains(t:assert_raises(function() vm:run("/bin/busybox", {"true"}) end), "EIO")
  local w = vm:spawn_worker()
  t:assert(w:syscall(39).ret > 1)
  vm:write_file("/tmp/file", "in memory")
  t:assert_eq(vm:read_file("/tmp/file"), "in memory")
end)

-- The own init of images.test.lua starts the agent again after a reset every day.
local function as_service(t, reset)
  local opts = {kernel_cmdline_append = "rdinit=/sbin/init"}
  local vm = provium:vm("service", "staged", opts):boot()
  t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/bin/busybox\n")
  if reset then vm:reset() end
  works(t, vm)
  -- It comes back as another user.
  vm:write_file("/etc/agent-user", "nobody\n")
  pcall(vm.run, vm, "kill $PPID; while kill -0 $PPID; do sleep 0.01; done")
  t:assert_contains(vm:run("id").stdout, "uid=65534(nobody)")
  works(t, vm)
  local function refused(fn, why) t:assert_contains(t:assert_raises(fn), why) end
  refused(function() vm:write_file("/etc/mine", "") end, "Permission denied (EACCES")
  refused(function() vm:run("id", {user = "root"}) end, "Operation not permitted (EPERM")
  refused(function() vm:clock():advance("1h") end, "Operation not permitted (EPERM")
  local copy = provium:vm("copy", "staged", opts)
  local snapshot = vm:snapshot()
  refused(function() copy:restore(snapshot) end, "its agent, uid 65534, may not set (EPERM")
end
test("the agent is a service of busybox's init", function(t) as_service(t, false) end)
test("the agent is a service of busybox's init after a reset, too", {slow = true}, function(t) as_service(t, true) end)
