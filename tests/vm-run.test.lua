-- vm:run and its result. All tests use one guest.

local vm = provium:vm("runner", "host"):boot()

test("text alone runs in a shell", function(t)
  local r = vm:run("echo $((6 * 7)); echo oops >&2; exit 3")
  t:assert_eq(r.stdout, "42\n")
  t:assert_eq(r.stderr, "oops\n")
  t:assert_eq(r.exit_code, 3)
  t:assert_eq(r.status, "exited")
  t:assert_eq(r.signal, nil)
  t:assert_eq(r.timed_out, false)
  t:assert(not r:ok())
end)

test("an array runs the program directly, without a shell", function(t)
  t:assert_eq(vm:run("echo", {"$HOME", "a  b"}).stdout, "$HOME a  b\n")
  t:assert_eq(vm:run("echo", {}).stdout, "\n")
  t:assert_eq(vm:run("echo", {1, 2.5}).stdout, "1 2.5\n")
end)

test("options keep the shell unless args is there", function(t)
  t:assert_eq(vm:run("pwd; echo $0", {cwd = "/tmp"}).stdout:match("^[^\n]+"), "/tmp")
  t:assert_eq(vm:run("echo", {args = {"$X"}, env = {X = "y"}}).stdout, "$X\n")
  t:assert_eq(vm:run("echo $X-$HOME", {env = {X = "y"}}).stdout, "y-/root\n")
  t:assert_contains(t:assert_raises(function() vm:run("pwd", {cwd = "/etc/passwd"}) end),
    "cwd /etc/passwd: Not a directory (ENOTDIR, os error 20) [errno 20]")
end)

