-- All states that a power cut could leave. A store and SQLite are found faulty when they
-- do not sync, and correct when they do.
local vm = provium:vm("v", "ext4", {memory = "128M"}):boot()
local DEV, MNT = "/dev/disk/by-id/virtio-fs", "/mnt"
local MOUNT = ("mkdir -p %s && mount -t ext4 -o noauto_da_alloc %s %s"):format(MNT, DEV, MNT)

-- An empty ext4 of 16 MiB.
local fs = os.tmpname()
assert(os.execute(("truncate -s 16M %s && mkfs.ext4 -q -F -b 1024 -E lazy_itable_init=0 %s"):format(fs, fs)), "mkfs.ext4 failed")
local function blank()
  local old = pcall(vm.disk, vm, "fs") and vm:disk("fs")
  if old then old:detach() end
  assert(os.execute(("mkfs.ext4 -q -F -b 1024 -E lazy_itable_init=0 %s"):format(fs)))
  return vm:attach_disk({id = "fs", image = fs})
end
local function prepare(vm) vm:run(MOUNT .. " && umount " .. MNT):assert_ok() end
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
  return tostring(err)
end

-- The store has one value, which it replaces by a rename. When it returns, the rename is
-- on the disk, since another file was synced. `flags` can leave out the sync of the value.
local function store(flags, rounds)
  return function(vm, disk)
    vm:run(MOUNT):assert_ok()
    for i = 1, rounds or 4 do
      vm:run(([[
        echo value %d | dd of=/mnt/new %s status=none && mv /mnt/new /mnt/value
        echo %d | dd of=/mnt/log conv=fsync status=none]]):format(i, flags, i)):assert_ok()
      disk:mark(i)
    end
    vm:run("umount " .. MNT):assert_ok()
  end
end
local function intact(vm, disk, point)
  vm:run(MOUNT):assert_ok()
  if not point.mark then return end -- nothing was promised
  local text = vm:read_file("/mnt/value")
  local n = tonumber(text:match("^value (%d+)\n$"))
  assert(n and n >= tonumber(point.mark), ("%q after %s was stored"):format(text, point.mark))
end

