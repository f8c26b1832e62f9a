-- Guest files through the agent. All tests use one guest.

local vm = provium:vm("files", "host"):boot()
vm:mkdir("/srv/t", {parents = true})

test("what was written is read back, byte for byte", function(t)
  local data = "\0\1\2" .. ("x"):rep(100000) .. "\xff"
  t:assert_eq(vm:write_file("/srv/t/data", data), nil)
  t:assert_eq(vm:read_file("/srv/t/data"), data)
end)

test("new files have mode 0644 and existing ones keep theirs", function(t)
  vm:write_file("/srv/t/mode", "1")
  t:assert_eq(vm:stat("/srv/t/mode").perm, 0x1a4)
  vm:run("chmod 600 /srv/t/mode"):assert_ok()
  vm:write_file("/srv/t/mode", "22")
  t:assert_eq(vm:stat("/srv/t/mode").perm, 0x180)
  t:assert_eq(vm:stat("/srv/t/mode").size, 2)
end)

test("files of /proc are read although their size is 0", function(t)
  t:assert_contains(vm:read_file("/proc/version"), "Linux version")
end)

test("an operation on files that blocks ends with its task, and leaves nothing behind", function(t)
  vm:run("mkfifo /srv/t/fifo"):assert_ok()
  for _, blocked in ipairs{
    function() vm:read_file("/srv/t/fifo") end,
    function() vm:write_file("/srv/t/fifo", "late") end,
    function() vm:open_file("/srv/t/fifo", {write = true}) end,
  } do
    t:assert_contains(t:assert_raises(function()
      parallel{blocked, function() vm:run("sleep 0.2") error("the other task") end}
    end), "the other task")
    local r = vm:run("echo n >/srv/t/fifo", {timeout = "1s"}) -- a reader that was left would take it
    t:assert_eq(r.status, "timed_out")
    r = vm:run("cat /srv/t/fifo", {timeout = "1s"}) -- and a writer would end it
    t:assert_eq(r.status, "timed_out")
    t:assert_eq(r.stdout, "")
  end
end)

test("a read that another task's failure ended takes nothing from the next writer", function(t)
  vm:run("mkfifo /tmp/f"):assert_ok()
  for _, blocked in ipairs{
    function() vm:read_file("/tmp/f") end,
    function() vm:pull_file("/tmp/f", os.tmpname()) end,
    function() vm:spawn_worker():pull_file("/tmp/f", os.tmpname()) end,
  } do
    pcall(parallel, {blocked, function() vm:run("sleep 0.5") error("x") end})
    t:assert_eq(vm:run("echo n >/tmp/f", {timeout = "2s"}).status, "timed_out")
  end
  pcall(parallel, {function() vm:push_file("vm-files.test.lua", "/tmp/f") end,
    function() vm:run("sleep 0.5") error("x") end})
  t:assert_eq(vm:run("cat /tmp/f", {timeout = "2s"}).status, "timed_out")
end)

test("an interrupted read leaves the console's input to others", function(t)
  for name, by in pairs{vm = vm, worker = vm:spawn_worker()} do
    for _, path in ipairs{"/dev/ttyS0", "/dev/tty", "/dev/kmsg"} do
      local ok, err = pcall(by.read_file, by, path, {timeout = "200ms"})
      if path ~= "/dev/tty" then -- without a controlling terminal
        t:assert(not ok)
        t:assert_contains(err, "read_file " .. path .. ": timed out after 200ms")
      end
      pcall(by.pull_file, by, path, os.tmpname(), {timeout = "200ms"})
    end
    local reader = vm:run_async("exec </dev/ttyS0; echo open >&2; head -n 1")
    reader:stderr_stream():read_until("open")
    vm:console():write("input for " .. name .. "\n")
    t:assert_eq(reader:wait("20s").stdout, "input for " .. name .. "\n")
  end
end)

