-- Boots with disks which are served from a post-boot snapshot. As in boot-cache, the times in
-- the kernel log show whether two guests come from one boot.
local S = 512
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end
local function id(vm) return sh(vm, "dmesg | grep -m1 'as init process'") end
local function file_of(bytes)
  local path = os.tmpname()
  local f = assert(io.open(path, "wb"))
  f:write(bytes)
  f:close()
  return path
end
local function put(vm, disk, text)
  sh(vm, ("printf %s | dd of=/dev/disk/by-id/virtio-%s bs=512 conv=sync,notrunc,fsync status=none"):format(text, disk))
end

-- The options of most of these boots. Each is in its own sub-lab, so that names do not collide.
local image, template = file_of(("raw."):rep(300)), file_of(("tmpl"):rep(64 << 10))
local function plain()
  return {{scratch = "64M", id = "data"}, {template = template, id = "tmpl"}, {path = image, id = "ro", readonly = true}}
end
local function declare(disks, opts, profile)
  opts = opts or {}
  opts.disks, opts.memory = disks, "128M"
  return provium:lab():vm("v", profile or "host", opts)
end
local function boot(...) return declare(...):boot() end
local first = id(boot(plain()))

test("a second boot with the same disks comes from the cache, and has its own", function(t)
  local a, b = boot(plain()), boot(plain())
  t:assert_eq(id(a), first)
  t:assert_eq(id(b), first)
  for _, vm in ipairs {a, b} do
    t:assert_eq(sh(vm, "grep -h . /sys/block/vd[abc]/serial | tr '\\n' ' '"), "data tmpl ro ")
    t:assert_eq(sh(vm, "cat /sys/block/vd[abc]/size /sys/block/vdc/ro | tr '\\n' ' '"), ("%d %d %d 1 "):format(64 << 11, 512, 3))
    t:assert_eq(sh(vm, "head -c 8 /dev/vdb; head -c 8 /dev/vdc"), "tmpltmplraw.raw.")
    t:assert_eq(vm:disk("ro"):size(), 1200)
    t:assert_eq(vm:disk("data"):id(), "data")
  end
  put(a, "data", "mine")
  put(a, "tmpl", "ours")
  t:assert_contains(a:disk("data"):read_sectors(0, 1), "mine\0")
  t:assert_contains(a:disk("tmpl"):read_sectors(0, 2), "ours\0")
  t:assert_eq(b:disk("data"):read_sectors(0, 1), ("\0"):rep(S))
  t:assert_eq(sh(b, "head -c 8 /dev/vda | tr '\\0' z; head -c 8 /dev/vdb"), "zzzzzzzztmpltmpl")
  t:assert_contains(a:disk("tmpl"):read_sectors(1, 1), "tmpl")
  -- A later guest is independent, too, and so is the image.
  local c = boot(plain())
  t:assert_eq(id(c), first)
  t:assert_eq(sh(c, "head -c 4 /dev/vdb"), "tmpl")
  t:assert_eq(assert(io.open(template, "rb")):read(8), "tmpltmpl")
  -- reset has the boot after a power cycle of disks that were written to.
  b:shutdown()
  b:boot() -- these have not been written to
  t:assert_eq(id(b), first)
end)

local function others(t, all)
  local seen = {[first] = true}
  local function other(disks)
    local vm = boot(disks)
    t:assert(not seen[id(vm)], "this boot is that of other disks")
    seen[id(vm)] = true
    return vm
  end
  -- The content of an image counts, not its name.
  local disks = plain()
  disks[2].template = file_of(("tmpl"):rep(64 << 10))
  t:assert_eq(id(boot(disks)), first)
  disks[2].template = file_of(("tmpl"):rep((64 << 10) - 1) .. "last")
  t:assert_eq(sh(other(disks), "tail -c 8 /dev/vdb"), "tmpllast")
  if not all then return end
  disks = plain()
  disks[1].scratch = "65M"
  t:assert_eq(sh(other(disks), "cat /sys/block/vda/size"), tostring(65 << 11))
  disks = plain()
  disks[1].physical_block_size = 4096
  t:assert_eq(sh(other(disks), "cat /sys/block/vda/queue/physical_block_size"), "4096")
  disks = plain()
  disks[2], disks[3] = disks[3], disks[2]
  t:assert_eq(sh(other(disks), "head -c 4 /dev/vdb"), "raw.")
end

test("another content of a disk makes another boot", function(t) others(t, false) end)
test("other sizes, blocks and places of disks make other boots", {slow = true}, function(t) others(t, true) end)

-- reset has an image that is used in place.
test("disks that something was done to really boot", function(t)
  -- Rules count the requests of the boot, and a recording contains them.
  local vm = declare(plain())
  vm:disk("data"):inject{op = "read", sectors = 0, delay = "1ms"}
  vm:disk("tmpl"):write_sectors(0, "changed")
  vm:boot()
  t:assert_neq(id(vm), first)
  t:assert(vm:disk("data"):rules()[1].hits > 0, "the boot did not meet the rule")
  t:assert_eq(sh(vm, "head -c 9 /dev/vdb"), "changedlt")
end)

