-- Snapshots of one VM: vm:snapshot, vm:restore, the Snapshot handle.
local function boot(opts) return provium:vm("v", "host", opts):boot() end
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end

test("a snapshot is one file, and the VM goes on", function(t)
  local vm = boot()
  sh(vm, "echo before > /tmp/x")
  local cid = vm:cid()
  local s = vm:snapshot()
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:cid(), cid)
  t:assert_eq(sh(vm, "cat /tmp/x"), "before")
  t:assert(s:size() > 1 << 20, "size " .. s:size())
  t:assert(s:size() < 256 << 20, "zero pages are not stored: " .. s:size())
  t:assert_contains(tostring(s), s:path())
  s:delete()
  t:assert_eq(s:size(), 0)
  s:delete()
  t:assert(not io.open(s:path()))
end)

test("restore brings memory, files, processes and the console log back", function(t)
  local vm = boot()
  sh(vm, "echo one > /tmp/x; : > /tmp/ticks; (while :; do sleep 0.05; echo tick >> /tmp/ticks; done) >/dev/null 2>&1 & echo $! > /tmp/pid")
  sh(vm, "echo marked > /dev/kmsg; echo marked-console > /dev/console")
  vm:console():expect("marked-console")
  local log = vm:console():read_log()
  local s = vm:snapshot()
  sh(vm, "echo two > /tmp/x; kill $(cat /tmp/pid); echo later > /dev/console")
  vm:console():expect("later")
  local cid = vm:cid()
  vm:shutdown()
  t:assert_eq(vm:restore(s), nil)
  t:assert_eq(vm:state(), "booted")
  t:assert_neq(vm:cid(), cid)
  t:assert_eq(sh(vm, "cat /tmp/x"), "one")
  sh(vm, "kill -0 $(cat /tmp/pid)")
  local n = tonumber(sh(vm, "wc -l < /tmp/ticks"))
  wait_until(function() return tonumber(sh(vm, "wc -l < /tmp/ticks")) > n end)
  local back = vm:console():read_log()
  t:assert_eq(back:sub(1, #log), log)
  t:assert(not back:find("later", 1, true))
  sh(vm, "echo again > /dev/console")
  vm:console():expect("again")
end)

test("many VMs run from one snapshot, each on its own", function(t)
  local vm = boot()
  local s = vm:snapshot()
  local seen, cids = {}, {}
  for i = 1, 3 do
    local c = provium:vm("c" .. i, "host")
    c:restore(s:path())
    c:write_file("/tmp/me", c:name())
    local random = sh(c, "head -c 16 /dev/urandom | xxd -p")
    t:assert(not seen[random] and not cids[c:cid()])
    seen[random], cids[c:cid()] = true, true
  end
  for i = 1, 3 do t:assert_eq(provium:vm("c" .. i):read_file("/tmp/me"), "c" .. i) end
  t:assert_raises(function() vm:read_file("/tmp/me") end)
end)

test("a restored guest has the present time", function(t)
  local vm = boot()
  local s = vm:snapshot()
  vm:clock():advance(-86400)
  local past = vm:snapshot()
  vm:shutdown()
  for _, from in ipairs {s, past} do
    vm:restore(from)
    local off = math.abs(vm:clock():get() - os.time())
    t:assert(off < 5, "off by " .. off)
    vm:shutdown()
  end
end)

-- boot-fixed has those with a fixed time and a fixed seed.

test("snapshots of a restored guest", function(t)
  local vm = boot()
  sh(vm, "echo 0 > /tmp/n")
  local s, list = vm:snapshot(), {}
  for i = 1, 3 do
    vm:shutdown()
    vm:restore(s)
    t:assert_eq(sh(vm, "cat /tmp/n"), tostring(i - 1))
    sh(vm, "echo " .. i .. " > /tmp/n; dd if=/dev/urandom of=/tmp/big bs=1M count=2 2>/dev/null; md5sum /tmp/big > /tmp/sum")
    s = vm:snapshot()
    list[i] = s
    sh(vm, "md5sum -c /tmp/sum")
  end
  -- Each is self-contained.
  list[1]:delete()
  list[2]:delete()
  vm:shutdown()
  vm:restore(list[3])
  t:assert_eq(sh(vm, "cat /tmp/n"), "3")
  sh(vm, "md5sum -c /tmp/sum")
end)

-- reset has a restored guest that is reset.

test("a paused VM", function(t)
  local vm = boot()
  sh(vm, "echo 1 > /tmp/x")
  vm:pause()
  local s, s2 = vm:snapshot(), vm:snapshot()
  t:assert_eq(vm:state(), "paused")
  vm:resume()
  sh(vm, "echo 2 > /tmp/x")
  local s3 = vm:snapshot()
  for from, want in pairs {[s] = "1", [s2] = "1", [s3] = "2"} do
    vm:shutdown()
    vm:restore(from)
    t:assert_eq(vm:state(), "booted")
    t:assert_eq(sh(vm, "cat /tmp/x"), want)
  end
end)

test("an explicit path is replaced as a whole", function(t)
  local path = os.tmpname()
  local vm = boot()
  local s = vm:snapshot(path)
  t:assert_eq(s:path(), path)
  local old = provium:vm("old", "host")
  old:restore(path)
  sh(vm, "echo new > /tmp/x")
  vm:snapshot(path)
  sh(old, "true") -- continues to run from the replaced file
  local new = provium:vm("new", "host")
  new:restore(path)
  t:assert_eq(sh(new, "cat /tmp/x"), "new")
  s:delete()
end)

test("size and cpus come from the snapshot", function(t)
  local vm = boot {memory = "384M", cpus = 2}
  local s = vm:snapshot()
  vm:shutdown()
  local other = provium:vm("other", "host", {memory = "128M"})
  other:restore(s)
  t:assert_eq(sh(other, "nproc"), "2")
  local kb = tonumber(sh(other, "sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"))
  t:assert(kb > 300000, "MemTotal " .. kb)
end)

local function refused(t, fn, ...)
  local ok, err = pcall(fn)
  t:assert(not ok, "it did not raise")
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end

test("wrong states", function(t)
  local vm = provium:vm("v", "host")
  refused(t, function() vm:snapshot() end, "cannot snapshot", "not booted")
  vm:boot()
  local s = vm:snapshot()
  refused(t, function() vm:restore(s) end, "restore", "already booted")
  vm:pause()
  refused(t, function() vm:restore(s) end, "paused")
  vm:shutdown()
  refused(t, function() vm:snapshot() end, "shutdown")
  vm:restore(s)
  refused(t, function() vm:restore(s) end, "already booted")
  sh(vm, "true")
end)

test("bad files and arguments", function(t)
  local vm = boot()
  local s = vm:snapshot()
  vm:shutdown()
  refused(t, function() vm:restore() end, "expected snapshot|string, got nil")
  refused(t, function() vm:restore(7) end, "expected snapshot|string, got number")
  refused(t, function() vm:restore(vm) end, "expected snapshot|string, got")
  refused(t, function() vm:restore("/no/such.snap") end, "/no/such.snap", "no such file")
  refused(t, function() vm:restore("/dev/null") end, "is no snapshot")
  refused(t, function() vm:restore("/tmp") end, "is no snapshot")
  refused(t, function() vm:snapshot(7) end, "path")
  local path = os.tmpname()
  local function copy(change)
    os.remove(path)
    assert(os.execute(("cp --sparse=always '%s' '%s'"):format(s:path(), path)))
    change(assert(io.open(path, "r+b")))
  end
  copy(function(f) f:seek("set", 1 << 20) f:write("x") f:close() end)
  refused(t, function() vm:restore(path) end, path, "is damaged", "RAM")
  copy(function(f) f:seek("end", -70) f:write("x") f:close() end)
  refused(t, function() vm:restore(path) end, path, "is damaged")
  copy(function(f) f:close() os.execute("truncate -s -1 '" .. path .. "'") end)
  refused(t, function() vm:restore(path) end, path, "is no snapshot")
  t:assert_eq(vm:state(), "shutdown")
  copy(function(f) f:close() end)
  vm:restore(path) -- a copy works as well
  refused(t, function() vm:snapshot("/no/such/dir/x.snap") end, "/no/such/dir")
  sh(vm, "true")
  os.remove(path)
  s:delete()
  vm:shutdown()
  refused(t, function() vm:restore(s) end, "no such file")
end)

test("a temporary snapshot of a restored guest holds what changed since", function(t)
  local s0 = boot():snapshot() -- the guest is a restored one where its boot was cached
  local a = provium:vm("delta-a", "host"); a:restore(s0)
  a:write_file("/tmp/step", "1")
  local s1 = a:snapshot()
  a:write_file("/tmp/step", "2")
  a:run("dd if=/dev/urandom bs=100000 count=20 of=/tmp/noise status=none; md5sum /tmp/noise > /tmp/sum"):assert_ok()
  local b = provium:vm("delta-b", "host"); b:restore(s1)
  t:assert_eq(b:read_file("/tmp/step"), "1")
  t:assert_contains(t:assert_raises(function() b:stat("/tmp/noise") end), "ENOENT")
  local s2 = a:snapshot()
  s0:delete()
  s1:delete() -- a diff needs its base, a full snapshot, which is kept for it
  local c = provium:vm("delta-c", "host"); c:restore(s2)
  t:assert_eq(c:read_file("/tmp/step"), "2")
  c:run("md5sum -c /tmp/sum"):assert_ok()
  t:assert(s2:size() < 64 << 20, "a delta of " .. s2:size() .. " bytes")
  -- A diff of a guest that runs from one, and a full snapshot from it.
  c:write_file("/tmp/step", "3")
  local s3 = c:snapshot()
  local path = os.tmpname()
  c:snapshot(path)
  c:shutdown()
  c:restore(s3)
  t:assert_eq(c:read_file("/tmp/step"), "3")
  c:run("md5sum -c /tmp/sum"):assert_ok()
  s3:delete(); s2:delete()
  local d = provium:vm("delta-d", "host"); d:restore(path)
  t:assert_eq(d:read_file("/tmp/step"), "3")
  d:run("md5sum -c /tmp/sum"):assert_ok()
  os.remove(path)
end)

test("what changed too much becomes a complete snapshot", function(t)
  local small = provium:vm("small", "host", {memory = "128M"}):boot()
  local noise <close> = assert(io.open("/dev/urandom", "rb"))
  local much = noise:read(36 << 20)
  small:write_file("/tmp/noise", much)
  local s = small:snapshot()
  local copy = provium:vm("copy", "host"); copy:restore(s)
  t:assert(copy:read_file("/tmp/noise") == much, "the copy has other bytes")
end)

-- pid returns the process of a guest on the host, and whether it is emulated.
local function pid(name)
  for dir in io.popen("ls -d /proc/[0-9]*"):lines() do
    local f = io.open(dir .. "/cmdline")
    local line = f and f:read("a") or ""
    if f then f:close() end
    if line:find("qemu", 1, true) and line:find("guest=" .. name .. "\0", 1, true) then
      return dir, line:find("accel=tcg", 1, true)
    end
  end
end

test("emulated guests of one snapshot share what they do not change", function(t)
  local vm = provium:vm("shares", "host"):boot()
  local booted = vm:snapshot()
  vm:shutdown()
  vm:restore(booted) -- a guest that has booted changes more of its memory
  vm:attach_disk({id = "data", size = "8M"})
  local function write(text)
    sh(vm, "printf " .. text .. " >/tmp/x; dd if=/tmp/x of=/dev/disk/by-id/virtio-data conv=sync,fsync")
  end
  write("kept")
  local s = vm:snapshot()
  vm:shutdown()
  for _ = 1, 2 do
    vm:restore(s)
    t:assert_eq(sh(vm, "dd if=/dev/disk/by-id/virtio-data count=1 iflag=direct 2>/dev/null | head -c 4"), "kept")
    write("gone")
    local dir, emulated = pid("shares")
    if emulated then
      local private = 0 -- in KiB
      for n in io.open(dir .. "/smaps_rollup"):read("a"):gmatch("Private_Dirty:%s+(%d+)") do private = private + tonumber(n) end
      t:assert(private < 24 << 10, private .. " KiB")
    end
    vm:shutdown()
  end
end)