test("operations on files take a timeout", function(t)
  vm:run("mkfifo /srv/t/limit"):assert_ok()
  for call, fn in pairs{
    read_file = function(limit) vm:read_file("/srv/t/limit", limit) end,
    write_file = function(limit) vm:write_file("/srv/t/limit", ("x"):rep(100000), limit) end,
    push_file = function(limit) vm:push_file("vm-files.test.lua", "/srv/t/limit", limit) end,
    open_file = function(limit) limit.read = true vm:open_file("/srv/t/limit", limit) end,
  } do
    local err = t:assert_raises(function() fn{timeout = "100ms"} end)
    t:assert_contains(err, "vm `files`: " .. call .. " ")
    t:assert_contains(err, "/srv/t/limit: timed out after 100ms")
  end
  t:assert_contains(t:assert_raises(function() vm:read_file("/dev/kmsg", {timeout = "100ms"}) end), "timed out")
  t:assert_eq(vm:run("echo n >/srv/t/limit", {timeout = "1s"}).status, "timed_out")
end)

test("errors carry the errno", function(t)
  local err = t:assert_raises(function() vm:read_file("/no/such/file") end)
  t:assert_contains(err, "No such file or directory (ENOENT, os error 2) [errno 2]")
  t:assert_contains(err, "vm `files`: read_file /no/such/file: ")
  t:assert_contains(t:assert_raises(function() vm:read_file("/srv") end), "EISDIR")
end)

test("stat describes files and follows links", function(t)
  vm:write_file("/srv/t/target", "12345")
  vm:run("ln -s target /srv/t/link; mkfifo /srv/t/pipe"):assert_ok()
  local s = vm:stat("/srv/t/link")
  t:assert_eq(s.entry_type, "file")
  t:assert_eq(s.size, 5)
  t:assert_eq(math.type(s.mtime_ns), "integer")
  t:assert_eq(math.type(s.mtime), "float")
  t:assert_eq(vm:stat("/srv/t/link", {follow = false}).entry_type, "symlink")
  t:assert_eq(vm:stat("/srv/t/pipe").entry_type, "fifo")
  t:assert_eq(vm:stat("/srv").entry_type, "directory")
  t:assert_eq(vm:stat("/dev/null").entry_type, "char_device")
end)

test("stat has what a file system knows of a file", function(t)
  vm:write_file("/srv/t/inode", "12345")
  vm:link("/srv/t/inode", "/srv/t/inode2")
  vm:chown("/srv/t/inode", 1000, 50)
  local s, s2 = vm:stat("/srv/t/inode"), vm:stat("/srv/t/inode2")
  t:assert_eq(s.ino, s2.ino)
  t:assert_eq(("%d %d %d %d"):format(s.nlink, s2.uid, s2.gid, s.rdev), "2 1000 50 0")
  t:assert(s.blocks > 0)
  for _, time in ipairs{"atime", "mtime", "ctime"} do
    t:assert_eq(math.type(s[time .. "_ns"]), "integer")
    t:assert(math.abs(s[time] - s[time .. "_ns"] / 1e9) < 1)
  end
  local null = vm:stat("/dev/null")
  t:assert_eq(("%d %d %#x"):format(null.major, null.minor, null.rdev), "1 3 0x103")
  local w = vm:spawn_worker() -- by system calls
  for key, value in pairs(s) do t:assert_eq(w:stat("/srv/t/inode")[key], value, key) end
end)