test("the environment of a command is known", function(t)
  local r = vm:run("echo $PATH; echo $TERM; echo $LANG; umask; pwd")
  t:assert_eq(r.stdout, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nlinux\nC.UTF-8\n0022\n/\n")
end)

test("env_clear leaves only env", function(t)
  local r = vm:run("/bin/busybox", {args = {"env"}, env = {ONLY = "this"}, env_clear = true})
  t:assert_eq(r.stdout, "ONLY=this\n")
end)

test("stdin is fed and ends", function(t)
  t:assert_eq(vm:run("readlink /proc/$$/fd/0").stdout, "/dev/null\n")
  t:assert_eq(vm:run("cat", {stdin = "a\0b\n"}).stdout, "a\0b\n")
  t:assert_eq(vm:run("wc -c").stdout:match("%d+"), "0")
end)

test("a signal is reported as such", function(t)
  local r = vm:run("kill -KILL $$")
  t:assert_eq(r.status, "signalled")
  t:assert_eq(r.signal, 9)
  t:assert_eq(r.exit_code, -1)
  t:assert_contains(t:assert_raises(function() r:assert_ok() end), "status=signalled signal=9 (SIGKILL)")
end)

test("a timeout kills the group and keeps the output so far", function(t)
  local r = vm:run("echo begun; sleep 1000 & sleep 1000", {timeout = "500ms"})
  t:assert_eq(r.status, "timed_out")
  t:assert(r.timed_out)
  t:assert_eq(r.exit_code, -2)
  t:assert_eq(r.stdout, "begun\n")
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)

-- Two sleeps of three sessions: one below the other, and one that init adopts.
local scattered = "setsid sh -c 'sleep 1111; :' & sh -c 'setsid sleep 2222 &'; echo begun; sleep 1111"

test("a limit ends descendants in any session, and daemons with kill_session", function(t)
  for _, ends in ipairs{
    function(opts) return vm:run(scattered, {timeout = "500ms", kill_session = opts.kill_session}) end,
    function(opts)
      local p = vm:run_async(scattered, opts)
      p:stdout_stream():expect("begun\n")
      return p:wait("1ms")
    end,
  } do
    for _, kill in ipairs{true, false} do
      local r = ends{kill_session = kill}
      t:assert_eq(r.status, "timed_out")
      t:assert_eq(r.stdout, "begun\n")
      local left = vm:run("ps -o args | grep '^sleep'").stdout
      t:assert_eq(left, kill and "" or "sleep 2222\n")
    end
    vm:run("killall sleep"):assert_ok()
  end
  local p = vm:run_async(scattered, {kill_session = true})
  p:stdout_stream():expect("begun\n")
  -- A process that is only just about to leave the session is not found yet.
  wait_until(function() return select(2, vm:run("pidof sleep").stdout:gsub("%d+", "")) == 3 end)
  p:kill()
  t:assert_eq(p:wait().signal, 15)
  wait_until(function() return not vm:run("pidof sleep"):ok() end)
end)

test("a script that signals its own group does not end the guest", function(t)
  t:assert_eq(vm:run("trap 'exit 3' TERM; kill 0; sleep 1000", {setsid = true}).exit_code, 3)
  t:assert_eq(vm:run("kill 0; sleep 1000").signal, 15)
  t:assert_eq(vm:run("echo on").stdout, "on\n")
end)

test("commands start while the executor is in a call, and raise when it is stopped", function(t)
  local READ, PIPE, GETPID, KILL, UMASK = 0, 22, 39, 62, 95
  local from, to = string.unpack("<i4i4", vm:syscall(PIPE, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1])
  local pid = vm:syscall(GETPID).ret
  vm:syscall(UMASK, 63)
  local read, umask, worker
  parallel{
    function() read = vm:syscall(READ, {args = {from, 0, 1}, bufs = {"\0"}, ptrs = {1}}) end,
    function()
      wait_until(function() return vm:run("grep -q '^0 ' /proc/" .. pid .. "/syscall"):ok() end)
      umask = vm:run("umask").stdout
      worker = vm:spawn_worker():syscall(UMASK, 0).ret
      vm:run("echo x >/proc/" .. pid .. "/fd/" .. to):assert_ok()
    end,
  }
  t:assert_eq(read.ret, 1)
  t:assert_eq(umask, "0077\n")
  t:assert_eq(worker, 63)
  local w = vm:spawn_worker()
  w:syscall(KILL, pid, 19)
  wait_until(function() return vm:read_file("/proc/" .. pid .. "/status"):find("State:\tT", 1, true) end)
  local text = "the VM's executor (process " .. pid .. ") is stopped"
  t:assert_contains(t:assert_raises(function() vm:run("true") end), text)
  t:assert_contains(t:assert_raises(function() vm:spawn_worker() end), text)
  w:syscall(KILL, pid, 18)
  t:assert_eq(vm:run("umask").stdout, "0077\n")
  vm:syscall(UMASK, 18)
end)

test("run returns when the process ends, whatever its children do", function(t)
  local r = vm:run("sleep 1000 & echo done")
  t:assert_eq(r.stdout, "done\n")
  vm:run("killall sleep")
end)

test("output is byte-exact, also two megabytes on both streams", function(t)
  t:assert_eq(vm:run([[printf '\000\377\n']]).stdout, "\0\xff\n")
  local r = vm:run("dd if=/dev/zero bs=100000 count=20 status=none; dd if=/dev/zero bs=100000 count=20 status=none >&2")
  t:assert_eq(r.stdout, ("\0"):rep(2000000))
  t:assert_eq(#r.stderr, 2000000)
end)

test("a missing program raises directly and is 127 in a shell", function(t)
  t:assert_contains(t:assert_raises(function() vm:run("no-such-program", {}) end), "No such file")
  t:assert_eq(vm:run("no-such-program").exit_code, 127)
end)

test("assert_ok gives the result or says what happened", function(t)
  local r = vm:run("true")
  t:assert_eq(r:assert_ok(), r)
  local err = t:assert_raises(function() vm:run("echo out; echo err >&2; exit 4"):assert_ok() end)
  t:assert_contains(err, [[command failed: status=exited code=4 stdout="out\n" stderr="err\n"]])
end)

test("tostring of a result is short", function(t)
  t:assert_eq(tostring(vm:run("printf abc")), "RunResult{ status=exited, stdout=<3 bytes>, stderr=<0 bytes> }")
end)

test("a command can run as another user", function(t)
  t:assert_eq(vm:run("id -u", {user = 1234}).stdout, "1234\n")
end)

test("run refuses what it does not understand", function(t)
  local function refused(needle, ...)
    local args = table.pack(...)
    local err = t:assert_raises(function() vm:run(table.unpack(args, 1, args.n)) end)
    t:assert_contains(err, needle)
  end
  refused("expects at least a command string")
  refused("first argument must be a string", 7)
  refused("second argument must be a table, got string", "ls", "-l")
  refused("timout", "true", {timout = 5})
  refused("valid: args", "true", {timout = 5})
  refused("array", "true", {"x", cwd = "/"})
  refused("finite, non-negative", "true", {timeout = -1})
  refused("finite, non-negative", "true", {timeout = 0 / 0})
  refused("cannot parse", "true", {timeout = "10"})
  refused("timeout_ms", "true", {timeout = 1, timeout_ms = 1})
  refused("NUL", "echo a\0b")
  refused("args", "echo", {args = {{}}})
  refused("env", "echo", {env = {A = {}}})
  refused("opts.setsid must be", "true", {setsid = 1})
  refused("opts.kill_session must be", "true", {kill_session = "yes"})
end)

test("a dot instead of a colon is explained", function(t)
  t:assert_contains(t:assert_raises(function() vm.run("true") end), ":")
end)

test("methods are plain functions with an identity", function(t)
  t:assert_eq(vm.run, vm.run)
  local ok, r = pcall(vm.run, vm, "echo fine")
  t:assert(ok)
  t:assert_eq(r.stdout, "fine\n")
end)

test("an unknown method names the type and the closest one", function(t)
  local err = t:assert_raises(function() vm:rum("true") end)
  t:assert_contains(err, "rum")
  t:assert_contains(err, "run")
end)
