-- Which unflushed data survive a power cut, and the log of a disk's writes. What a reset finds
-- is in disk-faults.
local S = 512
local small = {memory = "128M"}
local vm = provium:vm("v", "host", small):boot()
local d = vm:attach_disk({id = "d", size = "4M"})
-- What is written comes from files: a guest that made it each time would do little else.
for _, letter in ipairs {"K", "L"} do vm:write_file("/tmp/" .. letter, letter:rep(16 * 8 * S)) end
-- dd with direct I/O: each block is one write, and only fsync flushes.
local function dd(seek, count, flags, block)
  return ("dd if=/tmp/%s of=/dev/vda bs=%d seek=%d count=%d oflag=direct conv=notrunc%s status=none"):format(
    flags == "fsync" and "K" or "L", block or S, seek, count, flags == "fsync" and ",fsync" or "")
end
local function put(...) vm:run(dd(...)):assert_ok() end
local function text(first, n) return (d:read_sectors(first, n):gsub(("."):rep(S), function(s) return s:sub(1, 1) == "\0" and "." or s:sub(1, 1) end)) end
local function wipe(n) d:write_sectors(0, ("\0"):rep(n * S)) end
local function refused(t, fn, ...)
  local ok, err = pcall(fn)
  t:assert(not ok, "it did not raise")
  for _, want in ipairs {...} do t:assert_contains(tostring(err), want) end
end

test("without arguments everything is lost that was not flushed", function(t)
  put(0, 4, "fsync")
  put(4, 4)
  local r = d:power_cut()
  t:assert_eq(r.keep, "none")
  t:assert_eq(r.unflushed, 4)
  t:assert_eq(r.kept, 0)
  t:assert_eq(text(0, 8), "KKKK....")
  d:power_on()
end)

test("prefix keeps the first writes, all keeps all", function(t)
  wipe(8)
  put(0, 8)
  local r = d:power_cut({keep = "prefix", count = 3})
  t:assert_eq(r.kept, 3)
  t:assert_eq(text(0, 8), "LLL.....")
  d:power_on()
  put(0, 8)
  t:assert_eq(d:power_cut({keep = "all"}).sectors, 8)
  t:assert_eq(text(0, 8), "LLLLLLLL")
  d:power_on()
  -- Without a count, the seed determines how many.
  local seen = {}
  for seed = 1, 12 do
    wipe(8)
    put(0, 8)
    local kept = d:power_cut({keep = "prefix", seed = seed}).kept
    t:assert_eq(text(0, 8), ("L"):rep(kept) .. ("."):rep(8 - kept))
    seen[kept] = true
    d:power_on()
  end
  t:assert(next(seen, next(seen)), "every seed kept as many")
end)

