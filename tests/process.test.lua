-- vm:run_async and the methods of a process.

local vm = provium:vm("proc", "host"):boot()

test("a process runs beside the test and is waited for", function(t)
  local p = vm:run_async("sort")
  t:assert_eq(p:status(), "running")
  t:assert_eq(p:stdin_write("b\na\n"), 4)
  p:close_stdin()
  local r = p:wait("10s")
  t:assert_eq(r.stdout, "a\nb\n")
  t:assert_eq(r.status, "exited")
  t:assert_contains(t:assert_raises(function() p:wait() end), "already waited")
  t:assert_contains(t:assert_raises(function() p:kill() end), "exited")
  t:assert_contains(t:assert_raises(function() p:stdin_write("x") end), "exited")
  t:assert_eq(p:status(), "exited")
  t:assert(p:pid() > 1)
end)

test("all forms of run are taken, but no timeout", function(t)
  t:assert_eq(vm:run_async("echo", {"$HOME"}):wait().stdout, "$HOME\n")
  t:assert_eq(vm:run_async("echo $X", {env = {X = "y"}, cwd = "/tmp"}):wait().stdout, "y\n")
  t:assert_eq(vm:run_async("id -u", {user = 77}):wait().stdout, "77\n")
  for _, key in ipairs{"timeout", "timeout_ms"} do
    t:assert_contains(t:assert_raises(function() vm:run_async("true", {[key] = 5}) end), "proc:wait(timeout)")
  end
  t:assert_contains(t:assert_raises(function() vm:run_async("no-such-program", {}) end), "No such file")
  t:assert_eq(vm:run_async("no-such-program"):wait().exit_code, 127)
end)

test("stdin gives the first bytes and stays open", function(t)
  local p = vm:run_async("cat", {stdin = "one\n"})
  p:stdin_write("two\n")
  p:close_stdin()
  t:assert_contains(t:assert_raises(function() p:stdin_write("x") end), "closed")
  t:assert_eq(p:wait("10s").stdout, "one\ntwo\n")
end)

test("an expired wait kills the group", function(t)
  local p = vm:run_async("echo begun; sleep 1000 & sleep 1000")
  p:stdout_stream():expect("begun\n")
  local r = p:wait("300ms")
  t:assert_eq(r.status, "timed_out")
  t:assert_eq(r.exit_code, -2)
  t:assert_eq(r.stdout, "begun\n")
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)

test("signals by number, name and numeric string", function(t)
  local p = vm:run_async("trap 'echo usr1' USR1; trap 'echo hup; exit 3' HUP; echo ready; while :; do sleep 0.05; done")
  local out = p:stdout_stream()
  out:expect("ready\n")
  for _, sig in ipairs{"usr1", "SIGUSR1", "Usr1", 10, "10"} do
    p:signal(sig)
    out:expect("usr1\n")
  end
  p:kill("hup")
  t:assert_eq(p:wait("10s").exit_code, 3)
  local q = vm:run_async("sleep", {1000})
  q:kill()
  local r = q:wait("10s")
  t:assert_eq(r.signal, 15)
  t:assert_eq(r.status, "signalled")
  t:assert_eq(q:status(), "signalled")
end)

