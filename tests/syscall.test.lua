-- System calls and ioctls, as the kernel sees them.

local vm = provium:vm("sys", "host"):boot()

local READ, WRITE, CLOSE, MMAP, PIPE, GETPID, FORK, EXIT_GROUP, KILL, UMASK = 0, 1, 3, 9, 22, 39, 57, 231, 62, 95
local SOCKETPAIR, SENDMMSG, RECVMMSG, WRITEV, TGKILL, WAIT4, PAUSE = 53, 307, 299, 20, 234, 61, 34

local function pipe()
  return string.unpack("<i4i4", vm:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1])
end

test("a call gives what the C library gives", function(t)
  local r = vm:syscall(GETPID)
  t:assert(r.ret > 1)
  t:assert_eq(r.result, r.ret)
  t:assert_eq(r.errno, 0)
  t:assert_eq(#r.out_bufs, 0)
  r.mine = true
  t:assert_eq(vm:syscall(GETPID).ret, r.ret)
  r = vm:syscall(CLOSE, 999)
  t:assert_eq(r.ret, -1)
  t:assert_eq(r.errno, 9)
end)

test("state persists between calls", function(t)
  vm:syscall(UMASK, 63)
  t:assert_eq(vm:syscall(UMASK, 18).ret, 63)
  local from, to = pipe()
  t:assert_eq(vm:syscall(WRITE, {args = {to, 0, 3}, bufs = {"abc"}, ptrs = {1}}).ret, 3)
  local r = vm:syscall(READ, {args = {from, 0, 10}, bufs = {("\0"):rep(10), ""}, ptrs = {1}})
  t:assert_eq(r.ret, 3)
  t:assert_eq(r.out_bufs[1], "abc" .. ("\0"):rep(7))
  t:assert_eq(r.out_bufs[2], "")
end)

test("bad pointers are EFAULT", function(t)
  local _, to = pipe()
  t:assert_eq(vm:syscall(WRITE, to, 1, 10).errno, 14)
end)

test("read_mem sees what a call has mapped", function(t)
  local h = vm:open_file("/tmp/map", {read = true, write = true, create = true})
  h:write("mapped bytes")
  local addr = vm:syscall(MMAP, 0, 4096, 1, 2, h:fd(), 0).ret
  t:assert_eq(vm:read_mem(addr, 6), "mapped")
  local data, errno = vm:read_mem(1, 4)
  t:assert_eq(data, nil)
  t:assert_eq(errno, 14)
end)

test("write_mem stores bytes in what a call has mapped", function(t)
  local MMAP, MPROTECT, size, page = 9, 10, 4 << 20, 4096
  for _, by in ipairs{vm, vm:spawn_worker()} do
    local addr = by:syscall(MMAP, 0, size, 3, 0x22, -1, 0).ret -- read and write, private, anonymous
    local data = string.pack("<I8", 42):rep(size // 8 - 1) .. "the end."
    t:assert_eq(by:write_mem(addr, data), size)
    t:assert(by:read_mem(addr, size) == data)
    t:assert_eq(by:write_mem(addr + 1, "xyz"), 3)
    t:assert_eq(by:read_mem(addr, 5), "\x2axyz\0")
    t:assert_eq(by:write_mem(addr, ""), 0)
    by:syscall(MPROTECT, addr + page, page, 1) -- read only
    for _, to in ipairs{addr + page - 2, addr + page, 8} do
      local n, errno = by:write_mem(to, "abcd")
      t:assert_eq(n, nil)
      t:assert_eq(errno, 14) -- EFAULT
    end
  end
  t:assert_contains(t:assert_raises(function() vm:write_mem(0, ("x"):rep(size + 1)) end), "at most 4194304 are possible")
end)

test("child_offset points into the middle of a buffer", function(t)
  local WRITEV = 20
  local r = vm:syscall(22, {bufs = {("\0"):rep(8)}, ptrs = {0}}) -- pipe
  local from, to = string.unpack("<i4i4", r.out_bufs[1])
  local iov = string.pack("<I8I8I8I8", 0, 3, 0, 4)
  r = vm:syscall(WRITEV, {args = {to, 0, 2}, bufs = {iov, "0123456789"}, ptrs = {1}, nested = {
    {parent = 1, child = 2, offset = 0, child_offset = 7}, {parent = 1, child = 2, offset = 16}}})
  t:assert_eq(r.ret, 7)
  r = vm:syscall(0, {args = {from, 0, 7}, bufs = {("\0"):rep(7)}, ptrs = {1}})
  t:assert_eq(r.out_bufs[1], "7890123")
  t:assert_contains(t:assert_raises(function()
    vm:syscall(39, {bufs = {iov, "ab"}, nested = {{parent = 1, child = 2, offset = 0, child_offset = 3}}})
  end), "child_offset must be from 0 to 2, the size of buffer 2, got 3")
end)

test("a call that is not awaited keeps the VM from being snapshotted", function(t)
  local call = vm:syscall_async(34) -- pause
  local err = t:assert_raises(function() vm:snapshot() end)
  t:assert_contains(err, "vm:snapshot() refused")
  t:assert_contains(err, "operations in flight:\n  - syscall_async (not awaited)\nwait for their end first")
end)

test("sendmmsg with 1,024 messages through nested", function(t)
  local fds = vm:syscall(SOCKETPAIR, {args = {1, 2, 0, 0}, bufs = {("\0"):rep(8)}, ptrs = {3}}).out_bufs[1]
  local a, b = string.unpack("<i4i4", fds)
  -- struct mmsghdr: msghdr (56 bytes) and a length; all share one iovec
  local n = 1024
  local iov = string.pack("<i8i8", 0, 4)
  local one = string.pack("<i8i4i4i8i8i8i8i4i4i4i4", 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
  t:assert_eq(#one, 64)
  local nested = {{parent = 2, child = 3, offset = 0}}
  for i = 0, n - 1 do nested[#nested + 1] = {parent = 1, child = 2, offset = i * 64 + 16} end
  local sent = 0
  while sent < n do
    local r = vm:syscall(SENDMMSG, {args = {a, 0, n - sent, 64}, bufs = {one:rep(n), iov, "data"}, ptrs = {1}, nested = nested})
    t:assert(r.ret > 0 or r.errno == 11, "errno " .. r.errno)
    sent = sent + math.max(r.ret, 0)
    while vm:syscall(45, {args = {b, 0, 10, 64}, bufs = {("\0"):rep(10)}, ptrs = {1}}).ret > 0 do end
  end
  t:assert_eq(sent, n)
end)

test("ioctl with data and with nested buffers", function(t)
  local from, to = pipe()
  vm:syscall(WRITE, {args = {to, 0, 5}, bufs = {"12345"}, ptrs = {1}})
  local r = vm:ioctl(from, 0x541B, ("\0"):rep(4)) -- FIONREAD
  t:assert_eq(r.ret, 0)
  t:assert_eq(string.unpack("<i4", r.out_data), 5)
  t:assert_eq(vm:ioctl(from, 0x5401, ("\0"):rep(64)).errno, 25) -- TCGETS on a pipe
  -- SIOCGIFCONF: struct ifconf {int len; pointer to a buffer}
  local sock = vm:syscall(41, 2, 2, 0).ret
  local conf = vm:ioctl(sock, 0x8912, string.pack("<i4i4i8", 400, 0, 0), {bufs = {("\0"):rep(400)}, ptr_offsets = {8}})
  t:assert_eq(conf.ret, 0)
  t:assert_eq(#conf.out_bufs[1], 400)
  t:assert_contains(conf.out_bufs[1], "lo\0")
  -- As with ptrs, there can be fewer offsets than buffers.
  t:assert_eq(vm:ioctl(from, 0x541B, ("\0"):rep(4), {bufs = {"unused"}}).out_bufs[1], "unused")
  r = vm:ioctl(from, 0x5450) -- FIONCLEX has no argument
  t:assert_eq(r.ret, 0)
  t:assert_eq(r.out_data, "")
  t:assert_eq(vm:ioctl(from, 0x80045430 | 1 << 31).errno, 25) -- a command with its top bit set
end)

test("an asynchronous call sits in the kernel while others go on", function(t)
  local from, to = pipe()
  local h = vm:syscall_async(READ, {args = {from, 0, 10}, bufs = {("\0"):rep(10)}, ptrs = {1}})
  t:assert_contains(t:assert_raises(function() h:await("50ms") end), "timed out after 0.05s")
  local pid = vm:syscall(GETPID).ret
  wait_until(function() return vm:run("cat /proc/" .. pid .. "/task/*/syscall").stdout:find("\n0 0x", 1, true) end)
  vm:syscall(WRITE, {args = {to, 0, 2}, bufs = {"hi"}, ptrs = {1}})
  local r = h:await("10s")
  t:assert_eq(r.ret, 2)
  t:assert_eq(r.out_bufs[1]:sub(1, 2), "hi")
  t:assert_contains(t:assert_raises(function() h:await() end), "handle already awaited")
end)

test("SIGBUS interrupts an asynchronous read of an empty pipe", function(t)
  local from = pipe()
  local h = vm:syscall_async(READ, {args = {from, 0, 10}, bufs = {("\0"):rep(10)}, ptrs = {1}})
  local pid, tid = vm:syscall(GETPID).ret, nil
  wait_until(function()
    for _, e in ipairs(vm:listdir("/proc/" .. pid .. "/task")) do
      local n = tonumber(e.name)
      if n ~= pid and vm:read_file("/proc/" .. pid .. "/task/" .. n .. "/syscall"):find("^0 ") then tid = n end
    end
    return tid
  end)
  t:assert_eq(vm:syscall(TGKILL, pid, tid, 7).ret, 0)
  local r = h:await("10s")
  t:assert_eq(r.ret, -1)
  t:assert_eq(r.errno, 4)
end)

test("a call that nobody awaits is in flight", function(t)
  t:assert(vm:is_quiescent())
  vm:syscall_async(PAUSE)
  local done = vm:syscall_async(GETPID)
  t:assert(not vm:is_quiescent())
  t:assert_eq(done:await("10s").ret, vm:syscall(GETPID).ret)
  t:assert(not vm:is_quiescent())
end)

test("and is interrupted at the end of its test", function(t)
  t:assert(vm:is_quiescent())
  t:assert_eq(#vm:listdir("/proc/" .. vm:syscall(GETPID).ret .. "/task"), 1)
end)

test("a lethal call raises, and a fresh executor takes over", function(t)
  local pid = vm:syscall(GETPID).ret
  local h = vm:open_file("/proc/version", {read = true})
  t:assert_contains(t:assert_raises(function() vm:syscall(EXIT_GROUP, 3) end), "exited with code 3")
  t:assert_contains(t:assert_raises(function() h:read(1) end), "has died")
  local now = vm:syscall(GETPID).ret
  t:assert_neq(now, pid)
  t:assert_contains(t:assert_raises(function() vm:syscall(KILL, now, 9) end), "SIGKILL")
  t:assert(vm:syscall(GETPID).ret > 1)
end)

test("a call that blocks for ever is stopped with its task, and others go on meanwhile", function(t)
  t:assert_contains(t:assert_raises(function()
    parallel{
      function() vm:syscall(PAUSE) end,
      function()
        t:assert_eq(vm:run("echo on").stdout, "on\n")
        wait_until(function() return vm:run("grep -l '^34 ' /proc/[0-9]*/syscall"):ok() end)
        error("enough")
      end,
    }
  end), "enough")
  t:assert(vm:syscall(GETPID).ret > 1)
end)

test("the child of a fork waits and can be reaped", function(t)
  local child = vm:syscall(FORK).ret
  t:assert(child > 1)
  t:assert_eq(vm:syscall(KILL, child, 15).ret, 0)
  t:assert_eq(vm:syscall(WAIT4, child).ret, child)
end)

test("calls in a batch", function(t)
  local res = vm:batch(function(b)
    for _ = 1, 300 do b:syscall(GETPID) end
    b:syscall(CLOSE, 999)
  end)
  t:assert_eq(#res, 301)
  t:assert_eq(res[300].ok.ret, res[1].ok.ret)
  t:assert_eq(res[301].ok.errno, 9)
  t:assert_contains(t:assert_raises(function() vm:batch(function(b) b:syscall(0, {args = {}}) end) end), "table form")
end)

test("large buffers, many buffers", function(t)
  local from, to = pipe()
  local mib = ("x"):rep(1 << 20)
  t:assert_eq(vm:syscall(WRITE, {args = {to, 0, 10}, bufs = {mib}, ptrs = {1}}).ret, 10)
  local bufs = {}
  for i = 1, 256 do bufs[i] = ("b"):rep(i) end
  local r = vm:syscall(GETPID, {bufs = bufs})
  t:assert_eq(#r.out_bufs, 256)
  t:assert_eq(r.out_bufs[256], bufs[256])
end)

test("what is not possible is named", function(t)
  local function refused(needle, ...)
    local args = table.pack(...)
    t:assert_contains(t:assert_raises(function() vm:syscall(table.unpack(args, 1, args.n)) end), needle)
  end
  refused("missing nr")
  refused("nr must be integer, got string", "getpid")
  refused("nr must be integer, got 1.5", 1.5)
  refused("argument 2 must be an integer, got string", 1, 2, "x")
  refused("at most 6 arguments", 1, 1, 2, 3, 4, 5, 6, 7)
  refused("slot from 0 to 5, got 6", 0, {bufs = {""}, ptrs = {6}})
  refused("has no buffer", 0, {ptrs = {1}})
  refused("at most 1048576", 0, {bufs = {("x"):rep((1 << 20) + 1)}})
  refused("a buffer from 1 to 1, got 2", 0, {bufs = {"12345678"}, nested = {{parent = 1, child = 2, offset = 0}}})
  refused("no room for 8 bytes", 0, {bufs = {"12345678"}, nested = {{parent = 1, child = 1, offset = 1}}})
  refused("unknown option `buf`", 0, {buf = {}})
  t:assert_contains(t:assert_raises(function() vm:ioctl() end), "ioctl: missing fd")
  t:assert_contains(t:assert_raises(function() vm:ioctl(1) end), "ioctl: missing cmd")
  t:assert_contains(t:assert_raises(function() vm:ioctl(1, 2, "abc", {bufs = {""}, ptr_offsets = {0}}) end), "no room for 8 bytes")
  t:assert_contains(t:assert_raises(function() vm:ioctl(1, 2, "12345678", {ptr_offsets = {0}}) end), "entry 1 has no buffer")
  t:assert_eq(vm:syscall(CLOSE, 999.0, nil).errno, 9)
end)
