-- One run per request of a disk, in which only that request fails.
local vm = provium:vm("v", "host", {memory = "128M"}):boot()
local d = vm:attach_disk({id = "d", size = "1M"})
d:write_sectors(100, "before")
local DEV = "/dev/disk/by-id/virtio-d"
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
  return tostring(err)
end
-- Five writes and one flush request.
local function dd(vm, flags)
  return vm:run(("dd if=/dev/zero of=%s bs=512 count=5 %s conv=notrunc,fsync 2>&1"):format(DEV, flags or "oflag=direct"))
end

test("each write fails once, alone, and on the same content", function(t)
  local failing = {}
  local r = d:sweep{op = "write", guests = 1}(function(vm, disk, n)
    t:assert_eq(disk:read_sectors(100, 1):sub(1, 6), "before")
    local r = dd(vm)
    t:assert_eq(r:ok(), n == 0, "request " .. n)
    if n > 0 then
      t:assert_contains(r.stdout, "Input/output error")
      t:assert(dd(vm):ok(), "a second request failed")
    end
    failing[#failing + 1] = n
    disk:write_sectors(100, "after!")
  end)
  t:assert_eq(table.concat(failing, " "), "0 1 2 3 4 5")
  t:assert_eq(r.requests, 5)
  t:assert_eq(r.runs, 5)
  t:assert_eq(r.missed, 0)
  t:assert_eq(#r.failed, 0)
end)

test("faults of one run do not meet the next one in the same guest", function(t)
  local r = d:sweep{op = "write", guests = 1, guest = "reuse"}(function(vm, disk, n)
    t:assert_eq(vm:run("test -e /been"):ok(), n > 1, "whether the guest is used again")
    vm:run("touch /been"):assert_ok()
    t:assert_eq(#disk:rules() + #disk:active_faults(), 0)
    t:assert_eq(next(disk:fault_policy()), nil)
    t:assert_eq(dd(vm):ok(), n == 0)
    disk:inject{op = "read", errno = "EIO"}
    disk:inject{op = "write", effect = "lose"}
    disk:fault_inject("slow")
    disk:fail_range(0, 1)
  end)
  t:assert_eq(r.runs, 5)
  t:assert_eq(r.missed + #r.failed, 0)
end)

test("the request that a program does not survive is named", function(t)
  local function careless(vm, disk, n)
    vm:run(("dd if=/dev/zero of=%s bs=512 count=3 oflag=direct conv=notrunc 2>/dev/null; true"):format(DEV)):assert_ok()
    vm:run(("dd if=/dev/zero of=%s bs=512 seek=8 count=2 oflag=direct conv=notrunc 2>/dev/null"):format(DEV)):assert_ok()
  end
  local text = refused(t, function() d:sweep{op = "write", guest = "reuse", stop_after = 10}(careless) end,
    "disk:sweep: 2 of 5 runs failed, each with one of 5 requests (write) failing",
    "request 4 (write of sectors 8+1):", "request 5 (write of sectors 9+1):", "command failed", "{only = 4} has the first one fail alone")
  local r = d:sweep{op = "write", only = 5, raise = false}(careless)
  t:assert_eq(r.runs, 1)
  t:assert_eq(r.failed[1].number, 5)
  t:assert_eq(r.failed[1].request, "write of sectors 9+1")
end)

test("flushes, reads, samples, and requests that do not come", function(t)
  local r = d:sweep{op = "flush", guests = 1}(function(vm, disk, n) t:assert_eq(dd(vm):ok(), n == 0) end)
  t:assert_eq(r.requests, 1)
  r = d:sweep{op = "read", guests = 1, guest = "reuse", sample = 2, seed = 3}(function(vm, disk, n)
    local r = vm:run(("dd if=%s of=/dev/null bs=512 count=4 iflag=direct 2>&1"):format(DEV))
    t:assert_eq(r:ok(), n == 0)
  end)
  t:assert_eq(r.requests, 4)
  t:assert_eq(r.runs, 2)
  r = d:sweep{op = "any", guests = 1, only = {1, 50}}(function(vm, disk, n) if n < 50 then t:assert_eq(dd(vm):ok(), n == 0) end end)
  t:assert_eq(r.missed, 1)
end)

test("bad input", function(t)
  refused(t, function() d:sweep{op = "boil"} end, "disk:sweep: opts.op `boil` is unknown (valid: read, write, flush, any)")
  refused(t, function() d:sweep{ops = "read"} end, "unknown option `ops`")
  refused(t, function() d:sweep("write") end, "table")
  refused(t, function() d:sweep{only = 0} end, "only must be at least 1, got 0")
  refused(t, function() d:sweep{sample = 0} end, "sample must be between 1 and")
  refused(t, function() d:sweep{guests = 0} end, "guests must be between 1 and 64")
  refused(t, function() d:sweep{}() end, "disk:sweep: argument 1 (fn) must be a function")
  refused(t, function() d:sweep{}(function() error("never works") end) end, "the run without a fault failed", "never works")
  local rec = d:record()
  refused(t, function() d:sweep{}(function() end) end, "is being recorded already")
  rec:stop()
  local gone = vm:attach_disk({id = "gone", size = "1M"})
  gone:detach()
  refused(t, function() gone:sweep{}(function() end) end, "disk is detached")
end)
