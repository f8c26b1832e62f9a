-- Guests of riscv64: Debian's kernel and busybox. The first boot takes ten seconds of emulation
-- and more; those that follow start from the boot cache.

local function boot(name, options) return provium:vm(name, "riscv64", options):boot() end

local function fails(want, f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(err):find(want, 1, true), ("%q is not in %q"):format(want, tostring(err)))
end

test("commands, files, workers and system calls", function(t)
  local vm = boot("base")
  t:assert_eq(vm:run("uname -m"):assert_ok().stdout, "riscv64\n")
  vm:write_file("/tmp/f", "hello")
  t:assert_eq(vm:read_file("/tmp/f"), "hello")
  local worker = vm:spawn_worker()
  t:assert_eq(worker:read_file("/tmp/f"), "hello")
  assert(worker:syscall(172).ret > 1) -- getpid
end)

test("snapshots keep the guest as it was", function(t)
  local vm = boot("base"):fork()
  vm:write_file("/tmp/s", "before")
  local s = vm:snapshot()
  vm:write_file("/tmp/s", "after")
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:read_file("/tmp/s"), "before")
  vm:reset()
  t:assert_eq(vm:run("cat /tmp/s").exit_code, 1)
end)

-- restored_by_file returns a guest that QEMU has loaded: a copy of a snapshot's file is no snapshot that a template
-- stands for.
local function restored_by_file(t, vm)
  local path = os.tmpname()
  t:defer(function() os.remove(path) os.remove(path .. ".copy") end)
  vm:snapshot(path)
  assert(os.execute(("cp %s %s.copy"):format(path, path)))
  vm:shutdown()
  local loaded = provium:vm("loaded", "riscv64")
  loaded:restore(path .. ".copy")
  return loaded
end

test("a fixture is built once and restored from then on", function(t)
  for _ = 1, 2 do
    local vm = provium:vm_fixture("setups/riscv64")
    t:assert_eq(vm:read_file("/tmp/made"), "by the fixture")
    vm:run("sleep 0.2", {timeout = "30s"}):assert_ok()
  end
end)

local busy = "for i in 1 2 3 4 5 6; do while :; do :; done & done; wait"
test.each({{what = "idle", command = "true"}, {what = "asleep", command = "sleep 2"}, {what = "busy", command = busy},
  {what = "two busy CPUs", command = busy, options = {cpus = 2}}}, "timers go on in a restored guest: $what",
  function(t, case)
  local vm = boot("timers", case.options)
  vm:run_async(case.command)
  vm:run("sleep 0.2"):assert_ok()
  local loaded = restored_by_file(t, vm)
  loaded:run("sleep 0.2", {timeout = "30s"}):assert_ok()
end)

test("a disk that fails, and one that comes while the guest runs", function(t)
  local vm = boot("disks", {disks = {{scratch = "16M", id = "first"}}})
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
  local base = boot("base")
  local bridge = provium:bridge("net")
  local a, b = base:fork(), base:fork()
  bridge:attach(a)
  bridge:attach(b)
  t:assert_contains(a:run("ping -c 1 -W 20 " .. b:name()):assert_ok().stdout, "1 packets received")
end)

test("a panic has its title", {expect_panic = true}, function(t)
  local vm = boot("base"):fork()
  fails("sysrq triggered crash", vm.run, vm, "echo c >/proc/sysrq-trigger", {timeout = 60})
end)
