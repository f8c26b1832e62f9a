-- Signals, namespaces and processors, by system calls.

local vm = provium:vm("proc", "modules", {cpus = 2}):boot()

local READ, WRITE, PIPE, GETPID, RT_SIGPROCMASK, KILL, TGKILL, SIGNALFD4 = 0, 1, 22, 39, 14, 62, 234, 289
local UNSHARE, MOUNT, PIVOT_ROOT, CHDIR, UMOUNT2, GETUID = 272, 165, 155, 80, 166, 102
local CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000

test("signalfd reads a blocked signal", function(t)
  local w = vm:spawn_worker()
  local USR1 = 10
  local mask = string.pack("<I8", 1 << (USR1 - 1))
  t:assert_eq(w:syscall(RT_SIGPROCMASK, {args = {0, 0, 0, 8}, bufs = {mask}, ptrs = {1}}).errno, 0) -- SIG_BLOCK
  local fd = w:syscall(SIGNALFD4, {args = {-1, 0, 8, 0}, bufs = {mask}, ptrs = {1}}).ret
  t:assert(fd > 0)
  local pid = w:syscall(GETPID).ret
  t:assert_eq(w:syscall(KILL, pid, USR1).ret, 0)
  -- struct signalfd_siginfo: signal, errno, code, pid
  local r = w:syscall(READ, {args = {fd, 0, 128}, bufs = {("\0"):rep(128)}, ptrs = {1}})
  t:assert_eq(r.ret, 128)
  local signal, _, _, from = string.unpack("<I4i4i4I4", r.out_bufs[1])
  t:assert_eq(signal, USR1)
  t:assert_eq(from, pid)
  w:close()
end)

test("SIGBUS ends an asynchronous read of an empty pipe with EINTR", function(t)
  local a, b = string.unpack("<i4i4", vm:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1])
  local pid = vm:syscall(GETPID).ret
  local before = vm:listdir("/proc/" .. pid .. "/task")
  local call = vm:syscall_async(READ, {args = {a, 0, 10}, bufs = {("\0"):rep(10)}, ptrs = {1}})
  -- The thread is blocked in read(2): number 0, with the pipe as first argument.
  local tid
  wait_until(function()
    for _, e in ipairs(vm:listdir("/proc/" .. pid .. "/task")) do
      if e.name ~= tostring(pid) and vm:read_file(("/proc/%d/task/%s/syscall"):format(pid, e.name)):find(("^0 0x%x "):format(a)) then
        tid = tonumber(e.name)
      end
    end
    return tid
  end, {desc = "the call sits in the kernel"})
  t:assert_eq(#before, 1)
  t:assert(vm:syscall(GETPID).ret == pid, "other calls go on")
  t:assert_eq(vm:syscall(TGKILL, pid, tid, 7).ret, 0)
  local r = call:await("10s")
  t:assert_eq(r.ret, -1)
  t:assert_eq(r.errno, 4)
  t:assert_contains(t:assert_raises(function() call:await() end), "handle already awaited")
  -- And one which gets its bytes.
  call = vm:syscall_async(READ, {args = {a, 0, 10}, bufs = {("\0"):rep(10)}, ptrs = {1}})
  vm:syscall(WRITE, {args = {b, 0, 5}, bufs = {"bytes"}, ptrs = {1}})
  r = call:await("10s")
  t:assert_eq(r.out_bufs[1]:sub(1, r.ret), "bytes")
end)

test("a user namespace with a root file system of its own", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(UNSHARE, CLONE_NEWUSER | CLONE_NEWNS).errno, 0)
  w:open_file("/proc/self/setgroups", {write = true}):write("deny")
  w:open_file("/proc/self/uid_map", {write = true}):write("0 0 1\n")
  w:open_file("/proc/self/gid_map", {write = true}):write("0 0 1\n")
  local function mount(source, target, kind, flags)
    local r = w:syscall(MOUNT, {args = {0, 0, 0, flags or 0, 0}, bufs = {source .. "\0", target .. "\0", kind .. "\0"}, ptrs = {0, 1, 2}})
    t:assert_eq(r.errno, 0, "mount " .. target)
  end
  local function call(nr, ...) t:assert_eq(w:syscall(nr, {args = {0, 0}, bufs = {...}, ptrs = {0, 1}}).errno, 0, "call " .. nr) end
  local function enter(path, nr) t:assert_eq(w:syscall(nr, {bufs = {path .. "\0"}, ptrs = {0}}).errno, 0, path) end
  -- pivot_root does not work from the initramfs, so a mount is entered first.
  mount("none", "/tmp", "tmpfs")
  w:run([[mkdir -p /tmp/bin /tmp/new && cp /bin/busybox /tmp/bin/ && for p in sh mkdir cp ls; do ln -s busybox /tmp/bin/$p; done]]):assert_ok()
  enter("/tmp", CHDIR)
  enter("/tmp", 161) -- chroot
  enter("/", CHDIR)
  mount("none", "/new", "tmpfs")
  w:run("mkdir -p /new/old /new/bin && cp -a /bin/. /new/bin/ && echo inside > /new/here"):assert_ok()
  call(PIVOT_ROOT, "/new\0", "/new/old\0")
  enter("/", CHDIR)
  t:assert_eq(w:run("ls /").stdout, "bin\nhere\nold\n")
  t:assert_eq(w:run("ls /old").stdout, "bin\nnew\n")
  t:assert_eq(w:syscall(UMOUNT2, {args = {0, 2}, bufs = {"/old\0"}, ptrs = {0}}).errno, 0) -- MNT_DETACH
  t:assert_eq(w:run("ls /old; read line < /here; echo $line").stdout, "inside\n")
  t:assert_contains(t:assert_raises(function() vm:stat("/here") end), "ENOENT")
end)

test("a processor is taken off and put back", function(t)
  local online = "/sys/devices/system/cpu/cpu1/online"
  t:assert_eq(vm:read_file("/sys/devices/system/cpu/online"), "0-1\n")
  vm:write_file(online, "0")
  t:assert_eq(vm:read_file("/sys/devices/system/cpu/online"), "0\n")
  t:assert_eq(vm:run("grep -c ^processor /proc/cpuinfo").stdout, "1\n")
  t:assert_eq(vm:syscall(GETUID).ret, 0) -- the executor continues
  vm:write_file(online, "1")
  t:assert_eq(vm:read_file("/sys/devices/system/cpu/online"), "0-1\n")
  -- sched_setaffinity pins the executor to the CPU which came back
  local r = vm:syscall(203, {args = {0, 8, 0}, bufs = {string.pack("<I8", 2)}, ptrs = {2}})
  t:assert_eq(r.errno, 0)
  local cpu = vm:syscall(309, {args = {0, 0, 0}, bufs = {("\0"):rep(4)}, ptrs = {0}}) -- getcpu
  t:assert_eq(string.unpack("<I4", cpu.out_bufs[1]), 1)
end)
