-- Run by bench/explorer.go: the speed of crash points, and what a recording costs.
-- The figures go to the file that FIGURES names, a name and a number per line.
local out = assert(io.open(os.getenv("FIGURES"), "w"))
local function now()
  local f = assert(io.open("/proc/uptime"))
  local text = f:read("a")
  f:close()
  return tonumber(text:match("^[%d.]+"))
end
local function figure(name, value) out:write(name, " ", value, "\n") out:flush() end

local vm = provium:vm("v", "host"):boot()

-- A file system whose files are replaced, appended to, renamed and deleted, with a sync now and then.
test("crash points", function(t)
  local image = os.tmpname()
  assert(os.execute("truncate -s 32M " .. image .. " && mkfs.ext4 -q -F -b 1024 -E lazy_itable_init=0 " .. image))
  local disk = vm:attach_disk({id = "fs", image = image})
  os.remove(image)
  local function mount(vm) vm:run("mkdir -p /mnt && mount -t ext4 /dev/disk/by-id/virtio-fs /mnt"):assert_ok() end
  local function explore(opts)
    opts.check = function(vm, disk, point)
      mount(vm)
      if not point.mark then return end
      assert(tonumber(vm:read_file("/mnt/value")) >= tonumber(point.mark))
      assert(vm:listdir("/mnt/d"))
    end
    opts.prepare = function(vm) mount(vm) vm:run("ls /mnt"):assert_ok() end
    opts.seed, opts.torn, opts.unit = 1, true, 8
    local before = now()
    local r = disk:crash_points(opts)
    return r, now() - before
  end
  local rec = disk:record()
  mount(vm)
  vm:run("mkdir -p /mnt/d"):assert_ok()
  for i = 1, 60 do
    vm:run(([[
      echo %d | dd of=/mnt/new conv=fsync status=none && mv /mnt/new /mnt/value
      dd if=/dev/zero of=/mnt/d/f%d bs=1k count=%d status=none; echo %d >> /mnt/d/log; rm -f /mnt/d/f%d
      echo | dd of=/mnt/sync conv=fsync status=none]]):format(i, i, i % 7 * 3 + 1, i, i - 5)):assert_ok()
    rec:mark(i)
  end
  vm:run("umount /mnt"):assert_ok()
  rec:stop()
  local r, s = explore({sample = 1000, guest = "reuse", guests = 2})
  figure("entries", r.entries)
  figure("points", r.points)
  figure("reuse-checked", r.checked)
  figure("reuse-distinct", r.distinct)
  figure("reuse-seconds", s)
  r, s = explore({sample = 60, guests = 2})
  figure("fresh-checked", r.checked)
  figure("fresh-distinct", r.distinct)
  figure("fresh-seconds", s)
  disk:detach()
end)

-- The same writes with and without a recording, in turns.
test("cost of a recording", function(t)
  local disk = vm:attach_disk({id = "rec", size = "64M"})
  local dev = "/dev/disk/by-id/virtio-rec"
  local work = {
    ["sequential-1MiB"] = ("for i in 1 2 3 4; do dd if=/dev/zero of=%s bs=1M count=64 oflag=direct conv=notrunc status=none; done"):format(dev),
    ["4KiB"] = ("dd if=/dev/zero of=%s bs=4k count=3000 oflag=direct conv=notrunc status=none"):format(dev),
  }
  for _, name in ipairs {"sequential-1MiB", "4KiB"} do
    vm:run(work[name]):assert_ok()
    for _ = 1, 8 do
      for _, how in ipairs {"plain", "recorded"} do
        local rec = how == "recorded" and disk:record()
        local before = now()
        vm:run(work[name]):assert_ok()
        figure(how .. "-" .. name, now() - before)
        if rec then rec:close() end
        disk:power_cut()
        disk:power_on()
      end
    end
  end
end)
