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

test("operations on files take a timeout", function(t)
  vm:run("mkfifo /srv/t/limit"):assert_ok()
  for call, fn in pairs{
    read_file = function(limit) vm:read_file("/srv/t/limit", limit) end,
    write_file = function(limit) vm:write_file("/srv/t/limit", ("x"):rep(100000), limit) end,
    push_file = function(limit) vm:push_file("vm-files.test.lua", "/srv/t/limit", limit) end,
    open_file = function(limit) limit.read = true vm:open_file("/srv/t/limit", limit) end,
  } do
    t:assert_contains(t:assert_raises(function() fn{timeout = "100ms"} end),
      "vm `files`: " .. call .. " /srv/t/limit: timed out after 100ms")
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
  t:assert_contains(err, "/tests/no-such-file")
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
