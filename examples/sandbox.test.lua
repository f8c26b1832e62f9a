-- A worker is a process of the guest with credentials and namespaces of its own: here an
-- unprivileged one that becomes root in a sandbox.
local vm = provium:vm("sandbox", "host"):boot()

local GETUID, SETRESUID, SETRESGID, PRCTL, UNSHARE, MOUNT = 102, 117, 119, 157, 272, 165
local CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000

test("an unprivileged process mounts in its own namespaces", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(SETRESGID, 1000, 1000, 1000).ret, 0)
  t:assert_eq(w:syscall(SETRESUID, 1000, 1000, 1000).ret, 0)
  t:assert_contains(t:assert_raises(function() w:write_file("/etc/motd", "mine") end), "EACCES")

  t:assert_eq(w:syscall(PRCTL, 4, 1).ret, 0) -- dumpable: /proc/self is its own again
  t:assert_eq(w:syscall(UNSHARE, CLONE_NEWUSER | CLONE_NEWNS).ret, 0)
  w:write_file("/proc/self/setgroups", "deny")
  w:write_file("/proc/self/uid_map", "0 1000 1")
  w:write_file("/proc/self/gid_map", "0 1000 1")
  t:assert_eq(w:syscall(GETUID).ret, 0)
  t:assert_eq(w:syscall(MOUNT, {bufs = {"none\0", "/mnt\0", "tmpfs\0"}, ptrs = {0, 1, 2}}).ret, 0)

  -- Its commands live there too, and nobody else sees what they do.
  w:run("id -u > /mnt/who"):assert_ok()
  t:assert_eq(w:read_file("/mnt/who"), "0\n")
  t:assert_contains(t:assert_raises(function() vm:stat("/mnt/who") end), "ENOENT")
end)

test("a call waits in the kernel while the test goes on", function(t)
  local w = vm:spawn_worker()
  local PIPE, READ, WRITE = 22, 0, 1
  local from, to = string.unpack("<i4i4", w:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1])
  local reading = w:syscall_async(READ, {args = {from, 0, 16}, bufs = {("\0"):rep(16)}, ptrs = {1}})
  t:assert_eq(w:syscall(WRITE, {args = {to, 0, 5}, bufs = {"hello"}, ptrs = {1}}).ret, 5)
  local r = reading:await("5s")
  t:assert_eq(r.out_bufs[1]:sub(1, r.ret), "hello")
end)