test("links, modes, owners, sizes and nodes", function(t)
  for name, by in pairs{vm = vm, worker = vm:spawn_worker()} do
    local at = "/srv/t/calls-" .. name
    by:mkdir(at)
    by:write_file(at .. "/f", "12345")
    by:chmod(at .. "/f", 0x9ed) -- 4755
    t:assert_eq(by:stat(at .. "/f").perm, 0x9ed)
    by:truncate(at .. "/f", 1 << 31)
    t:assert_eq(by:stat(at .. "/f").size, 1 << 31)
    by:symlink("../nowhere", at .. "/l")
    t:assert_eq(by:readlink(at .. "/l"), "../nowhere")
    by:chown(at .. "/l", 7, -1, {follow = false})
    t:assert_eq(by:stat(at .. "/l", {follow = false}).uid, 7)
    t:assert_contains(t:assert_raises(function() by:chown(at .. "/l", 7, 7) end), "ENOENT")
    by:mknod(at .. "/zero", {type = "char", major = 1, minor = 5, perm = 0x1b6})
    t:assert_eq(by:stat(at .. "/zero").perm, 0x1b6) -- whatever the umask
    t:assert_eq(vm:run("head -c 3 " .. at .. "/zero | od -An -c").stdout:gsub("%s", ""), "\\0\\0\\0")
    by:mknod(at .. "/pipe", {type = "fifo"})
    t:assert_eq(by:stat(at .. "/pipe").entry_type, "fifo")
    t:assert_contains(t:assert_raises(function() by:readlink(at .. "/f") end),
      "vm `files`: readlink " .. at .. "/f: Invalid argument (EINVAL, os error 22) [errno 22]")
    t:assert_contains(t:assert_raises(function() by:link("/no", at .. "/x") end), "link /no -> " .. at .. "/x: ")

    by:setxattr(at .. "/f", "trusted.a", "one\0two")
    t:assert_eq(by:getxattr(at .. "/f", "trusted.a"), "one\0two")
    t:assert_eq(by:getxattr(at .. "/f", "trusted.none"), nil)
    t:assert_contains(t:assert_raises(function() by:setxattr(at .. "/f", "trusted.a", "x", {create = true}) end), "EEXIST")
    t:assert_contains(t:assert_raises(function() by:getxattr(at .. "/f", "unknown.a") end), "EOPNOTSUPP")
  end
end)