local function cuts(t, n)
  local outcomes, lost = {}, 0
  for seed = 1, n do
    wipe(24)
    vm:run(dd(0, 4, "fsync") .. "\n" .. dd(8, 16)):assert_ok()
    local r = d:power_cut({keep = seed % 2 == 0 and "random" or "none", seed = seed})
    t:assert_eq(text(0, 8), "KKKK....")
    local rest = text(8, 16)
    t:assert_eq(#rest:gsub("%.", ""), r.kept)
    t:assert_eq(r.unflushed, 16)
    if seed % 2 == 1 then t:assert_eq(r.kept, 0) end
    if rest ~= ("L"):rep(16) then lost = lost + 1 end
    outcomes[rest] = true
    d:power_on()
  end
  local seen = 0
  for _ in pairs(outcomes) do seen = seen + 1 end
  t:assert(seen > n * 0.3, "only " .. seen .. " outcomes")
  t:assert(lost >= n * 0.9, "only " .. lost .. " cuts lost something")
end
test("flushed writes stay and others may go, in every one of 40 seeded power cuts", function(t) cuts(t, 40) end)
test("and in every one of 200", {slow = true}, function(t) cuts(t, 200) end)

test("the same seed keeps the same, and with torn a write can be kept in part", function(t)
  local function cut(opts)
    wipe(64)
    put(0, 8, nil, 8 * S)
    local r = d:power_cut(opts)
    d:power_on()
    return text(0, 64), r
  end
  local a, b = cut({keep = "random", seed = 7}), cut({keep = "random", seed = 7})
  t:assert_eq(a, b)
  for i = 1, 64, 8 do
    local s = a:sub(i, i + 7)
    t:assert(s == "LLLLLLLL" or s == "........", "a torn write: " .. s)
  end
  local torn = 0
  for seed = 1, 6 do
    local s, r = cut({keep = "random", seed = seed, torn = true})
    local n = 0
    for i = 1, 64, 8 do
      local w = s:sub(i, i + 7)
      if w ~= "LLLLLLLL" and w ~= "........" then n = n + 1 end
    end
    t:assert_eq(n, r.torn)
    torn = torn + n
  end
  t:assert(torn > 0, "no write was torn")
end)

test("a recording logs writes, flushes and marks", function(t)
  wipe(64)
  local rec = d:record()
  t:assert_eq(rec:ended(), nil)
  put(8, 2)
  d:mark("two")
  put(16, 1, "fsync", 8 * S)
  d:write_sectors(40, "x")
  rec:stop()
  rec:stop()
  put(0, 4)
  local words = {}
  for _, e in ipairs(rec:entries()) do
    words[#words + 1] = e.kind == "write" and ("%d+%d%s"):format(e.sector, e.count, e.fua and "!" or "") or e.label or e.kind
  end
  t:assert_eq(table.concat(words, " "), "8+1 9+1 two 128+8 flush 40+1!")
  t:assert_eq(rec:count(), 6)
  t:assert_eq(rec:bytes(), 11 * S)
  t:assert_contains(rec:ended(), "stopped")
  t:assert_contains(tostring(rec), "6 entries")
end)

test("a recording begins with what was not flushed, and ends at its limit or with the power", function(t)
  d:power_cut()
  d:power_on()
  put(8, 2)
  local rec = d:record({limit = 6 * S})
  t:assert_eq(rec:entries()[1].count, 2)
  put(0, 8)
  t:assert_contains(rec:ended(), "more than its limit of 3072 bytes was written")
  t:assert_eq(rec:count(), 5)
  rec:stop()
  rec = d:record()
  d:power_cut({off = true})
  t:assert_eq(rec:ended(), "the power was cut")
  refused(t, function() d:record() end, "disk:record:", "no power")
  d:power_on()
end)

test("a guest that resets itself has flushed nothing", function(t)
  wipe(8)
  local rec = d:record()
  put(0, 2)
  d:inject{op = "flush", delay = "1ms"}
  t:assert_raises(function() vm:run("echo b > /proc/sysrq-trigger; sleep 100") end)
  rec:stop()
  for _, e in ipairs(rec:entries()) do t:assert_neq(e.kind, "flush") end
  t:assert_eq(d:power_cut().unflushed, 2)
  t:assert_eq(text(0, 2), "..")
  t:assert_eq(d:rules()[1].hits, 0)
  d:clear_rules()
  vm:run("true"):assert_ok()
end)

test("bad input", function(t)
  refused(t, function() d:power_cut({keep = "some"}) end, "disk:power_cut: opts.keep `some` is unknown (valid: none, all, prefix, random)")
  refused(t, function() d:power_cut({keep = 1}) end, "keep", "string")
  refused(t, function() d:power_cut({kep = "none"}) end, "unknown option `kep`")
  refused(t, function() d:power_cut("none") end, "table")
  refused(t, function() d:power_cut({keep = "random", seed = 1.5}) end, "seed", "integer")
  refused(t, function() d:power_cut({keep = "prefix", count = -1}) end, "negative")
  refused(t, function() d:power_cut({keep = "random", count = 1}) end, "count", "prefix")
  refused(t, function() d:power_cut({torn = 1}) end, "torn", "true or false")
  refused(t, function() d:power_cut({off = 1}) end, "off", "true or false")
  refused(t, function() d:mark("x") end, "disk:mark", "recording has ended")
  refused(t, function() d:record({limit = "many"}) end, "limit")
  refused(t, function() d:record({size = 1}) end, "unknown option `size`")
  local rec = d:record()
  refused(t, function() d:record() end, "is being recorded already")
  refused(t, function() d:mark() end, "label", "a string or a number")
  refused(t, function() d:mark(("x"):rep(201)) end, "201 bytes")
  refused(t, function() rec:mark({}) end, "recording:mark", "label")
  d:mark(12)
  t:assert_eq(rec:entries()[1].label, "12")
  rec:stop()
  refused(t, function() rec:mark("late") end, "recording has ended: it was stopped")
  local gone = vm:attach_disk({id = "gone", size = "1M"})
  refused(t, function() gone:mark("x") end, "disk:mark: disk `gone`: is not being recorded; disk:record() begins a recording")
  gone:detach()
  refused(t, function() gone:record() end, "disk:record: disk is detached")
  refused(t, function() gone:power_cut() end, "disk:power_cut: disk is detached")
  refused(t, function() gone:power_on() end, "disk is detached")
end)
