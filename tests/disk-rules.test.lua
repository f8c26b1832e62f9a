-- Rules for single requests of a disk: errors, delays, and faults of which the guest is
-- not informed.
local S = 512
local vm = provium:vm("v", "host", {memory = "128M"}):boot()
local function dev(d) return "/dev/disk/by-id/virtio-" .. d:id() end
local n = 0
local function new(opts)
  n = n + 1
  opts = opts or {}
  opts.id, opts.size = "r" .. n, opts.size or "1M"
  return vm:attach_disk(opts)
end
local function read(d, sector, count)
  return vm:run(("dd if=%s bs=512 skip=%d count=1 iflag=direct status=none | head -c 4"):format(dev(d), sector))
end
-- One direct write of `sectors` sectors of one letter, without a flush.
local function write(d, sector, letter, sectors)
  sectors = sectors or 1
  return vm:run(("head -c %d /dev/zero | tr '\\0' %s | dd of=%s bs=%d seek=%d iflag=fullblock oflag=direct,seek_bytes conv=notrunc count=1 status=none 2>&1")
    :format(sectors * S, letter, dev(d), sectors * S, sector * S))
end
local function flush(d) return vm:run("sync " .. dev(d) .. " 2>&1 || dd if=/dev/null conv=notrunc,fsync status=none of=" .. dev(d)) end
local function seen(d, sector, count) return d:read_sectors(sector, count or 1, {pending = true}) end
local function refused(t, fn, ...)
  local ok, err = pcall(fn)
  t:assert(not ok, "it did not raise")
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end
local function fails(t, r) t:assert(not r:ok()) t:assert_contains(r.stdout, "Input/output error") end