test("a store that renames without fsync is caught, and the point can be repeated", function(t)
  local d = blank()
  local text = refused(t, function()
    d:crash_points{workload = store(""), check = intact, prepare = prepare, sample = 30, seed = 1, guest = "reuse"}
  end, " checked points failed (the recording has ", "after mark `", "un-flushed writes", '"" after ', "on the same recording, which {save = PATH} keeps")
  local n = tonumber(text:match("{only = (%d+)}"))
  local r = d:crash_points{check = intact, prepare = prepare, seed = 1, only = n, raise = false}
  t:assert_eq(r.checked, 1)
  t:assert_eq(r.failed[1].number, n)
  t:assert_contains(text, r.failed[1].text)
  t:assert_contains(r.failed[1].error, "stored")
  -- The recording can be saved and used in another run.
  local kept = os.tmpname()
  text = refused(t, function() d:crash_points{check = intact, prepare = prepare, seed = 1, only = n, save = kept} end,
    ("{recording = %q, only = %d} looks at the first one alone"):format(kept, n))
  local same = vm:attach_disk({id = "same", size = "16M"})
  r = same:crash_points{recording = kept, seed = 1, only = n, raise = false, check = function(vm, disk, point)
    vm:run("mkdir -p /mnt && mount -t ext4 /dev/disk/by-id/virtio-same /mnt"):assert_ok()
    return false, point.text
  end}
  t:assert_contains(text, r.failed[1].error)
  t:assert_eq(same:load_recording(kept):count(), r.entries)
  same:detach()
  os.remove(kept)
  -- Stops after the wanted number of failures, with guests that are reused.
  r = d:crash_points{check = intact, prepare = prepare, seed = 1, sample = 30, stop_after = 5, guest = "reuse", raise = false}
  t:assert(#r.failed >= 5, #r.failed .. " failures")
end)

local function safe(t, sample)
  local d = blank()
  local rounds = sample // 16 -- each has more than twenty points
  local r = d:crash_points{workload = store("conv=fsync", math.max(rounds, 4)), check = intact, prepare = prepare,
    sample = sample, guest = "reuse", torn = true, unit = 8} -- ext4 does not survive a torn sector of the superblock
  t:assert_eq(#r.failed, 0)
  t:assert_eq(r.checked, sample)
  t:assert(r.points > sample and r.distinct > sample / 2 and r.distinct <= sample, json.encode(r))
  return d
end
test("all of 200 states of a store that syncs are good", {slow = true}, function(t) safe(t, 200) end)
test("a store that syncs before it renames passes", function(t)
  local d = safe(t, 16)
  -- A fresh guest for each point has the same result.
  r = d:crash_points{check = intact, prepare = prepare, sample = 3, seed = 2}
  t:assert_eq(r.checked, 3)
end)

-- SQLite, for which the store above stands every day: each transaction adds 20 rows and
-- increases a total.
local LIBS
local function with_sqlite(vm)
  if not LIBS then
    LIBS = {"/usr/bin/sqlite3"}
    for line in assert(io.popen("ldd /usr/bin/sqlite3")):lines() do
      local path = line:match("=> (/%S+)") or line:match("^%s*(/%S+)")
      if path then LIBS[#LIBS + 1] = path end
    end
  end
  for _, path in ipairs(LIBS) do
    vm:mkdir(path:match("^(.*)/"), {parents = true})
    vm:push_file(path, path)
  end
  vm:run("chmod 755 /usr/bin/sqlite3 /lib64/ld-linux-x86-64.so.2"):assert_ok()
  prepare(vm)
end
local function sql(vm, text) return vm:run("sqlite3", {"-batch", "-bail", "/mnt/db", text}):assert_ok().stdout end

local function sqlite(t, mode, sync, opts)
  local d = blank()
  vm:run(MOUNT):assert_ok()
  sql(vm, "PRAGMA journal_mode=" .. mode .. "; CREATE TABLE row(batch, n); CREATE TABLE total(n); INSERT INTO total VALUES(0);")
  -- A second connection prevents a checkpoint of the write-ahead log after each transaction.
  vm:run("rm -f /tmp/held"):assert_ok()
  local holder = vm:run_async("(echo 'SELECT * FROM total;'; echo '.system touch /tmp/held'; exec sleep 1000) | sqlite3 /mnt/db")
  vm:run("until [ -e /tmp/held ]; do sleep 0.01; done; sync", {timeout = "60s"}):assert_ok()
  local o = {
    prepare = with_sqlite, sample = 16, guest = "reuse", raise = false,
    workload = function(vm, disk)
      for i = 1, 4 do
        sql(vm, ("PRAGMA synchronous=%s; BEGIN; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<20) "
          .. "INSERT INTO row SELECT %d, n FROM c; UPDATE total SET n=n+20; COMMIT;"):format(sync, i))
        disk:mark(i)
      end
    end,
    check = function(vm, disk, point)
      vm:run(MOUNT):assert_ok()
      local text = sql(vm, "PRAGMA integrity_check; SELECT count(*) FROM row; SELECT n FROM total;")
      local rows, total = text:match("^ok\n(%d+)\n(%d+)\n$")
      assert(rows and rows == total and total % 20 == 0, text)
      -- A rollback journal is deleted without syncing its directory, unless synchronous=EXTRA:
      -- the last transaction may be rolled back.
      local promised = 20 * (tonumber(point.mark or 0) - (mode == "DELETE" and 1 or 0))
      assert(tonumber(total) >= promised, total .. " rows, " .. promised .. " were committed")
    end,
  }
  for k, v in pairs(opts or {}) do o[k] = v end
  local r = d:crash_points(o)
  holder:kill()
  holder:wait()
  vm:run("umount " .. MNT):assert_ok()
  return r
end

for _, mode in ipairs {"DELETE", "WAL"} do
  test("SQLite with journal_mode=" .. mode .. " is safe with synchronous=FULL", {slow = true}, function(t)
    with_sqlite(vm)
    local r = sqlite(t, mode, "FULL")
    t:assert_eq(#r.failed, 0, r.failed[1] and r.failed[1].text .. ": " .. r.failed[1].error)
    t:assert_eq(r.checked, 16)
  end)
  test("SQLite with journal_mode=" .. mode .. " is caught with synchronous=OFF", {slow = true}, function(t)
    with_sqlite(vm)
    local r = sqlite(t, mode, "OFF", {sample = 30, stop_after = 1})
    t:assert(#r.failed > 0, "no point failed")
    t:assert_contains(r.failed[1].error, "committed")
  end)
end


test("a recording made by hand, and what a check is told", function(t)
  local d = vm:disk("fs")
  d:write_sectors(0, ("A"):rep(512))
  local rec = d:record()
  vm:run("tr '\\0' B < /dev/zero | dd of=" .. DEV .. " bs=512 count=3 iflag=fullblock oflag=direct conv=notrunc status=none"):assert_ok()
  d:mark("three")
  local seen = {}
  local r = d:crash_points{recording = rec, guests = 1, guest = "reuse", raise = false, stop_after = 100, check = function(vm, disk, point)
    local text = vm:run(("dd if=%s bs=512 count=3 status=none"):format(DEV)).stdout
    t:assert_eq(text, disk:read_sectors(0, 3, {pending = true}))
    local now = text:gsub(("."):rep(512), function(s) return s:sub(1, 1) end):gsub("[^AB]", ".")
    seen[now] = (seen[now] or 0) + 1
    t:assert_eq(vm:name(), "v-crash1")
    t:assert_eq(disk:id(), "fs")
    if point.mark then
      t:assert_eq(point.marks[1], "three")
      if now:sub(1, 1) ~= "B" then return false, point.kind .. " has " .. now end
    end
    vm:run(("dd if=/dev/zero of=%s bs=512 count=8 oflag=direct status=none"):format(DEV)):assert_ok() -- gone at the next point
    disk:inject{op = "any", errno = "EIO"} -- and so is this
    disk:fault_inject("eio_read")
  end}
  t:assert_eq(r.entries, 4)
  t:assert_eq(r.checked, r.points)
  t:assert_eq(r.distinct, 16) -- the subsets of three writes, before and after the mark
  t:assert_eq(#r.failed, 4)
  t:assert_contains(r.failed[1].error, "none has A")
  t:assert_eq(r.failed[1].at, 4)
  t:assert_eq(r.failed[1].unflushed, 3)
  local n = 0
  for _ in pairs(seen) do n = n + 1 end
  t:assert(n == 8 and seen["B.B"], json.encode(seen))
end)

test("a guest that a state kills is a point that failed, and the others are looked at", function(t)
  local d = vm:disk("fs")
  local killed
  local r = d:crash_points{sample = 8, guests = 1, guest = "reuse", raise = false, stop_after = 100, check = function(vm, disk, point)
    if point.number == (killed or point.number) then
      killed = point.number
      vm:run("echo c > /proc/sysrq-trigger")
    end
  end}
  t:assert_eq(r.checked, 8)
  t:assert_eq(#r.failed, 1)
  t:assert_eq(r.failed[1].number, killed)
  t:assert_contains(r.failed[1].error, "guest failure on vm `v-crash1`: ")
end)

test("bad input", function(t)
  local d = vm:disk("fs")
  local function check() end
  local function call(opts) return function() d:crash_points(opts) end end
  refused(t, call(nil), "disk:crash_points: argument 1 (opts) must be a table")
  refused(t, call({}), "opts.check is missing: a function(vm, disk, point)")
  refused(t, call({check = 1}), "check must be a function")
  refused(t, call({check = check, smple = 1}), "unknown option `smple`")
  refused(t, call({check = check, sample = 0}), "sample must be between 1 and")
  refused(t, call({check = check, guests = 65}), "guests must be between 1 and 64, got 65")
  refused(t, call({check = check, guest = "new"}), "guest `new` is unknown (valid: fresh, reuse)")
  refused(t, call({check = check, unit = 0}), "unit must be between 1 and")
  refused(t, call({check = check, torn = 1}), "torn must be true or false")
  refused(t, call({check = check, seed = 0.5}), "seed must be an integer")
  refused(t, call({check = check, only = {}}), "only must not be empty")
  refused(t, call({check = check, only = {1, "x"}}), "only must hold integers, entry 2 is string")
  refused(t, call({check = check, only = 999999}), "opts.only: there is no point 999999, the recording has ")
  refused(t, call({check = check, recording = d}), "recording must be a recording, or the path of a saved one")
  refused(t, call({check = check, recording = "/nowhere"}), "recording `/nowhere`: no such file or directory")
  refused(t, call({check = check, recording = "/etc/passwd"}), "recording `/etc/passwd`: is not a saved recording")
  refused(t, call({check = check, save = ""}), "save must not be empty")
  refused(t, call({check = check, stop_after = -1}), "stop_after must be between 1 and")
  refused(t, call({check = check, limit = "x"}), "limit")
  local other = vm:attach_disk({id = "other", size = "1M"})
  refused(t, function() other:crash_points{check = check} end, "disk `other` has no recording: give a workload, or call disk:record() before it")
  local rec = other:record()
  refused(t, call({check = check, recording = rec}), "recording is of disk `other`")
  refused(t, function() other:crash_points{check = check, recording = rec, workload = check} end, "exclude each other")
  refused(t, function() other:crash_points{check = check, workload = check} end, "is being recorded already")
  refused(t, function() rec:save(os.tmpname()) end, "recording:save: the recording goes on")
  rec:stop()
  refused(t, function() rec:save("/nowhere/x") end, "recording:save: recording save: open /nowhere/x")
  local kept = os.tmpname()
  rec:save(kept)
  refused(t, function() d:load_recording(kept) end, "is of a disk of 1048576 bytes, disk `fs` has 16777216")
  os.remove(kept)
  refused(t, function() d:load_recording() end, "path")
  refused(t, function() other:crash_points{check = check, limit = 512, workload = function(vm, disk)
    disk:write_sectors(0, ("x"):rep(1024))
  end} end, "the recording is not complete: more than its limit of 512 bytes was written")
  rec:close()
  rec:close()
  refused(t, function() other:crash_points{check = check, recording = rec} end, "the recording was closed")
  -- An error of the workload is raised.
  refused(t, function() other:crash_points{check = check, workload = function() error("no work") end} end, "no work")
  refused(t, function() other:crash_points{check = check, workload = check, prepare = function() error("not ready") end} end, "not ready")
  other:detach()
  refused(t, function() other:crash_points{check = check, workload = check} end, "disk is detached")
  refused(t, function() other:crash_points{check = check, recording = rec} end, "disk is detached")
end)
