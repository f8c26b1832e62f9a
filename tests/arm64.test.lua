-- Guests of another architecture than the host's: Debian's kernel and busybox for arm64.
-- Booted once, from the boot cache where it has that guest; everything else starts from it.

local base = provium:vm("base", "arm64"):boot()

local function fails(want, f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(err):find(want, 1, true), ("%q is not in %q"):format(want, tostring(err)))
end

test("commands, files, workers and system calls", function(t)
  t:assert_eq(base:run("uname -m"):assert_ok().stdout, "aarch64\n")
  local worker = base:spawn_worker()
  for name, by in pairs({vm = base, worker = worker}) do
    local dir = "/tmp/" .. name
    by:mkdir(dir .. "/a/b", {parents = true, perm = 448})
    by:write_file(dir .. "/f", "hello")
    by:rename(dir .. "/f", dir .. "/a/g")
    t:assert_eq(by:read_file(dir .. "/a/g"), "hello")
    t:assert_eq(by:stat(dir .. "/a/g").size, 5)
    t:assert_eq(by:stat(dir .. "/a/b").perm, 448)
    t:assert_eq(#by:listdir(dir .. "/a"), 2)
    by:unlink(dir .. "/a/g")
    fails("ENOENT", by.stat, by, dir .. "/a/g")
    local f = by:open_file(dir .. "/h", {read = true, write = true, create = true})
    f:write("abc")
    f:seek(0)
    t:assert_eq(f:read(3), "abc")
    f:close()
  end
  -- Calls of tests have the guest's own numbers: getpid, and nanosleep for a minute.
  assert(worker:syscall(172).ret > 1)
  local sleep = worker:syscall_async(101, {args = {0, 0}, bufs = {string.pack("<i8i8", 60, 0)}, ptrs = {0}})
  t:assert_eq(worker:syscall(172).errno, 0)
  worker:close()
  fails("", sleep.await, sleep)
end)

test("snapshots keep the guest as it was", function(t)
  local vm = base:fork()
  vm:write_file("/tmp/s", "before")
  local s = vm:snapshot()
  vm:write_file("/tmp/s", "after")
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:read_file("/tmp/s"), "before")
  vm:reset()
  t:assert_eq(vm:run("cat /tmp/s").exit_code, 1)
end)

test("a disk that fails, and one that comes while the guest runs", function(t)
  local vm = provium:vm("disks", "arm64", {disks = {{scratch = "16M", id = "first"}}}):boot()
  local write = "dd if=/dev/zero of=/dev/disk/by-id/virtio-%s bs=4096 count=4 oflag=direct"
  local late = vm:attach_disk({id = "late", size = 16 << 20})
  for _, disk in ipairs({vm:disk("first"), late}) do
    local id = disk == late and "late" or "first"
    vm:run(write:format(id)):assert_ok()
    disk:fail_writes()
    t:assert_contains(vm:run(write:format(id)).stderr, "Input/output error")
  end
end)

test("guests reach each other", function(t)
  local bridge = provium:bridge("net")
  local a, b = base:fork(), base:fork()
  bridge:attach(a)
  bridge:attach(b)
  t:assert_contains(a:run("ping -c 1 -W 20 " .. b:name()):assert_ok().stdout, "1 packets received")
end)

test("a panic has its title", {expect_panic = true}, function(t)
  local vm = base:fork()
  -- The guest may be gone before it has answered that the command runs.
  fails("sysrq triggered crash", vm.run, vm, "echo c >/proc/sysrq-trigger; sleep 60", {timeout = 60})
end)
