-- Disks that fail: modes, rules, power cuts.
local S = 512
local small = {memory = "128M"}
local vm = provium:vm("v", "host", small):boot()
local function sh(text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end
local function dev(d) return "/dev/disk/by-id/virtio-" .. d:id() end
local n = 0
local function new(size)
  n = n + 1
  return vm:attach_disk({id = "d" .. n, size = size or "4M"})
end
-- One direct request of a sector, and a flush.
local function read(d, sector) return vm:run(("dd if=%s of=/dev/null bs=512 skip=%d count=1 iflag=direct 2>&1"):format(dev(d), sector or 0)) end
local function write(d, sector) return vm:run(("dd if=/dev/zero of=%s bs=512 seek=%d count=1 oflag=direct conv=notrunc 2>&1"):format(dev(d), sector or 0)) end
local function flush(d) return vm:run(("dd if=/dev/zero of=%s bs=512 count=1 oflag=direct conv=notrunc,fsync 2>&1"):format(dev(d))) end
local function refused(t, fn, ...)
  local ok, err = pcall(fn)
  t:assert(not ok, "it did not raise")
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end
local function fails(t, r) t:assert(not r:ok()) t:assert_contains(r.stdout, "Input/output error") end

test("eio_read and eio_write", function(t)
  local d = new()
  t:assert_eq(#d:active_faults(), 0)
  d:write_sectors(0, "before")
  d:fault_inject("eio_read")
  fails(t, read(d))
  write(d, 8):assert_ok()
  refused(t, function() d:read_sectors(0, 1) end, "disk:read_sectors: EIO (fault_inject)")
  d:write_sectors(1, "x")
  d:fault_inject("eio_write")
  d:fault_inject("eio_write")
  t:assert_eq(table.concat(d:active_faults(), " "), "eio_read eio_write")
  fails(t, write(d, 8))
  refused(t, function() d:write_sectors(0, "x") end, "disk:write_sectors: EIO (fault_inject)")
  d:clear_faults()
  read(d):assert_ok()
  flush(d):assert_ok()
  d:detach()
  refused(t, function() d:fault_inject("slow") end, "disk:fault_inject: disk is detached")
end)

test("a flush fails with eio_write, and the data stay in the cache", function(t)
  local d = new()
  sh("printf '%512s' | tr ' ' A | dd of=" .. dev(d) .. " bs=512 oflag=direct conv=notrunc 2>/dev/null")
  d:fault_inject("eio_write")
  local r = vm:run("dd if=/dev/null of=" .. dev(d) .. " conv=notrunc,fsync 2>&1")
  t:assert_contains(r.stdout, "Input/output error")
  d:clear_faults()
  t:assert_eq(d:read_sectors(0, 1), ("\0"):rep(S))
  t:assert_eq(d:read_sectors(0, 1, {pending = true}), ("A"):rep(S))
  d:detach()
end)

test("slow and delay hold requests", function(t)
  local d = new()
  local function took(fn)
    local before = tonumber(sh("cut -d' ' -f1 /proc/uptime"))
    fn()
    return tonumber(sh("cut -d' ' -f1 /proc/uptime")) - before
  end
  d:fault_inject("slow")
  local s = took(function() sh("dd if=" .. dev(d) .. " of=/dev/null bs=512 count=10 iflag=direct 2>/dev/null") end)
  t:assert(s >= 0.5, "ten slow requests took " .. s)
  d:fault_inject("eio_read")
  fails(t, read(d))
  d:clear_faults()
  d:delay(100)
  t:assert_eq(d:fault_policy().delay, 100.0)
  s = took(function() sh("dd if=" .. dev(d) .. " of=/dev/null bs=512 count=5 iflag=direct 2>/dev/null") end)
  t:assert(s >= 0.5, "five held requests took " .. s)
  d:clear_policy()
  d:detach()
end)

test("rules", function(t)
  local d = new()
  t:assert_eq(next(d:fault_policy()), nil)
  d:fail_reads()
  fails(t, read(d))
  flush(d):assert_ok()
  refused(t, function() d:read_sectors(0, 1) end, "disk:read_sectors: EIO (fail_reads)")
  d:clear_policy()
  d:fail_writes()
  read(d):assert_ok()
  fails(t, write(d))
  t:assert_eq(d:fault_policy().fail_writes, true)
  d:clear_policy()
  d:fail_range(100, 1)
  d:fail_range(200, 8)
  for sector, ok in pairs {[99] = true, [100] = false, [101] = true, [199] = true, [200] = false, [207] = false, [208] = true} do
    t:assert_eq(read(d, sector):ok(), ok, "read of sector " .. sector)
    t:assert_eq(write(d, sector):ok(), ok, "write of sector " .. sector)
  end
  local p = d:fault_policy()
  t:assert_eq(p.fail_range[2].sector, 200)
  t:assert_eq(p.fail_range[2].count, 8)
  d:clear_policy()
  d:fail_after(3)
  t:assert_eq(d:fault_policy().fail_after, 3)
  for _ = 1, 3 do d:read_sectors(0, 1) end
  refused(t, function() d:read_sectors(0, 1) end, "EIO (fail_after)")
  fails(t, read(d))
  d:clear_policy()
  t:assert_eq(next(d:fault_policy()), nil)
  read(d):assert_ok()
  d:detach()
end)

test("bad input", function(t)
  local d = new()
  refused(t, function() d:fault_inject("boom") end, "disk:fault_inject: unknown mode `boom` (valid: eio_read, eio_write, slow)")
  refused(t, function() d:fault_inject() end, "mode", "string")
  refused(t, function() d:fail_after(0) end, "at least 1")
  refused(t, function() d:fail_after() end, "n", "integer")
  refused(t, function() d:fail_range(5, 0) end, "at least 1")
  refused(t, function() d:fail_range(-1, 1) end, "negative")
  refused(t, function() d:fail_range(8191, 2) end, "8192 sectors")
  refused(t, function() d:delay(-1) end, "between 0 and")
  refused(t, function() d:delay(0 / 0) end, "between 0 and")
  refused(t, function() d:delay("1s") end, "milliseconds")
  t:assert_eq(next(d:fault_policy()), nil)
  d:detach()
end)

test("a power cut loses what was not flushed, and only that", function(t)
  local cut = provium:vm("cut", "host", small):boot()
  local d = cut:attach_disk({id = "c", size = "4M"})
  local function put(char, sector, flags)
    cut:run(("printf '%%512s' | tr ' ' %s | dd of=/dev/vda bs=512 seek=%d oflag=direct conv=notrunc%s 2>/dev/null"):format(char, sector, flags)):assert_ok()
  end
  put("A", 0, ",fsync")
  put("B", 0, "")
  put("C", 1, "")
  t:assert_eq(d:read_sectors(0, 2, {pending = true}), ("B"):rep(S) .. ("C"):rep(S))
  d:power_cut()
  t:assert_eq(d:read_sectors(0, 2, {pending = true}), ("A"):rep(S) .. ("\0"):rep(S))
  -- The disk works on with what survived, for the guest and for sector operations.
  t:assert_eq(cut:run("head -c 4 /dev/vda; head -c 520 /dev/vda | tail -c 8 | tr '\\0' z").stdout, "AAAAzzzzzzzz")
  put("G", 6, ",fsync")
  t:assert_eq(d:read_sectors(6, 1), ("G"):rep(S))
  d:write_sectors(7, "sector write")
  t:assert_contains(cut:run("dd if=/dev/vda bs=512 skip=7 count=1 iflag=direct status=none").stdout, "sector write")
  if cut:run("mkfs.ext2 -F /dev/vda && mount -t ext2 /dev/vda /mnt"):ok() then
    cut:run("echo x >/mnt/f && umount /mnt"):assert_ok()
  end
  put("A", 0, ",fsync")
  put("B", 1, "")
  -- Without power it answers EIO to everything, until it has it again.
  d:power_cut({off = true})
  fails(t, cut:run("dd if=/dev/vda of=/dev/null bs=512 count=1 iflag=direct 2>&1"))
  fails(t, cut:run("dd if=/dev/zero of=/dev/vda bs=512 count=1 oflag=direct conv=notrunc 2>&1"))
  refused(t, function() d:read_sectors(0, 1) end, "disk:read_sectors: EIO (power_cut)")
  refused(t, function() d:write_sectors(0, "x") end, "disk:write_sectors: EIO (power_cut)")
  d:power_on()
  cut:run("dd if=/dev/vda of=/dev/null bs=512 count=1 iflag=direct"):assert_ok()
  t:assert_eq(d:read_sectors(0, 1), ("A"):rep(S))
  t:assert_eq(cut:run("head -c 4 /dev/disk/by-id/virtio-c").stdout, "AAAA")
  put("D", 3, ",fsync")
  t:assert_eq(d:read_sectors(3, 1), ("D"):rep(S))
end)

-- reset has disks without power and with faults in a guest that is reset.
test("flushed writes stay and others go, in every one of many power cuts", function(t)
  local many = provium:vm("many", "host", small):boot()
  local d = many:attach_disk({id = "m", size = "1M"})
  for round = 1, 6 do
    many:run(([[
      printf '%%-512s' keep%d | dd of=/dev/vda bs=512 seek=%d oflag=direct conv=notrunc,fsync status=none
      printf '%%-512s' lose%d | dd of=/dev/vda bs=512 seek=%d oflag=direct conv=notrunc status=none]]):format(
      round, round, round, round + 100)):assert_ok()
    t:assert_contains(d:read_sectors(round + 100, 1, {pending = true}), "lose")
    d:power_cut()
    t:assert_eq(d:read_sectors(round + 100, 1), ("\0"):rep(S))
    for i = 1, round do t:assert_contains(d:read_sectors(i, 1), "keep" .. i .. " ") end
    d:power_on()
  end
end)

test("ext4 goes read-only on a failing disk, and recovers", function(t)
  local path = os.tmpname()
  if not os.execute(("truncate -s 16M %s && mkfs.ext4 -q -F -E lazy_itable_init=0 %s 2>/dev/null"):format(path, path)) then
    os.remove(path)
    t:skip("mkfs.ext4 is not installed")
  end
  local fs = provium:vm("fs", "host", small):boot()
  local d = fs:attach_disk({id = "fs", image = path})
  if not fs:run("mkdir -p /mnt && mount -t ext4 -o errors=remount-ro /dev/disk/by-id/virtio-fs /mnt"):ok() then
    os.remove(path)
    t:skip("the guest's kernel has no ext4")
  end
  fs:run("echo safe > /mnt/a && sync /mnt/a 2>/dev/null; sync"):assert_ok()
  d:fault_inject("eio_write")
  fs:run("echo lost > /mnt/b; sync")
  t:assert(not fs:run("for i in 1 2 3; do echo x > /mnt/c$i; sync; done; echo x > /mnt/d"):ok())
  t:assert_contains(fs:console():read_log(), "Remounting filesystem read-only")
  d:clear_faults()
  fs:run("umount /mnt && mount -t ext4 /dev/disk/by-id/virtio-fs /mnt && echo again > /mnt/e && sync"):assert_ok()
  t:assert_eq(fs:run("cat /mnt/a /mnt/e").stdout, "safe\nagain\n")
  -- Synced data survive the loss of power: another guest mounts what the disk has then.
  fs:run("dd if=/dev/zero of=/mnt/f bs=4k count=1 conv=fsync status=none"):assert_ok()
  d:power_cut()
  fs:shutdown()
  d:detach()
  d = vm:attach_disk({id = "fs", image = path})
  vm:run("mkdir -p /mnt && mount -t ext4 /dev/disk/by-id/virtio-fs /mnt"):assert_ok()
  t:assert_eq(vm:stat("/mnt/f").size, 4096)
  t:assert_eq(vm:read_file("/mnt/a"), "safe\n")
  vm:run("umount /mnt"):assert_ok()
  d:detach()
  os.remove(path)
end)
