-- Disks in snapshots: contents, unflushed data, faults; by reference and in one file.
local S = 512
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end
local function refused(t, fn, ...)
  local ok, err = pcall(fn)
  t:assert(not ok, "it did not raise")
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end
local function file_of(bytes)
  local path = os.tmpname()
  local f = assert(io.open(path, "wb"))
  f:write(bytes)
  f:close()
  return path
end
local small = {memory = "128M"}
local function content(path)
  local f = assert(io.open(path, "rb"))
  local all = f:read("a")
  f:close()
  return all
end
-- Direct I/O, which bypasses the guest's page cache. No flush.
local function put(vm, dev, letter, sector, flush)
  sh(vm, ("tr '\\0' %s </dev/zero | dd of=/dev/disk/by-id/virtio-%s bs=512 seek=%d count=8 iflag=fullblock oflag=direct conv=notrunc%s 2>/dev/null")
    :format(letter, dev, sector, flush and ",fsync" or ""))
end
local function get(vm, dev, sector)
  return sh(vm, ("dd if=/dev/disk/by-id/virtio-%s bs=512 skip=%d count=1 iflag=direct 2>/dev/null | head -c 1"):format(dev, sector))
end

test("contents, pending writes and faults come back; handles stay good", function(t)
  local vm = provium:vm("v", "host", small):boot()
  local a = vm:attach_disk({id = "a", size = "64M"})
  local b = vm:attach_disk({id = "b", size = "1M"})
  put(vm, "a", "F", 0, true)
  put(vm, "a", "P", 8)
  b:write_sectors(0, "sector op")
  b:delay(1)
  b:fail_range(100, 2)
  b:fault_inject("slow")
  local s = vm:snapshot()
  -- The VM continues, and its later writes are not in the snapshot.
  t:assert_eq(a:read_sectors(8, 1, {pending = true}), ("P"):rep(S))
  t:assert_eq(a:read_sectors(8, 1), ("\0"):rep(S))
  put(vm, "a", "X", 0, true)
  put(vm, "a", "X", 16, true)
  t:assert_eq(a:read_sectors(8, 1), ("P"):rep(S))
  b:clear_faults()
  b:clear_policy()
  b:write_sectors(0, "later....")
  b:detach()
  local c = vm:attach_disk({id = "c", size = "1M"})
  vm:shutdown()
  for _ = 1, 2 do -- also from a second restore, and after the boot in between
    vm:restore(s)
    t:assert_eq(vm:disk("a"), a)
    t:assert(c:is_detached())
    refused(t, function() vm:disk("c") end, "attached: a, b")
    t:assert_eq(a:read_sectors(0, 1), ("F"):rep(S))
    t:assert_eq(get(vm, "a", 0) .. get(vm, "a", 8), "FP")
    t:assert_eq(a:read_sectors(8, 1), ("\0"):rep(S))
    t:assert_eq(a:read_sectors(16, 1), ("\0"):rep(S))
    local again = vm:disk("b")
    t:assert(b:is_detached() and again ~= b)
    t:assert_eq(table.concat(again:active_faults()), "slow")
    local p = again:fault_policy()
    t:assert_eq(p.delay, 1)
    t:assert_eq(p.fail_range[1].sector, 100)
    refused(t, function() again:read_sectors(101, 1) end, "EIO (fail_range)")
    again:clear_faults()
    again:clear_policy()
    t:assert_eq(again:read_sectors(0, 1):sub(1, 9), "sector op")
    put(vm, "a", "Y", 0, true)
    vm:shutdown()
  end
  t:assert_eq(a:read_sectors(0, 1), ("Y"):rep(S))
end)

test("disks of a restored guest survive a reset and a power cycle", {slow = true}, function(t)
  local vm = provium:vm("v", "host", small):boot()
  local d = vm:attach_disk({id = "d", size = "1M"})
  d:power_cut({off = true})
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  vm:reset() -- with power
  put(vm, "d", "R", 0, true)
  vm:shutdown()
  vm:boot()
  t:assert_eq(get(vm, "d", 0), "R")
end)

