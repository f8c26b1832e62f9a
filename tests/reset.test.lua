-- What a reset and a power cycle end and what they keep. Both really boot, which is dear, so one
-- guest has everything: NICs and disks of its boot and later ones, routes, faults, processes. It
-- comes from the boot cache and was restored twice.
local S = 512
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end
local function id(vm) return sh(vm, "dmesg | grep -m1 'as init process'") end
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end
local function file_of(bytes)
  local path = os.tmpname()
  local f <close> = assert(io.open(path, "wb"))
  f:write(bytes)
  return path
end

local vm = provium:vm("v", "host", {memory = "128M", kernel_cmdline_append = "loglevel=7",
  files = {{path = "/etc/mark", content = "kept"}}, disks = {{scratch = "8M", id = "gone"}, {scratch = "8M", id = "keep"}}})
local peer = provium:vm("peer", "host", {memory = "128M"})
local first, left, right = provium:bridge("first"), provium:bridge("left"), provium:bridge("right")
first:attach(vm)
left:attach(vm)
right:attach(peer)
left:route(right)
provium:boot()
local booted = id(vm)
local later = provium:bridge("later")
local hot, grown, cut, faulty, dark

-- place returns where on PCI an interface is.
local function place(name)
  return sh(vm, "readlink /sys/class/net/" .. name):match("pci0000:00/(.*)/virtio")
end
local function put(disk, char, sector, flags)
  sh(vm, ("printf '%%512s' | tr ' ' %s | dd of=/dev/disk/by-id/virtio-%s bs=512 seek=%d oflag=direct conv=notrunc%s 2>/dev/null")
    :format(char, disk, sector, flags or ""))
end
local function fails(t, command)
  local r = vm:run(command .. " 2>&1")
  t:assert(not r:ok())
  t:assert_contains(r.stdout, "Input/output error")
end
local function arrives(from, to)
  return wait_until(function() return from:run("ping -c 1 -W 5 " .. to):ok() end, {timeout = "60s", desc = to .. " answers"})
end

test("a guest with much to lose is restored twice", function(t)
  first:close() -- its place on the bus stays empty
  later:attach(vm)
  t:assert_contains(place("eth0"), "0000:00:1e.0/")
  hot, grown = vm:attach_disk({id = "hot", size = "8M"}), vm:attach_disk({id = "grown", size = "1M"})
  sh(vm, "for i in keep hot; do echo $i | dd of=/dev/disk/by-id/virtio-$i conv=sync,fsync 2>/dev/null; done")
  sh(vm, "echo gone > /run/x")
  for _ = 1, 2 do
    local s = vm:snapshot()
    vm:shutdown()
    vm:restore(s)
  end
  t:assert_eq(sh(vm, "cat /run/x"), "gone")
end)

test("a reset is a warm reboot that ends with a serving agent", function(t)
  grown:resize("4M")
  wait_until(function() return sh(vm, "blockdev --getsize64 /dev/disk/by-id/virtio-grown") == "4194304" end)
  put("grown", "G", 8191, ",fsync")
  cut, faulty, dark = vm:attach_disk({id = "cut", size = "1M"}), vm:attach_disk({id = "faulty", size = "1M"}),
    vm:attach_disk({id = "dark", size = "1M"})
  put("cut", "K", 1, ",fsync")
  put("cut", "L", 101)
  faulty:inject{op = "flush", effect = "lose"}
  put("faulty", "F", 0, ",fsync")
  faulty:fault_inject("eio_write")
  faulty:fail_range(7, 1)
  put("dark", "A", 0)
  dark:power_cut({keep = "all", off = true})
  fails(t, "dd if=/dev/disk/by-id/virtio-dark of=/dev/null bs=512 count=1 iflag=direct")
  fails(t, "dd if=/dev/zero of=/dev/disk/by-id/virtio-dark bs=512 count=1 oflag=direct conv=notrunc")
  refused(t, function() dark:read_sectors(0, 1) end, "disk:read_sectors: EIO (power_cut)")
  cut:power_cut()

  local before = vm:read_file("/proc/sys/kernel/random/boot_id")
  vm:write_file("/tmp/volatile", "x")
  local p = vm:run_async("sleep 1000")
  local output = p:stdout_stream()
  local console, printed = vm:console(), vm:console():read()
  sh(vm, "echo before-the-reset > /dev/console")
  console:expect("before-the-reset")
  vm:reset()
  t:assert_eq(vm:state(), "booted")
  t:assert_neq(vm:read_file("/proc/sys/kernel/random/boot_id"), before)
  refused(t, function() vm:stat("/tmp/volatile") end, "ENOENT")
  t:assert_eq(sh(vm, "cat /etc/mark; test -e /run/x || echo fresh"), "keptfresh")
  t:step("it takes processes with it", function()
    refused(t, function() p:status() end, "was reset")
    refused(t, function() output:next() end, "reset")
  end)
  t:step("the console's log stays, expect does not look back", function()
    t:assert_contains(console:read_log(), "before-the-reset")
    console:expect("Linux version", "30s")
  end)
  t:step("it is the end of a stream of the console", function()
    printed:drain("10s")
    t:assert(printed:eof())
    refused(t, function() printed:expect("never printed") end, "console EOF")
  end)
end)