test("requests that fail: by kind, place, number and chance", function(t)
  local d = new()
  local id = d:inject{op = "write", sectors = {100, 2}, errno = "ENOSPC", count = 2}
  write(d, 99, "A"):assert_ok()
  fails(t, write(d, 100, "A"))
  fails(t, write(d, 101, "A"))
  write(d, 101, "A"):assert_ok() -- the third
  local rules = d:rules()
  t:assert_eq(#rules, 1)
  t:assert_eq(rules[1].id, id)
  t:assert_eq(rules[1].hits, 2)
  t:assert_eq(rules[1].errno, "ENOSPC")
  t:assert_eq(table.concat(rules[1].sectors, "+"), "100+2")
  d:clear_rule(id)
  t:assert_eq(#d:rules(), 0)

  -- Exactly one sector, for the guest and for sector operations.
  d:inject{sectors = 200}
  for sector, ok in pairs {[199] = true, [200] = false, [201] = true} do
    t:assert_eq(write(d, sector, "B"):ok(), ok, "write of sector " .. sector)
  end
  refused(t, function() d:read_sectors(200, 1) end, "disk:read_sectors: EIO (inject)")
  d:clear_rules()
  d:inject{op = "read", sectors = 5, errno = "ENOMEM"}
  refused(t, function() d:read_sectors(0, 8) end, "disk:read_sectors: ENOMEM (inject)")
  d:write_sectors(5, "x")
  d:clear_rules()

  -- The same seed selects the same requests.
  local function pattern(seed)
    local id, out = d:inject{op = "read", probability = 0.5, seed = seed}, {}
    for i = 1, 40 do out[i] = pcall(d.read_sectors, d, 0, 1) and "." or "x" end
    local hits = d:rules()[1].hits
    d:clear_rule(id)
    local text, struck = table.concat(out):gsub("x", "x")
    t:assert_eq(hits, struck)
    t:assert(struck > 5 and struck < 35, text)
    return text
  end
  local before = pattern(7)
  t:assert_neq(pattern(8), before)
  d:detach()
end)

test("flushes fail alone, and delays hold what fits", function(t)
  local d = new()
  d:inject{op = "flush"}
  write(d, 0, "A"):assert_ok()
  t:assert(not vm:run("dd if=/dev/null conv=notrunc,fsync status=none of=" .. dev(d) .. " 2>&1"):ok())
  d:clear_rules()
  d:inject{op = "read", sectors = {0, 8}, delay = "60ms"}
  local function took(sector)
    return tonumber(vm:run(([[a=$(cut -d' ' -f1 /proc/uptime)
      for i in 1 2 3 4 5; do dd if=%s of=/dev/null bs=512 skip=%d count=1 iflag=direct status=none; done
      echo "$(cut -d' ' -f1 /proc/uptime) $a" | awk '{print $1 - $2}']]):format(dev(d), sector)):assert_ok().stdout)
  end
  t:assert(took(0) >= 0.3)
  t:assert_eq(d:rules()[1].hits, 5)
  took(100)
  t:assert_eq(d:rules()[1].hits, 5)
  d:detach()
end)

test("corrupted, torn, misdirected and lost writes", function(t)
  local d = new()
  d:inject{op = "write", sectors = 10, effect = "corrupt", count = 1, seed = 1}
  write(d, 10, "A"):assert_ok()
  local got = seen(d, 10)
  t:assert_neq(got, ("A"):rep(S))
  t:assert_contains(got, "AAAA")
  write(d, 10, "A"):assert_ok()
  t:assert_eq(seen(d, 10), ("A"):rep(S))

  d:inject{op = "write", sectors = {16, 8}, effect = "torn", count = 1, seed = 3}
  write(d, 16, "T", 8):assert_ok()
  local torn, k = seen(d, 16, 8)
  k = #torn:match("^T*")
  t:assert(k < 8 * S and k % S == 0, k .. " bytes were written")
  t:assert_eq(torn, ("T"):rep(k) .. ("\0"):rep(8 * S - k))

  d:inject{op = "write", sectors = 40, effect = "misdirect", count = 1, seed = 2}
  write(d, 40, "M"):assert_ok()
  t:assert_eq(seen(d, 40), ("\0"):rep(S))
  t:assert_contains(seen(d, 0, 2048), ("M"):rep(S))

  d:inject{op = "write", sectors = 50, effect = "lose"}
  write(d, 50, "L"):assert_ok()
  t:assert_eq(seen(d, 50), ("\0"):rep(S))
  t:assert_eq(d:rules()[4].hits, 1)
  -- An effect with an errno: a part is written, and the guest gets the error.
  d:clear_rules()
  d:inject{op = "write", effect = "torn", errno = "EIO", count = 1, seed = 5}
  fails(t, write(d, 60, "E", 4))
  d:detach()
end)

test("corrupted and misdirected reads leave the disk as it is", function(t)
  local d = new()
  d:write_sectors(0, ("A"):rep(S) .. ("B"):rep(2047 * S))
  d:inject{op = "read", sectors = 0, effect = "misdirect", count = 1}
  t:assert_eq(read(d, 0).stdout, "BBBB")
  t:assert_eq(read(d, 0).stdout, "AAAA")
  d:inject{op = "read", sectors = 0, effect = "corrupt", count = 1}
  local sum = function() return vm:run("dd if=" .. dev(d) .. " bs=512 count=1 iflag=direct status=none | md5sum").stdout end
  local bad = sum()
  t:assert_neq(sum(), bad)
  t:assert_eq(d:read_sectors(0, 1), ("A"):rep(S))
  d:detach()
end)

test("a disk that lies about flushes loses what it promised", function(t)
  local liar = provium:vm("liar", "host", {memory = "128M"}):boot()
  local d = liar:attach_disk({id = "l", size = "1M"})
  local through = liar:attach_disk({id = "w", size = "1M", write_cache = false})
  local function put(name)
    liar:run("echo promise | dd of=/dev/disk/by-id/virtio-" .. name .. " bs=512 conv=sync,notrunc,fsync oflag=direct status=none"):assert_ok()
  end
  d:inject{op = "flush", effect = "lose"}
  put("l")
  t:assert(d:rules()[1].hits >= 1)
  d:power_cut()
  t:assert_eq(d:read_sectors(0, 1), ("\0"):rep(S))
  -- A disk without a write cache loses nothing, unless it also lies about flushes.
  t:assert_contains(liar:read_file("/sys/block/vdb/queue/write_cache"), "write through")
  put("w")
  through:power_cut()
  t:assert_contains(through:read_sectors(0, 1), "promise")
  -- Rules and their counts persist in a snapshot, as they do through a reset (disk-faults).
  local hits = d:rules()[1].hits
  local s = liar:snapshot()
  d:clear_rules()
  liar:shutdown()
  liar:restore(s)
  t:assert_eq(d:rules()[1].hits, hits)
  put("l")
  t:assert_eq(d:read_sectors(0, 1), ("\0"):rep(S))
  t:assert(d:rules()[1].hits > hits)
end)

test("many rules", function(t)
  local d = new()
  for i = 1, 256 do d:inject{op = "read", sectors = {i * 4, 2}} end
  refused(t, function() d:inject{} end, "256 rules")
  refused(t, function() d:read_sectors(1024, 1) end, "EIO")
  t:assert(pcall(d.read_sectors, d, 1026, 1))
  refused(t, function() d:read_sectors(1020, 10) end, "EIO")
  d:clear_rules()
  t:assert_eq(d:inject{}, 257)
  d:detach()
end)

test("bad input", function(t)
  local d = new()
  refused(t, function() d:inject() end, "disk:inject", "table")
  refused(t, function() d:inject{opp = "read"} end, "opp", "valid: op, sectors, errno")
  refused(t, function() d:inject{op = "boom"} end, "disk:inject: unknown op `boom` (valid: read, write, discard, flush, any)")
  refused(t, function() d:inject{errno = "EWHAT"} end, "unknown errno `EWHAT`")
  refused(t, function() d:inject{effect = "melt", op = "read"} end, "unknown effect `melt` (valid: corrupt, misdirect, torn, lose)")
  refused(t, function() d:inject{effect = "torn", op = "read"} end, "effect `torn` makes no sense for op `read` (valid: corrupt, misdirect)")
  refused(t, function() d:inject{effect = "lose"} end, "effect `lose` needs an op")
  refused(t, function() d:inject{effect = ""} end, "empty")
  for _, p in ipairs {0, -1, 1.5, 0 / 0, "x"} do
    refused(t, function() d:inject{probability = p} end, "probability")
  end
  refused(t, function() d:inject{count = 0} end, "count must be at least 1, got 0")
  refused(t, function() d:inject{count = 1.5} end, "count must be an integer")
  refused(t, function() d:inject{delay = 0} end, "delay must be more than 0")
  refused(t, function() d:inject{delay = "soon"} end, "cannot parse `soon`")
  refused(t, function() d:inject{sectors = "x"} end, "sectors must be a sector or {first, count}, got")
  refused(t, function() d:inject{sectors = {1}} end, "{first, count}")
  refused(t, function() d:inject{sectors = {1, 0}} end, "at least 1")
  refused(t, function() d:inject{sectors = -1} end, "negative")
  refused(t, function() d:inject{sectors = {2047, 2}} end, "2048 sectors")
  refused(t, function() d:inject{op = "flush", sectors = 1} end, "no meaning for a flush")
  refused(t, function() d:clear_rule(1) end, "no rule 1: there are none")
  d:inject{}
  refused(t, function() d:clear_rule(7) end, "no rule 7 (there are: 1)")
  refused(t, function() d:clear_rule("x") end, "id", "integer")
  d:clear_rules()
  d:clear_rules()
  d:detach()
  refused(t, function() d:inject{} end, "disk:inject: disk is detached")
  refused(t, function() d:rules() end, "disk:rules: disk is detached")
end)
