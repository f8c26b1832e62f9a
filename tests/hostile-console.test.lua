-- Guests that print what no console should: more than is kept, NULs, invalid UTF-8, escape sequences. The runner's
-- memory stays bounded, the log says what it has lost, limits are kept, and a panic is seen after all that. What
-- terminals and reports show of it is in tests/e2e.

local MiB = 1 << 20
local kept = 64 * MiB -- of a console

local vm = provium:vm("noisy", "host", {memory = "128M"}):boot()
local console = vm:console()

-- memory returns the most memory that this process has had, in bytes.
local function memory()
  local f <close> = assert(io.open("/proc/self/status"))
  return tonumber(f:read("a"):match("VmHWM:%s*(%d+) kB")) << 10
end

vm:write_file("/tmp/lines", (("x"):rep(1023) .. "\n"):rep(1024))

-- flood has the guest print so many MiB on hvc0, which is the faster console, until as many have arrived: QEMU drops
-- what comes faster than it is read.
local function flood(t, size)
  local before, missing, log, lost = memory(), size, "", nil
  for _ = 1, 10 do
    vm:run("i=0; while [ $i -lt " .. missing .. " ]; do cat /tmp/lines; i=$((i + 1)); done > /dev/hvc0; " ..
      "echo the-end > /dev/hvc0", {timeout = "10m"}):assert_ok()
    console:expect("the-end", "10m")
    if log == "" then
      local more = memory() - before
      t:log("more memory: " .. more // MiB .. " MiB")
      t:assert_lt(more, 96 * MiB)
    end
    log = console:read_log()
    lost = tonumber(log:match("\n%[%.%.%. (%d+) bytes of console output cut %.%.%.%]\n"))
    missing = size - (#log + (lost or 0)) // MiB
    if missing <= 0 then break end
  end
  t:assert(lost, "the log does not say that it was cut")
  t:assert_ge(lost, size * MiB - kept)
  t:assert(#log > kept and #log < kept + 100, "the log has " .. #log .. " bytes")
  t:assert_contains(log:sub(-100), "the-end")
end

test("more than a console's log keeps", {timeout = "10m"}, function(t) flood(t, 66) end)

test("200 MB", {slow = true, timeout = "20m"}, function(t) flood(t, 200) end)

test("a panic after the flood is seen", function(t)
  local copy = vm:fork()
  t:expect_kernel("Kernel panic - not syncing: sysrq triggered crash")
  t:assert_contains(t:assert_raises(function() copy:run("echo c > /proc/sysrq-trigger; sleep 1000") end),
    "sysrq triggered crash")
end)

test("a panic amid a flood is seen", function(t)
  local copy = vm:fork()
  t:expect_kernel("Kernel panic - not syncing: sysrq triggered crash")
  copy:run_async("yes flood > /dev/hvc0")
  copy:console():expect("flood")
  t:assert_contains(t:assert_raises(function() copy:run("echo c > /proc/sysrq-trigger; sleep 1000") end),
    "sysrq triggered crash")
end)

test("limits are kept amid a flood", function(t)
  local copy = vm:fork()
  copy:run_async("yes flood > /dev/hvc0")
  copy:console():expect("flood")
  local r = copy:run("echo begun; sleep 1000", {timeout = "2s"})
  t:assert_eq(r.status, "timed_out")
  t:assert_eq(r.stdout, "begun\n")
  t:assert_contains(t:assert_raises(function() copy:console():expect("never", "500ms") end),
    "expect timed out waiting for `never`")
end)

-- On a guest of its own, whose log has room.
test("bytes that are no text", function(t)
  local raw = provium:vm("raw", "host", {memory = "128M"}):boot()
  local own = raw:console()
  local every = {}
  for i = 0, 255 do every[#every + 1] = string.char(i) end
  local bytes = "<" .. table.concat(every) .. "\xc3\xed\xa0\x80\xf8\0\0>\27[2J\27]0;title\7\27P q\27\\end"
  raw:write_file("/tmp/bytes", bytes)
  raw:run("{ stty raw; cat /tmp/bytes >&0; } <> /dev/hvc0"):assert_ok()
  own:expect("\27\\end")
  t:assert_contains(own:read_log(), bytes) -- nothing of it is changed
  for _, line in ipairs(own:lines()) do
    t:assert(not line:find("[%c\127]") or not line:gsub("\t", ""):find("[%c\127]"), ("%q"):format(line))
  end
  raw:run("head -c 300000 /dev/urandom > /dev/hvc0; echo behind > /dev/hvc0"):assert_ok()
  own:expect("behind")
  t:assert_eq(raw:run("echo alive").stdout, "alive\n")
end)

test("a line without an end", function(t)
  local copy = vm:fork()
  local before = memory()
  copy:run("tr '\\000' 'y' < /dev/zero | head -c 8000000 > /dev/hvc0; printf the-last > /dev/hvc0"):assert_ok()
  copy:console():expect("the-last", "60s")
  t:assert_lt(memory() - before, 96 * MiB)
end)