test("file systems are mounted and unmounted", function(t)
  vm:mkdir("/srv/t/mnt")
  vm:mkdir("/srv/t/bound")
  vm:mount("tmpfs", "/srv/t/mnt", "tmpfs", {options = "size=64k,noexec"})
  t:assert_contains(vm:read_file("/proc/mounts"), "/srv/t/mnt tmpfs rw,noexec,relatime,size=64k")
  vm:mount("/srv/t/mnt", "/srv/t/bound", nil, {options = "bind,ro"})
  t:assert_contains(t:assert_raises(function() vm:write_file("/srv/t/bound/f", "") end), "EROFS")
  vm:write_file("/srv/t/mnt/f", "seen")
  t:assert_eq(vm:read_file("/srv/t/bound/f"), "seen")
  vm:umount("/srv/t/bound")
  local h = vm:open_file("/srv/t/mnt/f", {read = true})
  t:assert_contains(t:assert_raises(function() vm:umount("/srv/t/mnt") end),
    "umount /srv/t/mnt: Device or resource busy (EBUSY, os error 16) [errno 16]")
  vm:umount("/srv/t/mnt", {lazy = true})
  h:close()
  t:assert_eq(#vm:listdir("/srv/t/mnt"), 0)
  t:assert_contains(t:assert_raises(function() vm:mount("nothing", "/srv/t/mnt", "nofs") end),
    "mount nothing -> /srv/t/mnt: No such device (ENODEV, os error 19) [errno 19]")
end)

test("a worker's credentials and namespaces decide", function(t)
  local w = vm:spawn_worker()
  vm:mkdir("/srv/t/own")
  t:assert_eq(w:syscall(272, 0x20000).ret, 0) -- unshare(CLONE_NEWNS)
  w:mount("none", "/", nil, {options = "rprivate"})
  w:mount("tmpfs", "/srv/t/own", "tmpfs")
  w:write_file("/srv/t/own/f", "")
  t:assert_eq(#vm:listdir("/srv/t/own"), 0)
  w:umount("/srv/t/own")
  vm:write_file("/srv/t/own/root", "")
  vm:chown("/srv/t/own", 1000, 1000)
  w:syscall(117, 1000, 1000, 1000) -- setresuid
  w:symlink("x", "/srv/t/own/l")
  t:assert_eq(vm:stat("/srv/t/own/l", {follow = false}).uid, 1000)
  for _, refused in ipairs{
    function() w:chmod("/srv/t/own/root", 0) end,
    function() w:chown("/srv/t/own/root", 1000, -1) end,
    function() w:mknod("/srv/t/own/n", {type = "char", major = 1, minor = 3}) end,
    function() w:mount("tmpfs", "/srv/t/own", "tmpfs") end,
    function() w:umount("/proc") end,
  } do
    t:assert_contains(t:assert_raises(refused), "Operation not permitted (EPERM, os error 1) [errno 1]")
  end
end)

test("listdir names the entries and their types", function(t)
  vm:mkdir("/srv/t/list/sub", {parents = true})
  vm:write_file("/srv/t/list/file", "")
  vm:run("ln -s file /srv/t/list/link"):assert_ok()
  local types = {}
  local entries = vm:listdir("/srv/t/list")
  for _, e in ipairs(entries) do types[e.name] = e.entry_type end
  t:assert_eq(#entries, 3)
  t:assert_eq(types.sub, "directory")
  t:assert_eq(types.file, "file")
  t:assert_eq(types.link, "symlink")
end)

test("mkdir makes directories with the mode asked for", function(t)
  vm:mkdir("/srv/t/plain")
  t:assert_eq(vm:stat("/srv/t/plain").perm, 0x1ed)
  vm:mkdir("/srv/t/private", {perm = 0x1c0})
  t:assert_eq(vm:stat("/srv/t/private").perm, 0x1c0)
  vm:mkdir("/srv/t/plain", {parents = true})
  t:assert_contains(t:assert_raises(function() vm:mkdir("/srv/t/plain") end), "EEXIST")
  t:assert_contains(t:assert_raises(function() vm:mkdir("/srv/t/x/y") end), "ENOENT")
end)

test("unlink removes files and empty directories", function(t)
  vm:write_file("/srv/t/gone", "")
  vm:unlink("/srv/t/gone")
  t:assert_contains(t:assert_raises(function() vm:stat("/srv/t/gone") end), "ENOENT")
  vm:mkdir("/srv/t/full/inner", {parents = true})
  t:assert_contains(t:assert_raises(function() vm:unlink("/srv/t/full") end), "ENOTEMPTY")
  vm:unlink("/srv/t/full/inner")
  vm:unlink("/srv/t/full")
end)

test("rename moves and replaces", function(t)
  vm:write_file("/srv/t/from", "new")
  vm:write_file("/srv/t/to", "old")
  vm:rename("/srv/t/from", "/srv/t/to")
  t:assert_eq(vm:read_file("/srv/t/to"), "new")
  t:assert_contains(t:assert_raises(function() vm:stat("/srv/t/from") end), "ENOENT")
end)

test("push_file starts at the directory of the calling file", function(t)
  vm:push_file("vm-files.test.lua", "/srv/t/pushed.lua")
  local here = assert(io.open(debug.getinfo(1, "S").source:sub(2), "rb"))
  t:assert_eq(vm:read_file("/srv/t/pushed.lua"), here:read("a"))
  here:close()
  local err = t:assert_raises(function() vm:push_file("no-such-file", "/srv/t/x") end)
  t:assert_contains(err, "/tests/no-such-file -> /srv/t/x: host file ")
  t:assert_contains(err, "/tests/no-such-file: no such file or directory")
  err = t:assert_raises(function() vm:push_file("vm-files.test.lua", "/srv/none/x") end)
  t:assert_contains(err, "/tests/vm-files.test.lua -> /srv/none/x: No such file or directory (ENOENT, os error 2)")
  for _, word in ipairs{"stat", "write_file", "mkdir"} do t:assert(not err:find(word, 1, true)) end
end)

test("push_file keeps the mode unless perm is given", function(t)
  local host = os.tmpname()
  local f = assert(io.open(host, "wb"))
  f:write("tool")
  f:close()
  os.execute("chmod 0750 " .. host)
  vm:push_file(host, "/srv/t/tool")
  t:assert_eq(vm:stat("/srv/t/tool").perm, 0x1e8)
  vm:push_file(host, "/srv/t/tool2", {perm = 0x1c0})
  t:assert_eq(vm:stat("/srv/t/tool2").perm, 0x1c0)
  os.remove(host)
end)

test("pull_file is the way back", function(t)
  local host = os.tmpname()
  vm:write_file("/srv/t/report", "result\0\n")
  vm:pull_file("/srv/t/report", host)
  local f = assert(io.open(host, "rb"))
  t:assert_eq(f:read("a"), "result\0\n")
  f:close()
  os.remove(host)
end)

local function lines(command)
  local p = assert(io.popen(command))
  local text = p:read("a")
  p:close()
  return text
end

-- What a tree is: names, kinds, modes, sizes, targets.
local listing = "cd %s && find . ! -type l | sort | xargs stat -c '%%n %%A %%s' | sed 's/\\(^.* d.........\\) .*/\\1/' && "
  .. "for l in `find . -type l | sort`; do echo $l -\\> `readlink $l`; done"

test("trees are copied as trees, in both directions", function(t)
  local host = lines("mktemp -d"):match("[^\n]+")
  local tree = host .. "/tree"
  assert(os.execute(("mkdir -p %s/sub/closed && cd %s && echo text >sub/f && chmod 0711 sub/f && echo >sub/closed/x && "
    .. "ln -s sub/f link && ln -s /no/where sub/dangling && ln -s .. sub/parent && chmod 0511 sub/closed && "
    .. "echo data | dd of=holes bs=1 seek=1000000000 2>/dev/null && truncate -s 2G holes"):format(tree, tree)))
  local want = lines(listing:format(tree))
  t:assert_contains(want, "./sub/dangling -> /no/where")
  for name, by in pairs{vm = vm, worker = vm:spawn_worker()} do
    local at = "/srv/t/tree-" .. name
    by:push_file(tree, at)
    t:assert_eq(vm:run(listing:format(at)).stdout, want)
    t:assert_eq(vm:stat(at .. "/holes").size, 2 << 30)
    t:assert(vm:stat(at .. "/holes").blocks < 1000) -- the guest has not 2 GiB
    local back = host .. "/" .. name
    by:pull_file(at, back)
    t:assert_eq(lines(listing:format(back)), want)
    t:assert(tonumber(lines("du -k " .. back .. "/holes | cut -f 1")) < 1000)
    by:pull_file(at .. "/holes", back .. "/alone")
    t:assert(tonumber(lines("du -k " .. back .. "/alone | cut -f 1")) < 1000)
    t:assert_eq(lines("tail -c +1000000001 " .. back .. "/alone | head -c 5"), "data\n")
  end

  -- What is no file, directory or link is refused before anything is copied.
  assert(os.execute("mkfifo " .. tree .. "/sub/pipe"))
  t:assert_contains(t:assert_raises(function() vm:push_file(tree, "/srv/t/refused") end), tree .. "/sub/pipe: it is a FIFO")
  t:assert_contains(t:assert_raises(function() vm:stat("/srv/t/refused") end), "ENOENT")
  vm:mknod("/srv/t/tree-vm/sub/pipe", {type = "fifo"})
  t:assert_contains(t:assert_raises(function() vm:pull_file("/srv/t/tree-vm", host .. "/refused") end),
    "/srv/t/tree-vm/sub/pipe is a fifo")
  t:assert(not io.open(host .. "/refused"))
  os.execute("chmod -R u+rwx " .. host .. " && rm -r " .. host)
end)

test("a full disk is an error, not a hang", function(t)
  vm:run("mkdir -p /srv/small && mount -t tmpfs -o size=64k tmpfs /srv/small"):assert_ok()
  t:assert_contains(t:assert_raises(function()
    vm:write_file("/srv/small/big", ("x"):rep(1 << 20))
  end), "ENOSPC")
  vm:run("umount /srv/small")
end)

test("file methods refuse bad arguments", function(t)
  local function refused(needle, fn) t:assert_contains(t:assert_raises(fn), needle) end
  refused("must be a string, got nil", function() vm:read_file() end)
  refused("got number", function() vm:write_file("/srv/t/n", 7) end)
  refused("unknown option `parent` (valid: parents, perm, timeout)", function() vm:mkdir("/x", {parent = true}) end)
  refused("perm", function() vm:mkdir("/x", {perm = 0x10000}) end)
  refused("NUL", function() vm:stat("/srv\0/t") end)
end)
