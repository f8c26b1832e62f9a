-- File systems and watches on them: a loop-mounted ext4 image, inotify, fanotify.

local vm = provium:vm("files", "modules"):boot()

local READ, CLOSE, INOTIFY_INIT1, INOTIFY_ADD_WATCH, INOTIFY_RM_WATCH = 0, 3, 294, 254, 255
local FANOTIFY_INIT, FANOTIFY_MARK, READLINK, OPEN = 300, 301, 89, 2

local function read(fd, n)
  local r = vm:syscall(READ, {args = {fd, 0, n}, bufs = {("\0"):rep(n)}, ptrs = {1}})
  assert(r.ret >= 0, "read: errno " .. r.errno)
  return r.out_bufs[1]:sub(1, r.ret)
end

test("an ext4 image is mounted by a loop device, and keeps what was written", function(t)
  local image = os.tmpname()
  assert(os.execute(("truncate -s 8M %s && mkfs.ext4 -q -F %s"):format(image, image)))
  vm:push_file(image, "/tmp/image")
  os.remove(image)
  vm:run("mkdir -p /mnt && mount -t ext4 -o loop /tmp/image /mnt"):assert_ok()
  t:assert_contains(vm:read_file("/proc/mounts"), "/mnt ext4 rw")
  vm:write_file("/mnt/kept", "in the image")
  vm:rename("/mnt/kept", "/mnt/renamed")
  vm:run("umount /mnt && mount -t ext4 -o loop,ro /tmp/image /mnt"):assert_ok()
  t:assert_eq(vm:read_file("/mnt/renamed"), "in the image")
  t:assert_contains(t:assert_raises(function() vm:write_file("/mnt/new", "x") end), "Read-only file system (EROFS, os error 30) [errno 30]")
  t:assert_contains(t:assert_raises(function() vm:stat("/mnt/kept") end), "No such file or directory (ENOENT, os error 2) [errno 2]")
  vm:run("umount /mnt"):assert_ok()
end)

test("inotify tells of a file's life", function(t)
  vm:mkdir("/tmp/watched")
  local fd = vm:syscall(INOTIFY_INIT1, 0).ret
  local IN_CREATE, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE = 0x100, 0x8, 0x40, 0x80, 0x200
  local w = vm:syscall(INOTIFY_ADD_WATCH, {args = {fd, 0, IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE},
    bufs = {"/tmp/watched\0"}, ptrs = {1}}).ret
  t:assert(w > 0)
  vm:write_file("/tmp/watched/a", "1")
  vm:rename("/tmp/watched/a", "/tmp/watched/b")
  vm:unlink("/tmp/watched/b")
  local seen = {}
  local bytes = read(fd, 4096)
  local at, cookie = 1, nil
  while at <= #bytes do -- struct inotify_event
    local wd, mask, c, length = string.unpack("<i4I4I4I4", bytes, at)
    t:assert_eq(wd, w)
    seen[#seen + 1] = ("%x %s"):format(mask, string.unpack("z", bytes, at + 16))
    if mask == IN_MOVED_FROM then cookie = c end
    if mask == IN_MOVED_TO then t:assert_eq(c, cookie) end
    at = at + 16 + length
  end
  t:assert_eq(table.concat(seen, ", "), "100 a, 8 a, 40 a, 80 b, 200 b")
  t:assert_eq(vm:syscall(INOTIFY_RM_WATCH, fd, w).ret, 0)
  t:assert_eq(vm:syscall(INOTIFY_ADD_WATCH, {args = {fd, 0, IN_CREATE}, bufs = {"/tmp/absent\0"}, ptrs = {1}}).errno, 2)
  vm:syscall(CLOSE, fd)
end)

test("fanotify hands over the file that was opened", function(t)
  vm:write_file("/tmp/guarded", "x")
  local fd = vm:syscall(FANOTIFY_INIT, 0, 0).ret -- FAN_CLASS_NOTIF, O_RDONLY
  t:assert(fd > 0)
  local FAN_OPEN, FAN_CLOSE_NOWRITE, FAN_MARK_ADD, AT_FDCWD = 0x20, 0x10, 1, -100
  local r = vm:syscall(FANOTIFY_MARK, {args = {fd, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE_NOWRITE, AT_FDCWD, 0}, bufs = {"/tmp/guarded\0"}, ptrs = {4}})
  t:assert_eq(r.errno, 0)
  local p = vm:run_async("cat /tmp/guarded")
  local pid = p:pid()
  t:assert_eq(p:wait("10s").stdout, "x")
  local kinds = {}
  local bytes = read(fd, 4096)
  local at = 1
  while at <= #bytes do -- struct fanotify_event_metadata
    local length, _, _, _, mask, file, by = string.unpack("<I4I1I1I2I8i4i4", bytes, at)
    kinds[#kinds + 1] = mask
    t:assert(by == pid or by > pid, "an event of process " .. by)
    local link = vm:syscall(READLINK, {args = {0, 0, 100}, bufs = {"/proc/self/fd/" .. file .. "\0", ("\0"):rep(100)}, ptrs = {0, 1}})
    t:assert_eq(link.out_bufs[2]:sub(1, link.ret), "/tmp/guarded")
    t:assert_eq(read(file, 10), "x")
    vm:syscall(CLOSE, file)
    at = at + length
  end
  t:assert(#kinds >= 1 and kinds[1] & FAN_OPEN ~= 0)
  vm:syscall(CLOSE, fd)
end)
