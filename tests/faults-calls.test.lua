-- Wrong system calls of a test: each is an error, an errno or a dead executor, and does not
-- harm the guest, other operations or the next test.

local vm = provium:vm("calls", "host", {memory = "256M"}):boot()

local READ, WRITE, OPEN, CLOSE, MMAP, PIPE, NANOSLEEP, GETPID, EXIT_GROUP = 0, 1, 2, 3, 9, 22, 35, 39, 231
local KILL, PRCTL, PRLIMIT, READV, PAUSE = 62, 157, 302, 19, 34
local EBADF, EFAULT, EMFILE, ENOSYS = 9, 14, 24, 38

-- blocked waits until a process of the guest is blocked in this system call.
local function blocked(nr)
  wait_until(function() return vm:run("grep -l '^" .. nr .. " ' /proc/[0-9]*/syscall"):ok() end, {desc = "the call blocks"})
end

test("pointers to nowhere are EFAULT, wherever the kernel reads or writes", function(t)
  local from, to = string.unpack("<i4i4", vm:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1])
  for _, address in ipairs{1, -1, 0x10, math.mininteger, math.maxinteger, 0x7ffffffff000, -4096} do
    t:assert_eq(vm:syscall(WRITE, to, address, 100).errno, EFAULT)
    t:assert_eq(vm:syscall(OPEN, address).errno, EFAULT)
    t:assert_eq(vm:syscall(NANOSLEEP, address).errno, EFAULT)
    t:assert_eq(vm:syscall(PIPE, address).errno, EFAULT)
    local data, errno = vm:read_mem(address, 16)
    t:assert_eq(data, nil)
    t:assert_eq(errno, EFAULT)
  end
  -- A structure in a valid buffer which contains an invalid pointer.
  vm:syscall(WRITE, {args = {to, 0, 3}, bufs = {"abc"}, ptrs = {1}})
  local iov = string.pack("<i8i8", 1, 3)
  t:assert_eq(vm:syscall(READV, {args = {from, 0, 1}, bufs = {iov}, ptrs = {1}}).errno, EFAULT)
  t:assert_eq(vm:ioctl(from, 0x541B).errno, EFAULT) -- FIONREAD into address 0
end)

test("numbers of no system call are ENOSYS", function(t)
  for _, nr in ipairs{1000, -1, math.maxinteger} do
    local r = vm:syscall(nr)
    t:assert_eq(r.ret, -1)
    t:assert_eq(r.errno, ENOSYS)
  end
end)

