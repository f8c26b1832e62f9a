-- Streams under stress: slow and absent readers, files that vanish, and a guest that ends
-- with everything open.

local vm = provium:vm("bytes", "host"):boot()

local zeros = ("\0"):rep(1 << 20)

-- total reads a stream to its end and returns the number of its bytes and its text without NULs.
local function total(s)
  local n, text = 0, {}
  while true do
    local chunk = s:next("60s")
    if not chunk then
      assert(s:eof(), "nothing has come for a minute")
      return n, table.concat(text)
    end
    n = n + #chunk
    if chunk ~= zeros:sub(1, #chunk) then text[#text + 1] = (chunk:gsub("%z+", "")) end
  end
end

test("a reader that does not read stops the writer, and loses nothing", function(t)
  local size = 100000000
  local p = vm:run_async("dd", {"if=/dev/zero", "bs=100000", "count=" .. size // 100000})
  local s = p:stdout_stream()
  local written, before = -1, nil
  wait_until(function()
    before, written = written, tonumber(vm:read_file("/proc/" .. p:pid() .. "/io"):match("wchar: (%d+)"))
    return written == before and written > 0
  end, {interval = "0.5s", timeout = "60s", desc = "the writer stands still"})
  t:log("the writer was stopped after " .. written .. " bytes")
  -- The guest keeps 64 MiB; little is on its way to the host.
  t:assert(written >= 64 << 20 and written < 80 << 20, written .. " bytes")
  t:assert_eq(p:status(), "running")
  t:assert_eq((total(s)), size)
  t:assert(s:eof())
  local r = p:wait("10s")
  t:assert_eq(#r.stdout, 64 << 20)
  t:assert(r.truncated)
end)

test("who waits for the process does not wait for a slow reader, who is told what was lost", {slow = true}, function(t)
  local size = 150000000
  local p = vm:run_async("dd if=/dev/zero bs=100000 count=" .. size // 100000 .. "; echo end")
  local s = p:stdout_stream()
  t:assert_eq(#p:wait("60s").stdout, 64 << 20)
  local n, text = total(s)
  local lost = tonumber(text:match("%[%.%.%. (%d+) bytes of output lost: the reader was too slow %.%.%.%]"))
  t:assert(lost and lost > 0, "no mark")
  t:assert(text:sub(-4) == "end\n", ("the end is missing: %d bytes, of them %q"):format(n, text))
  t:assert_eq(n - #text + lost, size)
end)

test("output without a newline comes at once", function(t)
  local p = vm:run_async("printf 'no newline'; exec sleep 1000")
  t:assert_eq(p:stdout_stream():read_until("newline"), "no newline")
  local r = vm:run("printf out; printf err >&2; exit 1")
  t:assert_eq(r.stdout .. "|" .. r.stderr, "out|err")
  vm:write_file("/tmp/partial", "")
  local s = vm:tail_file("/tmp/partial")
  vm:run("printf part >> /tmp/partial")
  t:assert_eq(s:read_until("part"), "part")
end)

test("a process that forks and leaves children behind", function(t)
  local p = vm:run_async("(setsid sleep 1000 &) ; (setsid sh -c 'sleep 0.2; exit 3' &) ; echo parent")
  t:assert_eq(p:wait("20s").stdout, "parent\n")
  p:close()
  -- The one that ends is reaped by the guest's init, the other one goes on.
  wait_until(function() return vm:run("pidof sleep").stdout:match("^%d+\n$") end)
  wait_until(function() return vm:run("ps -o stat | grep -c ^Z").stdout == "0\n" end)
  vm:run("killall sleep"):assert_ok()
end)

test("what was written before a file was deleted is not lost", function(t)
  vm:write_file("/tmp/deleted", "first\n")
  local s = vm:tail_file("/tmp/deleted", {start = "beginning"})
  vm:run("exec 3>> /tmp/deleted; echo second >&3; rm /tmp/deleted; echo third >&3"):assert_ok()
  t:assert_eq(s:read_until("third\n"), "first\nsecond\nthird\n")
  t:assert(not s:eof())
  t:assert_eq(s:next("100ms"), nil)
  vm:run("echo reborn > /tmp/deleted")
  t:assert_eq(s:read_until("\n"), "reborn\n")
  vm:run("rm /tmp/deleted")
  s:close()
  t:assert(s:eof())
end)

test("rotations one after the other, by rename and by truncation", function(t)
  vm:write_file("/tmp/rotated", "")
  local s = vm:tail_file("/tmp/rotated")
  for i = 1, 10 do
    vm:run("echo line-" .. i .. " >> /tmp/rotated")
    s:expect("line-" .. i .. "\n")
    vm:run(i % 2 == 0 and "mv /tmp/rotated /tmp/rotated." .. i .. "; : > /tmp/rotated" or ": > /tmp/rotated")
    -- A truncation is seen at the next poll, before which the file must not grow again.
    vm:run("echo after-" .. i .. " >> /tmp/rotated")
    s:expect("after-" .. i .. "\n")
  end
  t:assert_eq(s:next("50ms"), nil)
end)

test("a guest that is killed with everything open", function(t)
  local own = provium:vm("own", "host"):boot()
  local h = own:open_file("/tmp/open", {read = true, write = true, create = true})
  local p = own:run_async("printf seen; exec cat")
  local out, tail, console = p:stdout_stream(), own:tail_file("/tmp/open"), own:console():read()
  local w = own:spawn_worker()
  local child = w:run_async("exec sleep 1000")
  local call = w:syscall_async(34) -- pause
  h:write("appended")
  out:expect("seen")
  tail:expect("appended")
  t:assert_eq(own:open_file_count(), 1)
  t:assert_eq(own:open_stream_count(), 3)
  local errors = table.pack(parallel{
    function() return select(2, pcall(own.run, own, "sleep 1000")) end,
    function() return select(2, pcall(call.await, call)) end,
    function() return select(2, pcall(p.wait, p)) end,
    function() return select(2, pcall(w.syscall, w, 34)) end,
    function() return select(2, pcall(out.expect, out, "never", "60s")) end,
    function() return select(2, pcall(tail.expect, tail, "never", "60s")) end,
    function() return select(2, pcall(own.clock(own).sleep, own:clock(), 1000)) end,
    function()
      console:drain("0.2s")
      assert(os.execute("kill -9 " .. own:cid()))
    end,
  })
  for i = 1, 7 do t:assert_contains(tostring(errors[i]), "qemu ended") end
  t:assert_eq(own:state(), "dead")
  t:assert_eq(own:open_file_count(), 0)
  console:drain("10s")
  t:assert(console:eof())
  local ops = {
    function() h:read(1) end, function() h:tell() end, function() p:status() end, function() p:stdin_write("x") end,
    function() w:syscall(39) end, function() w:run("true") end, function() child:kill() end, function() w:join() end,
    function() own:open_file("/tmp/open", {read = true}) end, function() own:tail_file("/tmp/open") end,
    function() own:clock():get() end, function() own:console():write("x") end, function() own:batch(function(b) b:stat("/") end) end,
  }
  for i, op in ipairs(ops) do t:assert_contains(t:assert_raises(op, "operation " .. i), "dead") end
  for _, x in ipairs{h, p, out, tail, console, w, child} do x:close() end
  t:assert_eq(own:open_stream_count(), 0)
  own:shutdown()
  own:boot()
  t:assert_eq(own:run("echo again").stdout, "again\n")
end)

test("nothing is left", function(t)
  t:assert(vm:is_quiescent())
end)