test("a power cut after a restore loses what was not flushed", function(t)
  local vm = provium:vm("v", "host", small):boot()
  local d = vm:attach_disk({id = "d", size = "1M"})
  put(vm, "d", "K", 0, true)
  for i = 1, 6 do put(vm, "d", "L", 8 * i) end
  d:fail_after(3)
  local s = vm:snapshot()
  d:clear_policy()
  local kept = {}
  for _ = 1, 2 do
    vm:shutdown()
    vm:restore(s)
    -- Starting the machine does not count as requests.
    for _ = 1, 3 do d:read_sectors(0, 1) end
    refused(t, function() d:read_sectors(0, 1) end, "EIO (fail_after)")
    d:clear_policy()
    local r = d:power_cut({keep = "random", seed = 5})
    t:assert_eq(r.unflushed, 48) -- of one sector each
    kept[#kept + 1] = r.kept .. d:read_sectors(0, 56)
    t:assert_eq(d:read_sectors(0, 1), ("K"):rep(S))
  end
  t:assert_eq(kept[1], kept[2])
  vm:disk("d"):power_cut({off = true})
  local cut = vm:snapshot() -- without power
  vm:shutdown()
  vm:restore(cut)
  t:assert(not vm:run("dd if=/dev/zero of=/dev/disk/by-id/virtio-d bs=512 count=1 oflag=direct"):ok())
  vm:disk("d"):power_on()
  put(vm, "d", "M", 0, true)
end)

-- A guest really boots where one of its disks is an image in place: every day that disk comes
-- after a boot from the cache.
local function complete(t, at_boot)
  local raw, template = file_of(("r"):rep(64 * S + 100)), file_of(("t"):rep(3 << 20))
  local disks = {{template = template, id = "tmpl"}, {scratch = "256M", id = "blank"}, {path = template, id = "ro", readonly = true}}
  if at_boot then disks[4] = {path = raw, id = "raw"} end
  local vm = provium:vm("v", "host", {memory = "128M", disks = disks}):boot()
  if not at_boot then vm:attach_disk({id = "raw", image = raw}) end
  put(vm, "raw", "A", 0, true)
  put(vm, "raw", "B", 8)
  put(vm, "tmpl", "C", 0, true)
  put(vm, "blank", "D", 500000, true)
  put(vm, "blank", "E", 0)
  local path = os.tmpname()
  local s = vm:snapshot(path)
  put(vm, "raw", "Z", 0, true)
  put(vm, "raw", "Z", 16, true)
  put(vm, "tmpl", "Z", 8, true)
  t:assert_eq(content(raw):sub(1, 1) .. content(raw):sub(16 * S + 1, 16 * S + 1), "ZZ")
  vm:shutdown()
  vm:close()
  local before = content(raw)
  os.remove(template) -- it is not needed any more
  assert(os.execute(("cp --sparse=never '%s' '%s.copy'"):format(path, path)))
  for _, from in ipairs {path, path .. ".copy"} do
    local c = provium:vm("c" .. #from, "host")
    c:restore(from)
    t:assert_eq(get(c, "raw", 0) .. get(c, "raw", 8) .. get(c, "raw", 16), "ABr")
    t:assert_eq(get(c, "tmpl", 0) .. get(c, "tmpl", 8) .. get(c, "ro", 0), "Ctt")
    t:assert_eq(get(c, "blank", 500000) .. get(c, "blank", 0), "DE")
    t:assert_eq(c:disk("blank"):read_sectors(0, 1), ("\0"):rep(S))
    t:assert_eq(c:disk("raw"):read_sectors(64, 1), ("r"):rep(100) .. ("\0"):rep(S - 100))
    t:assert_eq(c:disk("raw"):size(), 65 * S)
    t:assert_eq(sh(c, "cat /sys/block/vdc/ro; cd /dev/disk/by-id; for i in blank raw; do readlink virtio-$i; done"), "1\n../../vdb\n../../vdd")
    put(c, "raw", "Q", 0, true)
    t:assert_eq(content(raw), before)
    -- A snapshot of a restored VM is complete, too.
    local second = c:snapshot(from .. "2")
    c:shutdown()
    c:restore(second)
    t:assert_eq(get(c, "raw", 0) .. get(c, "blank", 500000), "QD")
    second:delete()
    c:close()
  end
  local own = provium:vm("own", "host", {disks = {{path = raw, id = "raw"}}}) -- the image is free again
  own:disk("raw"):write_sectors(0, "mine")
  os.remove(path .. ".copy")
  s:delete()
  os.remove(raw)
end
test("a snapshot with a path is complete, and images stay as they are", function(t) complete(t, false) end)
test("a snapshot with a path is complete also with an image in place at the boot", {slow = true}, function(t) complete(t, true) end)

test("many VMs run from one snapshot, each with disks of its own", function(t)
  local vm = provium:vm("v", "host", small):boot()
  local d = vm:attach_disk({id = "d", size = "8M"})
  d:write_sectors(0, ("v"):rep(8 << 20))
  local s = vm:snapshot()
  for i = 1, 2 do
    local c = provium:vm("c" .. i, "host")
    c:restore(s)
    put(c, "d", i, 0, true)
  end
  put(vm, "d", "V", 0, true)
  t:assert_eq(d:read_sectors(0, 1):sub(1, 1), "V")
  for i = 1, 2 do
    local c = provium:vm("c" .. i)
    t:assert_eq(c:disk("d"):read_sectors(0, 1):sub(1, 1), tostring(i))
    t:assert_eq(get(c, "d", 9), "v")
    c:attach_disk({id = "more", size = "1M"}) -- hot-plug works beside it
    t:assert_eq(sh(c, "readlink /dev/disk/by-id/virtio-more"), "../../vdb")
  end
end)

test("a paused VM with disks", function(t)
  local vm = provium:vm("v", "host", small):boot()
  local d = vm:attach_disk({id = "d", size = "1M"})
  put(vm, "d", "1", 0)
  vm:pause()
  local s = vm:snapshot()
  local same = vm:snapshot()
  vm:resume()
  put(vm, "d", "2", 0, true)
  vm:shutdown()
  for _, from in ipairs {s, same} do
    vm:restore(from)
    t:assert_eq(d:read_sectors(0, 1), ("\0"):rep(S)) -- neither pause nor snapshot flushes
    t:assert_eq(get(vm, "d", 0), "1")
    vm:shutdown()
  end
end)

test("damaged disks, and disks that are gone", function(t)
  local path = os.tmpname()
  local vm = provium:vm("v", "host", small):boot()
  local d = vm:attach_disk({id = "d", size = "4M"})
  d:write_sectors(100, "needle in the snapshot's disk")
  vm:snapshot(path)
  local temporary = vm:snapshot()
  vm:shutdown()
  local whole = content(path)
  local at = assert(whole:find("needle in the snapshot's disk", 128 << 20, true), "it is not in the file")
  local f = assert(io.open(path, "r+b"))
  f:seek("set", at)
  f:write("X")
  f:close()
  refused(t, function() vm:restore(path) end, path, "is damaged", "disks.data")
  t:assert_eq(vm:state(), "shutdown")
  t:assert_eq(d:read_sectors(100, 1):sub(1, 6), "needle") -- a failed restore changes nothing
  -- A temporary snapshot refers to files of this run, also when its file is copied.
  local copy = os.tmpname()
  assert(os.execute(("cp '%s' '%s'"):format(temporary:path(), copy)))
  vm:restore(copy)
  t:assert_eq(d:read_sectors(100, 1):sub(1, 6), "needle")
  vm:shutdown()
  temporary:delete()
  refused(t, function() vm:restore(copy) end, "were in the run that took it", "vm:snapshot(path)")
  os.remove(copy)
  os.remove(path)
end)