test("NICs have their names and places after it, and the network its routes", function(t)
  t:assert_eq(vm:run("ls /sys/class/net").stdout, "eth0\neth1\nlo\n")
  t:assert_contains(place("eth0"), "0000:00:1e.0/")
  t:assert_eq(place("eth1"), "0000:00:03.0")
  t:assert(arrives(vm, (left:nic(vm):ip():gsub("%d+$", "1"))))
  t:assert(arrives(vm, "peer"))
  t:assert(arrives(peer, "v.left"))
end)

test("disks have their order, their content and their faults after it", function(t)
  t:assert_eq(sh(vm, "cd /dev/disk/by-id; for i in gone keep hot grown cut faulty dark; do readlink virtio-$i; done"),
    "../../vda\n../../vdb\n../../vdc\n../../vdd\n../../vde\n../../vdf\n../../vdg")
  t:assert_eq(sh(vm, "cd /dev/disk/by-id; head -n 1 virtio-keep; head -n 1 virtio-hot"), "keep\nhot")
  t:assert_eq(sh(vm, "blockdev --getsize64 /dev/disk/by-id/virtio-grown; tail -c 512 /dev/disk/by-id/virtio-grown | head -c 1"),
    "4194304\nG")
  t:step("what was not flushed before a power cut is gone", function()
    t:assert_eq(cut:read_sectors(1, 1), ("K"):rep(S))
    t:assert_eq(sh(vm, "dd if=/dev/disk/by-id/virtio-cut bs=512 skip=101 count=1 status=none | head -c 2 | tr '\\0' z"), "zz")
  end)
  t:step("a disk without power has it again", function()
    t:assert_eq(vm:run("head -c 3 /dev/disk/by-id/virtio-dark").stdout, "AAA")
    t:assert_eq(dark:read_sectors(0, 1), ("A"):rep(S))
  end)
  t:step("faults stay", function()
    t:assert_eq(faulty:active_faults()[1], "eio_write")
    t:assert_eq(faulty:rules()[1].effect, "lose")
    t:assert(faulty:rules()[1].hits >= 1, "its count is gone")
    local dev = "/dev/disk/by-id/virtio-faulty"
    t:assert(not vm:run("dd if=/dev/zero of=" .. dev .. " bs=512 count=1 oflag=direct conv=notrunc 2>&1"):ok())
    t:assert(not vm:run("dd if=" .. dev .. " of=/dev/null bs=512 skip=7 count=1 iflag=direct 2>&1"):ok())
    -- A machine with a failing disk can be paused.
    vm:pause()
    vm:resume()
    faulty:clear_faults()
    faulty:clear_policy()
    sh(vm, "dd if=/dev/zero of=" .. dev .. " bs=512 count=1 oflag=direct conv=notrunc,fsync 2>&1")
  end)
end)

test("a power cycle boots with the disks of its options, and what was written to others", function(t)
  for _, d in ipairs {grown, cut, faulty, dark, vm:disk("gone")} do d:detach() end
  put("hot", "D", 3, ",fsync")
  put("hot", "E", 4)
  hot:power_cut() -- what it takes stays away
  local again, p = vm:console():read(), vm:run_async("sleep 1000")
  vm:shutdown()
  again:drain("10s")
  t:assert(again:eof())
  refused(t, function() p:kill() end, "shutdown")
  t:assert_contains(hot:read_sectors(0, 1), "hot\n")
  local late = vm:attach_disk({id = "late", size = "1M"})
  late:write_sectors(0, "prepared")
  t:assert_eq(vm:disk("late"), late)
  local raw, template = file_of(("raw!"):rep(256)), file_of(("tmpl"):rep(1024))
  vm:boot({disks = {{scratch = "8M", id = "keep"}, {path = raw, id = "r"}, {scratch = "8M"},
    {template = template, readonly = true, mediated = true}}}) -- the first is the same disk
  t:assert_neq(id(vm), booted)
  t:assert_eq(vm:disk("boot4"):size(), 8 << 20)
  t:assert_eq(sh(vm, "cd /dev/disk/by-id; for i in keep hot late r boot4 boot5; do readlink virtio-$i; done"),
    "../../vda\n../../vdb\n../../vdc\n../../vdd\n../../vde\n../../vdf")
  t:assert_eq(sh(vm, "cd /dev/disk/by-id; head -n 1 virtio-keep; head -n 1 virtio-hot; head -c 8 virtio-late; head -c 8 virtio-boot5"),
    "keep\nhot\npreparedtmpltmpl")
  t:assert_eq(sh(vm, "cat /dev/disk/by-id/virtio-r"), ("raw!"):rep(256))
  t:assert_eq(sh(vm, "cat /sys/block/vdf/ro"), "1")
  put("hot", "F", 5, ",fsync")
  t:assert_eq(hot:read_sectors(3, 3), ("D"):rep(S) .. ("\0"):rep(S) .. ("F"):rep(S))
  sh(vm, "dd if=/dev/zero of=/dev/disk/by-id/virtio-r bs=512 count=1 conv=notrunc,fsync 2>&1")
  t:assert_eq(assert(io.open(raw, "rb")):read("a"), ("\0"):rep(512) .. ("raw!"):rep(128))
  vm:shutdown()
  t:assert_eq(assert(io.open(template, "rb")):read("a"), ("tmpl"):rep(1024))
  os.remove(raw)
  os.remove(template)
end)