test("256 buffers with 4,096 nested pointers in chains", function(t)
  -- Each buffer but the last points to the next one, more than sixteen times.
  local bufs, nested = {}, {}
  for i = 1, 256 do bufs[i] = ("\0"):rep(8 * 17) end
  for i = 0, 4095 do
    local parent = i % 255 + 1
    nested[i + 1] = {parent = parent, child = parent + 1, offset = i // 255 * 8}
  end
  local r = vm:syscall(GETPID, {args = {}, bufs = bufs, ptrs = {0}, nested = nested})
  t:assert_eq(#r.out_bufs, 256)
  for i = 1, 255 do
    local first = string.unpack("<i8", r.out_bufs[i])
    t:assert(first ~= 0)
    for slot = 1, 15 do t:assert_eq(string.unpack("<i8", r.out_bufs[i], slot * 8 + 1), first) end
  end
  t:assert_eq(r.out_bufs[256], ("\0"):rep(8 * 17))
  -- One more of either is refused, and nothing is sent.
  bufs[257], nested[4097] = "", nested[1]
  t:assert_contains(t:assert_raises(function() vm:syscall(GETPID, {bufs = bufs}) end), "has 257 buffers, at most 256")
  bufs[257] = nil
  t:assert_contains(t:assert_raises(function() vm:syscall(GETPID, {bufs = bufs, nested = nested}) end), "has 4097 entries, at most 4096")
end)

test("a call that blocks for ever ends with its task, and others go on meanwhile", function(t)
  local pid = vm:syscall(GETPID).ret
  local w = vm:spawn_worker()
  local err = t:assert_raises(function()
    parallel{
      function() vm:syscall(PAUSE) end,
      function() w:syscall(PAUSE) end,
      function()
        blocked(PAUSE)
        t:assert_eq(vm:run("echo on").stdout, "on\n")
        t:assert_contains(vm:read_file("/proc/version"), "Linux")
        t:assert_eq(vm:spawn_worker():syscall(CLOSE, 999).errno, EBADF)
        error("enough")
      end,
    }
  end)
  t:assert_contains(err, "enough")
  -- Interrupted, not killed: both are the same processes as before.
  t:assert_eq(vm:syscall(GETPID).ret, pid)
  t:assert(w:syscall(GETPID).ret > 1)
end)

test("a call that cannot be interrupted costs its executor, not the guest", function(t)
  local w = vm:spawn_worker()
  local pid = w:syscall(GETPID).ret
  -- Block all signals that can be blocked.
  t:assert_eq(w:syscall(14, {args = {0, 0, 0, 8}, bufs = {("\xff"):rep(8)}, ptrs = {1}}).ret, 0)
  t:assert_contains(t:assert_raises(function()
    parallel{
      function() w:syscall(PAUSE) end,
      function() blocked(PAUSE) error("enough") end,
    }
  end), "enough")
  t:assert_contains(t:assert_raises(function() w:syscall(GETPID) end), "worker was killed by signal 9 (SIGKILL)")
  t:assert_contains(t:assert_raises(function() vm:stat("/proc/" .. pid) end), "ENOENT")
end)

test("closing a worker ends the call it sits in", function(t)
  local w = vm:spawn_worker()
  local ok, err
  parallel{
    function() ok, err = pcall(w.syscall, w, PAUSE) end,
    function() blocked(PAUSE) w:close() end,
  }
  t:assert_eq(ok, false)
  t:assert_contains(err, "worker was closed")
end)

test("what kills the executor is named, and a fresh one takes over", function(t)
  local lethal = {
    ["exited with code 7"] = function() vm:syscall(EXIT_GROUP, 7) end,
    ["SIGKILL"] = function() vm:syscall(KILL, vm:syscall(GETPID).ret, 9) end,
    ["SIGSEGV"] = function() vm:syscall(KILL, vm:syscall(GETPID).ret, 11) end,
    ["(SIGKILL)"] = function() vm:syscall(PRCTL, 22, 1) end, -- strict seccomp: even sending the answer is forbidden
  }
  for how, kill in pairs(lethal) do
    local before = vm:syscall(GETPID).ret
    local h = vm:open_file("/proc/version", {read = true})
    t:assert_contains(t:assert_raises(kill), how)
    t:assert_eq(vm:open_file_count(), 0)
    t:assert_contains(t:assert_raises(function() h:read(1) end), "has died")
    t:assert_neq(vm:syscall(GETPID).ret, before)
    h:close()
  end
end)

test("a seccomp filter that kills, in a worker", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(PRCTL, 38, 1).ret, 0) -- PR_SET_NO_NEW_PRIVS
  -- Kill the process at getpid, allow all else.
  local filter = string.pack("<I2BBI4 I2BBI4 I2BBI4 I2BBI4",
    0x20, 0, 0, 0, 0x15, 0, 1, GETPID, 0x06, 0, 0, 0x80000000, 0x06, 0, 0, 0x7fff0000)
  local r = w:syscall(PRCTL, {args = {22, 2}, bufs = {string.pack("<I2xxxxxxI8", 4, 0), filter}, ptrs = {2},
    nested = {{parent = 1, child = 2, offset = 8}}})
  t:assert_eq(r.ret, 0)
  t:assert_eq(w:syscall(CLOSE, 999).errno, EBADF)
  t:assert_contains(t:assert_raises(function() w:syscall(GETPID) end), "worker was killed by signal 31 (SIGSYS)")
  t:assert(vm:syscall(GETPID).ret > 1)
end)

test("asynchronous calls of an executor that dies are told how", function(t)
  local w = vm:spawn_worker()
  local h = w:syscall_async(PAUSE)
  t:assert_contains(t:assert_raises(function() w:syscall(EXIT_GROUP, 4) end), "exited with code 4")
  t:assert_contains(t:assert_raises(function() h:await("10s") end), "worker exited with code 4")
  t:assert_contains(t:assert_raises(function() w:syscall_async(PAUSE) end), "worker exited with code 4")
end)

test("out of descriptors", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(PRLIMIT, {args = {0, 7}, bufs = {string.pack("<I8I8", 32, 32)}, ptrs = {2}}).ret, 0)
  local open = {}
  local err = t:assert_raises(function()
    for i = 1, 100 do open[i] = w:open_file("/dev/null", {read = true}) end
  end)
  t:assert_contains(err, "Too many open files (EMFILE, os error 24) [errno 24]")
  t:assert(#open > 20)
  t:assert_eq(w:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).errno, EMFILE)
  t:assert_contains(t:assert_raises(function() w:read_file("/proc/version") end), "EMFILE")
  t:assert_contains(t:assert_raises(function() w:run("true") end), "EMFILE")
  open[#open]:close()
  t:assert_contains(w:read_file("/proc/version"), "Linux")
  t:assert_eq(vm:open_file_count(), #open - 1)
end)

test("the agent out of descriptors", function(t)
  local agent = tonumber(vm:run("echo $PPID").stdout)
  local soft_hard = ("\0"):rep(16)
  local before = vm:syscall(PRLIMIT, {args = {agent, 7, 0}, bufs = {soft_hard}, ptrs = {3}}).out_bufs[1]
  local function limit(limits) t:assert_eq(vm:syscall(PRLIMIT, {args = {agent, 7}, bufs = {limits}, ptrs = {2}}).ret, 0) end
  limit(string.pack("<I8I8", 3, (string.unpack("<I8", before, 9))))
  local ops = {
    function() vm:run("true") end, function() vm:run_async("true") end, function() vm:read_file("/proc/version") end,
    function() vm:write_file("/tmp/x", "") end, function() vm:tail_file("/proc/version") end, function() vm:listdir("/") end,
    function() vm:spawn_worker() end,
  }
  for i, op in ipairs(ops) do t:assert_contains(t:assert_raises(op, "operation " .. i), "EMFILE") end
  t:assert_eq(vm:syscall(CLOSE, 999).errno, EBADF)
  t:assert_contains(vm:batch(function(b) b:read_file("/proc/version") end)[1].err, "EMFILE")
  limit(before)
  t:assert_eq(vm:run("echo fine").stdout, "fine\n")
end)

test("out of processes", function(t)
  local w = vm:spawn_worker()
  w:syscall(PRLIMIT, {args = {0, 6}, bufs = {string.pack("<I8I8", 0, 0)}, ptrs = {2}})
  w:syscall(119, 4242, 4242, 4242)
  w:syscall(117, 4242, 4242, 4242)
  t:assert_contains(t:assert_raises(function() w:run("true") end), "EAGAIN")
  t:assert_eq(w:syscall_async(GETPID):await("10s").errno, 11)
  t:assert_eq(w:syscall(CLOSE, 999).errno, EBADF)
end)

test("a worker that takes all memory is killed, or refused", {allow_oops = true}, function(t)
  local w = vm:spawn_worker()
  -- Populate a mapping that is larger than the guest's memory.
  local ok, r = pcall(w.syscall, w, MMAP, 0, 512 << 20, 3, 0x8022, -1, 0)
  if ok then t:assert_eq(r.errno, 12) else t:assert_contains(r, "worker was killed by signal 9 (SIGKILL)") end
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
  t:assert(vm:syscall(GETPID).ret > 1)
end)

test("nothing is left", function(t)
  t:assert(vm:is_quiescent())
  t:assert_eq(vm:run("ps -o args | grep -c '@[p]rovium-executor'").stdout, "1\n")
end)