test("what the image's init has written is there, flushed or not", function(t)
  local opts = {kernel_cmdline_append = "mark-disk"}
  local disks = {{template = template, id = "tmpl"}, {scratch = "8M", id = "data"}}
  local a = boot(disks, opts, "own-agent")
  a:disk("tmpl"):write_sectors(100, "only here")
  local b = boot(disks, opts, "own-agent")
  t:assert_eq(id(b), id(a))
  for _, vm in ipairs {a, b} do
    local d = vm:disk("tmpl")
    t:assert_contains(d:read_sectors(0, 1), "flushed by init\n")
    t:assert_contains(d:read_sectors(64, 1), "tmpl")
    t:assert_contains(d:read_sectors(64, 1, {pending = true}), "left by init\n")
    t:assert_eq(sh(vm, "dd if=/dev/vda bs=512 skip=64 count=1 2>/dev/null | head -n 1"), "left by init")
    t:assert_eq(vm:disk("data"):read_sectors(0, 1, {pending = true}), ("\0"):rep(S))
  end
  t:assert_contains(b:disk("tmpl"):read_sectors(100, 1), "tmpltmpltmpl")
  t:assert(b:disk("tmpl"):power_cut().unflushed > 0)
  t:assert_contains(b:disk("tmpl"):read_sectors(64, 1, {pending = true}), "tmpl")
  t:assert_contains(a:disk("tmpl"):read_sectors(64, 1, {pending = true}), "left by init\n")
end)

test("a disk of a cached boot is a disk as any", function(t)
  local vm = boot(plain())
  t:assert_eq(id(vm), first)
  local d = vm:disk("data")
  local dev = "/dev/disk/by-id/virtio-data"
  local fs = os.tmpname()
  assert(os.execute(("truncate -s 4M %s && mkfs.ext4 -q -F -E lazy_itable_init=0 %s"):format(fs, fs)), "mkfs.ext4 failed")
  d:write_sectors(0, assert(io.open(fs, "rb")):read("a"))
  sh(vm, "mkdir -p /mnt && mount -t ext4 " .. dev .. " /mnt")
  local rec = d:record()
  sh(vm, "echo kept >/mnt/f && sync && echo lost >/mnt/g && umount /mnt")
  rec:stop()
  t:assert(rec:count() > 0)
  -- Faults and policies.
  d:fail_writes()
  t:assert(not vm:run("dd if=/dev/zero of=" .. dev .. " bs=512 count=1 oflag=direct status=none"):ok())
  d:clear_policy()
  local rule = d:inject{op = "read", sectors = 1000, errno = "EIO", count = 1}
  t:assert(not vm:run("dd if=" .. dev .. " bs=512 skip=1000 count=1 iflag=direct of=/dev/null status=none"):ok())
  t:assert_eq(d:rules()[1].hits, 1)
  d:clear_rule(rule)
  -- Snapshots.
  local s = vm:snapshot()
  put(vm, "data", "gone")
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(sh(vm, "mount -t ext4 " .. dev .. " /mnt && cat /mnt/f"), "kept")
  sh(vm, "umount /mnt")
  -- Attach one disk, resize one, detach one.
  local more = vm:attach_disk({id = "more", size = "1M"})
  put(vm, "more", "hello")
  t:assert_contains(more:read_sectors(0, 1), "hello\0")
  d:resize(80 << 20)
  wait_until(function() return sh(vm, "cat /sys/block/vda/size") == tostring(80 << 11) end, {desc = "the guest knows the size"})
  local tmpl = vm:disk("tmpl")
  tmpl:detach()
  t:assert_contains(t:assert_raises(function() vm:stat("/dev/disk/by-id/virtio-tmpl") end), "ENOENT")
  -- Power.
  put(vm, "data", "flushed")
  sh(vm, "printf cached | dd of=" .. dev .. " bs=512 seek=8 conv=sync oflag=direct status=none")
  d:power_cut() -- reset has one before a reset
  t:assert_eq(sh(vm, "dd if=" .. dev .. " bs=512 count=1 iflag=direct status=none | head -c 7"), "flushed")
  t:assert_neq(sh(vm, "dd if=" .. dev .. " bs=512 skip=8 count=1 iflag=direct status=none | head -c 6 | tr '\\0' z"), "cached")
end)

test("disks of a profile come from the cache too", function(t)
  local a, b = provium:vm("a", "disks"):boot(), provium:vm("b", "disks"):boot()
  t:assert_eq(id(a), id(b))
  sh(a, "echo hi | dd of=/dev/vda bs=4096 conv=sync,fsync status=none")
  t:assert_contains(a:disk("own"):read_sectors(0, 8), "hi\n")
  t:assert_eq(b:disk("own"):read_sectors(0, 8), ("\0"):rep(8 * S))
end)