test("bad arguments are named", function(t)
  local p = vm:run_async("sleep 1000")
  local function refused(needle, fn) t:assert_contains(t:assert_raises(fn), needle) end
  refused("timeout=0 would SIGKILL", function() p:wait(0) end)
  refused("finite, non-negative", function() p:wait(-1) end)
  refused("finite, non-negative", function() p:wait(0 / 0) end)
  refused("signal must be int or string, got table", function() p:kill({}) end)
  refused("unknown signal name `sigfoo`", function() p:kill("sigfoo") end)
  refused("between 1 and 64, got 65", function() p:signal(65) end)
  refused("between 1 and 64, got 0", function() p:signal("0") end)
  refused("must be a string, got number", function() p:stdin_write(7) end)
  refused("proc:wait: argument 1 (timeout): duration: cannot parse `x`", function() p:wait("x") end)
  refused("signal must be int or string, got nil", function() p:signal() end)
  refused("signal must be int or string, got boolean", function() p:kill(true) end)
  refused("signal must be int or string, got 15.5", function() p:kill(15.5) end)
  local ended = vm:run_async("exit 0")
  wait_until(function() return ended:status() == "exited" end)
  refused("proc:kill: the process has exited", function() ended:kill() end)
  refused("proc:stdin_write: the process has exited", function() ended:stdin_write("x") end)
  t:assert_contains(tostring(p), "process(proc#" .. p:handle() .. ")")
end)

local left

-- runs reports whether a process with these words in its command line runs.
local function runs(words) return vm:run("ps -o args | grep -v grep | grep -qF -- '" .. words .. "'"):ok() end

test("what a test leaves running", function(t)
  left = vm:run_async("exec sleep 12345")
  vm:run_async("trap '' TERM; while :; do sleep 54321; done")
  wait_until(function() return runs("sleep 54321") end)
end)

test("is gone after it, and its children are reaped", function(t)
  t:assert(not runs("sleep 12345"))
  t:assert(not runs("sleep 54321"))
  t:assert_eq(vm:run("ps -o stat | grep -c ^Z").stdout, "0\n")
  t:assert_raises(function() left:status() end)
end)

test("a closed process says so", function(t)
  local p = vm:run_async("exec sleep 1000")
  p:close()
  p:close()
  for _, op in ipairs{"wait", "kill", "status", "pid", "close_stdin", "stdout_stream"} do
    t:assert_contains(t:assert_raises(function() p[op](p) end), "process is closed")
  end
  local q = vm:run_async("exit 3")
  local pid = q:pid()
  q:wait()
  q:close()
  t:assert_eq(q:status(), "exited")
  t:assert_eq(q:pid(), pid)
end)

test("background children of a process do not hold its wait up", function(t)
  local p = vm:run_async("sleep 1000 & echo done")
  t:assert_eq(p:wait("20s").stdout, "done\n")
  vm:run("killall sleep")
end)

test("more than 64 MiB of output is cut and marked", function(t)
  local r = vm:run_async("dd if=/dev/zero bs=100000 count=700 status=none; echo end >&2"):wait("60s")
  t:assert_eq(#r.stdout, 64 << 20)
  t:assert(r.truncated)
  t:assert_eq(r.stderr, "end\n")
end)

test("a hundred processes at once", function(t)
  local all = {}
  for i = 1, 100 do all[i] = vm:run_async("read x; echo $x " .. i) end
  for i = 1, 100 do all[i]:stdin_write("line\n") end
  for i = 1, 100 do t:assert_eq(all[i]:wait("60s").stdout, "line " .. i .. "\n") end
end)

test("what existed at a snapshot works in the guest restored from it", function(t)
  local own = provium:vm("kept", "host"):boot()
  local p = own:run_async("read a; echo got $a")
  local h = own:open_file("/tmp/kept", {read = true, write = true, create = true})
  h:write("before")
  local w = own:spawn_worker()
  w:syscall(95, 63) -- umask
  local live = p:stdout_stream()
  t:assert_contains(t:assert_raises(function() own:snapshot() end), "proc_stdout_stream(" .. p:handle() .. ") at ")
  live:close()
  local snap = own:snapshot()
  local later = own:run_async("sleep 1000")
  h:write(" and after")
  own:shutdown()
  own:restore(snap)
  t:assert_eq(h:tell(), 6)
  t:assert_eq(w:syscall(95, 18).ret, 63)
  p:stdin_write("it\n")
  t:assert_eq(p:wait("20s").stdout, "got it\n")
  t:assert_contains(t:assert_raises(function() later:status() end), "restored")
end)
