-- Images from elsewhere: a distribution's own initramfs, an image with only its own
-- /init, and one that starts the agent itself. The scripts in tests/profiles build
-- the profiles.

-- A static busybox, so that the new root needs no library of the initramfs.
local function busybox()
  local f <close> = assert(io.open("/bin/busybox", "rb"))
  return f:read("a")
end

-- pid1 returns the program that is PID 1 of a guest with a shell.
local function pid1(vm) return vm:run("readlink /proc/1/exe").stdout end

test("a distribution's initramfs boots to its new root", function(t)
  -- Like a boot script of initramfs-tools: mount the root file system.
  local script = [[
mountroot() {
	mount -t tmpfs -o mode=0755 root "${rootmnt}"
	for d in bin sbin dev proc sys run tmp etc; do mkdir "${rootmnt}/$d"; done
	cp /busybox.static "${rootmnt}/bin/busybox"
	for a in sh mount readlink stat grep ls cat; do ln -s busybox "${rootmnt}/bin/$a"; done
	ln -s /bin/busybox "${rootmnt}/sbin/init"
	echo "::sysinit:/bin/busybox touch /tmp/init-was-here" >"${rootmnt}/etc/inittab"
	echo "a tmpfs root" >"${rootmnt}/etc/motd"
	echo "the new root is mounted"
}
mount_top() { :; }
mount_premount() { :; }
mount_bottom() { :; }
]]
  local vm = provium:vm("distro", "distro", {files = {
    {path = "/scripts/provium", content = script},
    {path = "/busybox.static", content = busybox(), mode = 0x1ed},
  }})
  provium:bridge("lan"):attach({vm, provium:vm("friend", "host")})
  vm:boot()
  local GETPID, UMASK = 39, 95
  local executor = vm:syscall(GETPID).ret
  vm:syscall(UMASK, 63)
  local w = vm:spawn_worker()
  -- The agent serves while /init still runs, and follows it to the new root. For a
  -- moment neither root has its files: operations wait. Before that udev looks for
  -- devices for seconds, which takes longer for every operation beside it.
  vm:console():expect("the new root is mounted", "3m")
  wait_until(function()
    vm:stat("/bin/sh")
    vm:open_file("/bin/sh", {read = true}):close()
    t:assert_eq(vm:syscall(21, {bufs = {"/bin/sh\0"}, ptrs = {0}}).errno, 0) -- access
    return (pcall(vm.stat, vm, "/tmp/init-was-here"))
  end, {timeout = "2m", interval = "20ms", desc = "the init of the new root"})
  t:assert_eq(vm:read_file("/etc/motd"), "a tmpfs root\n")
  t:assert_eq(pid1(vm), "/bin/busybox\n")
  t:assert_contains(vm:read_file("/proc/1/cmdline"), "init")
  t:assert_contains(vm:run("mount").stdout, "root on / type tmpfs")
  t:assert_contains(t:assert_raises(function() vm:stat("/scripts") end, "the initramfs is still there"), "ENOENT")
  t:assert_contains(vm:read_file("/etc/hosts"), "friend.lan friend\n")
  vm:write_file("/tmp/new", "in the new root")
  t:assert_eq(vm:run("cat /tmp/new").stdout, "in the new root")
  -- The executor and the worker have followed, too.
  t:assert_eq(vm:syscall(GETPID).ret, executor)
  for _, by in ipairs{vm, w} do
    t:assert_eq(by:open_file("/etc/motd", {read = true}):read_all(), "a tmpfs root\n")
    t:assert_eq(by:run("umask; cat /etc/motd").stdout, "0077\na tmpfs root\n")
  end
end)

test("an image with only its own /init keeps it as PID 1", function(t)
  local vm = provium:vm("bare", "bare"):boot()
  t:assert_contains(vm:console():expect("bare init: up", "30s"), "bare init: up")
  t:assert_eq(vm:read_file("/proc/1/cmdline"), "/init\0")
  local r = vm:run("/init", {"echo", "no shell here"}):assert_ok()
  t:assert_eq(r.stdout, "no shell here\n")
  t:assert_contains(t:assert_raises(function() vm:run("echo hi") end), "No such file")
  vm:write_file("/data", "x")
  t:assert_eq(vm:stat("/data").size, 1)
  -- Nothing in the guest handles the power button: it is killed.
  t:assert_eq(vm:power_button("500ms"), false)
  t:assert_eq(vm:state(), "shutdown")
end)

test("an image may start the agent itself", function(t)
  local vm = provium:vm("own", "own-agent", {files = {
    {path = "/etc/new/name", content = "put there by the kernel\n", mode = 0x1a0}, -- 0640
    {path = "/empty", content = "no directory\n"},
    {path = "/other-name", content = "one link of two\n"},
  }}):boot()
  t:assert_contains(vm:console():read_log(), "own init: starting the agent")
  t:assert_contains(vm:read_file("/proc/1/cmdline"), "/init")
  t:assert_eq(pid1(vm), "/bin/busybox\n")
  t:assert_eq(vm:run("cat /proc/$PPID/comm").stdout, "provium-agent\n")
  t:assert(not vm:read_file("/proc/cmdline"):find("rdinit", 1, true), "rdinit was added")
  -- Nobody but the kernel has put the boot's files in place, before it started /init.
  t:assert_eq(vm:read_file("/etc/new/name"), "put there by the kernel\n")
  t:assert_eq(vm:stat("/etc/new/name").perm, 0x1a0)
  t:assert_eq(vm:stat("/etc/new").perm, 0x1ed)
  t:assert_eq(vm:read_file("/empty"), "no directory\n")
  t:assert_eq(vm:read_file("/other-name"), "one link of two\n")
  t:assert_contains(vm:read_file("/init"), "#!/bin/busybox sh")
  -- The agent comes back by itself after a reset.
  vm:reset()
  t:assert_eq(vm:run("echo again").stdout, "again\n")
end)

test("without an initrd of its own a guest has busybox and a small init", function(t)
  local vm = provium:vm("built-in", "host"):boot()
  t:assert_contains(vm:read_file("/proc/1/cmdline"), "provium-agent")
  t:assert_contains(vm:run("busybox"):assert_ok().stdout, "BusyBox")
  -- The small init reaps orphans.
  vm:run("sh -c 'sleep 0 & exec true'"):assert_ok()
  wait_until(function() return vm:run("grep -l '^State:.Z' /proc/[0-9]*/status").stdout == "" end,
    {desc = "no zombies"})
end)
