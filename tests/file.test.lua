-- Open files of a guest.

local vm = provium:vm("file", "host"):boot()

test("read, write, seek and tell share one cursor", function(t)
  local h = vm:open_file("/tmp/rec", {read = true, write = true, create = true})
  t:assert_eq(h:write("abcdef"), 6)
  t:assert_eq(h:tell(), 6)
  t:assert_eq(h:seek(-2, "end"), 4)
  t:assert_eq(h:read(10), "ef")
  t:assert_eq(h:read(10), "")
  t:assert_eq(h:seek(1), 1)
  t:assert_eq(h:seek(1, "cur"), 2)
  t:assert_eq(h:read(2), "cd")
  t:assert_eq(h:read_all(), "ef")
  t:assert_eq(h:read_all(), "")
  t:assert_eq(vm:open_file_count(), 1)
  t:assert(not vm:is_quiescent())
  t:assert(h:fd() > 0)
  h:close()
  h:close()
  t:assert_eq(h:fd(), 0)
  t:assert_eq(vm:open_file_count(), 0)
  for _, op in ipairs{"read_all", "tell", "tail_stream"} do
    t:assert_contains(t:assert_raises(function() h[op](h) end), "file is closed")
  end
  t:assert_contains(t:assert_raises(function() h:write("x") end), "file is closed")
end)

test("perm is exact whatever the umask", function(t)
  local function makes(by, name, perm)
    by:open_file(name, {write = true, create = true, perm = perm}):close()
    return vm:stat(name).perm
  end
  local w = vm:spawn_worker()
  w:syscall(95, 63) -- umask
  for i, by in ipairs{vm, w} do
    t:assert_eq(makes(by, "/tmp/perm" .. i, 0x1ff), 0x1ff)
    t:assert_eq(makes(by, "/tmp/set-id" .. i, 0xfff), 0xfff)
    t:assert_eq(makes(by, "/tmp/perm" .. i, 0x180), 0x1ff) -- it was there
    by:mkdir("/tmp/dir" .. i, {perm = 0x1ff})
    t:assert_eq(vm:stat("/tmp/dir" .. i).perm, 0x1ff)
  end
  t:assert_eq(makes(vm, "/tmp/plain"), 0x1a4)
  t:assert_eq(makes(w, "/tmp/plain-too"), 0x180)
  t:assert_eq(w:syscall(95, 18).ret, 63)
end)

test("the modes are those of open(2)", function(t)
  local function refused(needle, path, mode)
    t:assert_contains(t:assert_raises(function() vm:open_file(path, mode) end), needle)
  end
  refused("ENOENT", "/tmp/none", {read = true})
  vm:write_file("/tmp/there", "12345")
  refused("EEXIST", "/tmp/there", {write = true, create = true, exclusive = true})
  vm:open_file("/tmp/there", {append = true}):write("6")
  t:assert_eq(vm:read_file("/tmp/there"), "123456")
  vm:open_file("/tmp/there", {write = true, truncate = true})
  t:assert_eq(vm:read_file("/tmp/there"), "")
  vm:open_file("/tmp/mode", {write = true, create = true, perm = 0x180})
  t:assert_eq(vm:stat("/tmp/mode").perm, 0x180)
  local ro = vm:open_file("/tmp/there", {read = true})
  t:assert_contains(t:assert_raises(function() ro:write("x") end), "EBADF")
  refused("at least one of read, write, append", "/tmp/there", {})
  refused("unknown option `rd`", "/tmp/there", {rd = true})
  refused("opts.read must be true or false", "/tmp/there", {read = 1})
end)

test("bad input is named", function(t)
  local h = vm:open_file("/proc/version", {read = true})
  local function refused(needle, fn) t:assert_contains(t:assert_raises(fn), needle) end
  refused("must be between 0", function() h:read(-1) end)
  refused("must be an integer", function() h:read(1.5) end)
  refused("must be a string", function() h:write(7) end)
  refused("seek: whence must be set/cur/end, got `middle`", function() h:seek(0, "middle") end)
  refused("EINVAL", function() h:seek(-5) end)
  t:assert_contains(h:read_all(), "Linux")
end)

test("a descriptor is good for system calls too", function(t)
  local h = vm:open_file("/tmp/both", {read = true, write = true, create = true})
  h:write("payload and more")
  h:seek(0)
  local r = vm:syscall(0, {args = {h:fd(), 0, 7}, bufs = {("\0"):rep(7)}, ptrs = {1}})
  t:assert_eq(r.ret, 7)
  t:assert_eq(r.out_bufs[1], "payload")
  t:assert_eq(h:tell(), 7)
end)

test("two megabytes go through a file unchanged", function(t)
  local data = ("0123456789abcdef"):rep(131072)
  local h = vm:open_file("/tmp/big", {read = true, write = true, create = true})
  local at = 1
  while at <= #data do at = at + h:write(data:sub(at)) end
  h:seek(0)
  t:assert(h:read_all() == data)
  h:seek(0)
  t:assert(h:read(#data) == data)
end)

test("tails of a file and of a descriptor", function(t)
  local h = vm:open_file("/tmp/tail", {read = true, write = true, create = true})
  h:write("before")
  local s = h:tail_stream()
  vm:run("echo ' after' >> /tmp/tail")
  t:assert_eq(s:read_until("\n"), " after\n")
  t:assert_eq(h:tell(), 6)
  local r = vm:syscall(22, {bufs = {("\0"):rep(8)}, ptrs = {0}}) -- pipe
  local from, to = string.unpack("<i4i4", r.out_bufs[1])
  local p = vm:fd_stream(from)
  vm:syscall(1, {args = {to, 0, 5}, bufs = {"bytes"}, ptrs = {1}})
  t:assert_eq(p:read_until("bytes"), "bytes")
  vm:syscall(3, to)
  t:assert_eq(p:next(), nil)
  t:assert(p:eof())
  local f = vm:fd_stream(h)
  t:assert_eq(f:read_until("\n"), " after\n")
  h:close()
  t:assert_contains(t:assert_raises(function() vm:fd_stream(h) end), "file is closed")
  for _, fd in ipairs{0, 900, 9999} do
    t:assert_contains(t:assert_raises(function() vm:fd_stream(fd) end), "fd_stream: unknown fd `" .. fd .. "`")
  end
  local w = vm:open_file("/tmp/written", {write = true, create = true})
  for _, open in ipairs{function() vm:fd_stream(w) end, function() w:tail_stream() end} do
    t:assert_contains(t:assert_raises(open), "the descriptor is open for writing only, and a stream reads from it")
  end
  t:assert_contains(t:assert_raises(function() vm:ioctl(w, 1) end), "file:fd()")
end)

test("a descriptor is never 0, which stands for a closed file", function(t)
  t:assert_eq(vm:syscall(3, 0).ret, 0) -- close
  local h = vm:open_file("/proc/version", {read = true})
  t:assert(h:fd() > 2)
  t:assert_contains(h:read_all(), "Linux")
  t:assert_eq(vm:syscall(3, 0).errno, 9)
  t:assert_eq(vm:syscall(2, {args = {0, 2}, bufs = {"/dev/null\0"}, ptrs = {0}}).ret, 0)
end)

test("what tests leave open is closed", function(t)
  t:assert_eq(vm:open_file_count(), 0)
  t:assert(vm:is_quiescent())
end)
