-- Workers: processes of the guest with their own credentials and namespaces.

local vm = provium:vm("work", "host"):boot()

local GETPID, GETUID, SETRESUID, SETRESGID, UNSHARE, MOUNT, UMASK = 39, 102, 117, 119, 272, 165, 95
local CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER = 0x20000, 0x04000000, 0x10000000

test("a worker is a process of its own", function(t)
  local a, b = vm:spawn_worker(), vm:spawn_worker()
  local pa, pb, pv = a:syscall(GETPID).ret, b:syscall(GETPID).ret, vm:syscall(GETPID).ret
  t:assert(pa ~= pb and pb ~= pv)
  a:syscall(UMASK, 63)
  t:assert_eq(b:syscall(UMASK, 18).ret, 18)
  t:assert_eq(#vm:listdir("/proc/" .. pa .. "/task"), 1)
  t:assert_eq(a:run("echo $PPID").stdout, b:run("echo $PPID").stdout)
end)

test("workers and commands are born from the VM's executor", function(t)
  t:assert_eq(vm:syscall(UMASK, 63).ret, 18)
  t:assert_eq(vm:syscall(80, {bufs = {"/tmp\0"}, ptrs = {0}}).ret, 0) -- chdir
  t:assert_eq(vm:syscall(UNSHARE, CLONE_NEWUTS).ret, 0)
  t:assert_eq(vm:syscall(170, {args = {0, 4}, bufs = {"born"}, ptrs = {0}}).ret, 0) -- sethostname
  t:assert_eq(vm:syscall(160, {args = {7}, bufs = {string.pack("<i8i8", 99, 99)}, ptrs = {1}}).ret, 0) -- setrlimit
  local w = vm:spawn_worker()
  local look, want = "umask; pwd; uname -n; ulimit -n", "0077\n/tmp\nborn\n99\n"
  for _, by in ipairs{vm, w} do
    t:assert_eq(by:run(look).stdout, want)
    t:assert_eq(by:run("sh", {"-c", look}).stdout, want)
    t:assert_eq(by:run_async(look):wait().stdout, want)
    t:assert_eq(by:run("cat; pwd", {cwd = "/", stdin = "in\n"}).stdout, "in\n/\n")
  end
  t:assert_eq(vm:batch(function(b) b:run(look) end)[1].ok.stdout, want)
  vm:syscall(SETRESUID, 77, 77, 77)
  t:assert_eq(vm:run("id -u").stdout, "77\n")
  t:assert_eq(w:run("id -u").stdout, "0\n")
  t:assert_eq(vm:spawn_worker():syscall(GETUID).ret, 77)
  t:assert_contains(t:assert_raises(function() vm:run("id", {user = 1}) end), "user 1: Operation not permitted")
  t:assert_raises(function() vm:syscall(231, 0) end)
  t:assert_eq(vm:run("umask; pwd; id -u").stdout, "0022\n/\n0\n")
end)

test("sessions and process groups are the agent's unless setsid", function(t)
  local GETPGRP, GETSID = 111, 124
  local w = vm:spawn_worker()
  local group, session = vm:syscall(GETPGRP).ret, vm:syscall(GETSID, 0).ret
  t:assert_eq(w:syscall(GETPGRP).ret, group)
  t:assert_eq(w:syscall(GETSID, 0).ret, session)
  local look = "cut -d' ' -f5,6 /proc/$$/stat"
  local same = group .. " " .. session .. "\n"
  t:assert_eq(vm:run("cut -d' ' -f5,6 /proc/$PPID/stat").stdout, same)
  for _, by in ipairs{vm, w} do
    t:assert_eq(by:run(look).stdout, same)
    t:assert_eq(by:run_async(look):wait().stdout, same)
    for _, opts in ipairs{{setsid = true}, {setsid = true, kill_session = true}} do
      local own, is = by:run("echo $$ $$; " .. look, opts).stdout:match("^(.-\n)(.*)$")
      t:assert_eq(is, own)
    end
  end
end)

test("a credential drop is inherited by its children", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(SETRESGID, 77, 77, 77).ret, 0)
  t:assert_eq(w:syscall(SETRESUID, 77, 77, 77).ret, 0)
  t:assert_eq(w:run("id -u; id -g").stdout, "77\n77\n")
  t:assert_contains(t:assert_raises(function() w:open_file("/etc/new", {write = true, create = true}) end), "EACCES")
  t:assert_eq(vm:syscall(GETUID).ret, 0)
end)

test("a user and mount namespace", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(SETRESGID, 1000, 1000, 1000).ret, 0)
  t:assert_eq(w:syscall(SETRESUID, 1000, 1000, 1000).ret, 0)
  t:assert_eq(w:syscall(157, 4, 1).ret, 0) -- PR_SET_DUMPABLE: /proc/self is ours again
  local r = w:syscall(UNSHARE, CLONE_NEWUSER | CLONE_NEWNS)
  t:assert_eq(r.errno, 0)
  w:open_file("/proc/self/setgroups", {write = true}):write("deny")
  w:open_file("/proc/self/uid_map", {write = true}):write("0 1000 1\n")
  w:open_file("/proc/self/gid_map", {write = true}):write("0 1000 1\n")
  t:assert_eq(w:syscall(GETUID).ret, 0)
  local mount = w:syscall(MOUNT, {bufs = {"none\0", "/tmp\0", "tmpfs\0"}, ptrs = {0, 1, 2}})
  t:assert_eq(mount.errno, 0)
  w:run("echo inside > /tmp/only-here"):assert_ok()
  t:assert_eq(w:run("cat /tmp/only-here").stdout, "inside\n")
  t:assert_contains(t:assert_raises(function() vm:stat("/tmp/only-here") end), "ENOENT")
end)

test("run, run_async, kill and join", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:run("echo", {"a b"}).stdout, "a b\n")
  t:assert_eq(w:run("exit 4").exit_code, 4)
  t:assert_eq(w:run("cat; readlink /proc/$$/fd/0").stdout, "/dev/null\n")
  t:assert_eq(w:run("sleep 1000", {timeout = "200ms"}).status, "timed_out")
  t:assert_contains(t:assert_raises(function() w:run("no-such-program", {}) end), "No such file")
  t:assert_contains(t:assert_raises(function() w:run_async("true", {timeout = 1}) end), "proc:wait(timeout)")
  w:kill()
  w:run_async("exit 3")
  w:run_async("exit 5")
  t:assert_eq(w:join(), 5)
  t:assert_raises(function() w:join() end)
  local v = vm:spawn_worker()
  local p = v:run_async("sleep 1000")
  v:kill("term")
  t:assert_eq(p:wait("10s").signal, 15)
  t:assert_contains(t:assert_raises(function() v:kill({}) end), "signal must be int or string, got table")
  t:assert_contains(t:assert_raises(function() v:kill("nope") end), "unknown signal name `nope`")
end)

test("files and descriptors belong to their worker", function(t)
  local w = vm:spawn_worker()
  local h = w:open_file("/tmp/w", {read = true, write = true, create = true})
  h:write("data")
  t:assert_eq(vm:open_file_count(), 1)
  t:assert_eq(w:syscall(8, h:fd(), 0, 0).ret, 0) -- lseek
  t:assert_eq(h:read(4), "data")
  t:assert_contains(t:assert_raises(function() vm:fd_stream(h) end), "another vm or worker")
  w:close()
  t:assert_contains(t:assert_raises(function() w:syscall(GETPID) end), "worker is closed")
end)

test("file operations use the worker's credentials", function(t)
  local w = vm:spawn_worker()
  w:mkdir("/tmp/wd/a/b", {parents = true})
  w:mkdir("/tmp/wd/a/b", {parents = true})
  w:mkdir("/tmp/wd/private", {perm = 0x1c0})
  w:write_file("/tmp/wd/f", ("x"):rep(3000000))
  t:assert_eq(#w:read_file("/tmp/wd/f"), 3000000)
  local st, same = w:stat("/tmp/wd/f"), vm:stat("/tmp/wd/f")
  for _, key in ipairs{"size", "mtime_ns", "perm", "entry_type"} do t:assert_eq(st[key], same[key]) end
  w:rename("/tmp/wd/f", "/tmp/wd/g")
  local names = {}
  for _, e in ipairs(w:listdir("/tmp/wd")) do names[e.name] = e.entry_type end
  t:assert_eq(names.g, "file")
  t:assert_eq(names.a, "directory")
  w:syscall(SETRESUID, 77, 77, 77)
  t:assert_contains(t:assert_raises(function() w:listdir("/tmp/wd/private") end), "EACCES")
  t:assert_contains(t:assert_raises(function() w:write_file("/tmp/wd/g", "") end), "EACCES")
  vm:unlink("/tmp/wd/g")
  vm:unlink("/tmp/wd/private")
  t:assert_contains(t:assert_raises(function() w:stat("/tmp/wd/g") end), "ENOENT")
end)

test("a worker's errors are those of the VM", function(t)
  local w = vm:spawn_worker()
  vm:run("truncate -s 104857600 /tmp/large"):assert_ok()
  for needle, op in pairs{
    ["File too large"] = function(on) on:read_file("/tmp/large") end,
    ["use tail_file or open_file"] = function(on) on:read_file("/tmp/large") end,
    ["read_file /tmp/none: No such file or directory (ENOENT, os error 2) [errno 2]"] = function(on) on:read_file("/tmp/none") end,
    ["listdir /tmp/large: Not a directory (ENOTDIR, os error 20) [errno 20]"] = function(on) on:listdir("/tmp/large") end,
    ["mkdir /tmp/large: Not a directory (ENOTDIR, os error 20) [errno 20]"] = function(on) on:mkdir("/tmp/large", {parents = true}) end,
    ["mkdir /tmp/large: File exists (EEXIST, os error 17) [errno 17]"] = function(on) on:mkdir("/tmp/large") end,
    ["rename /tmp/none -> /tmp/x: No such file or directory (ENOENT, os error 2) [errno 2]"] = function(on) on:rename("/tmp/none", "/tmp/x") end,
    ["unlink /tmp/none: No such file or directory (ENOENT, os error 2) [errno 2]"] = function(on) on:unlink("/tmp/none") end,
    ["tail_file /tmp: Is a directory (EISDIR, os error 21) [errno 21]"] = function(on) on:tail_file("/tmp") end,
    ["cwd /none: No such file or directory (ENOENT, os error 2) [errno 2]"] = function(on) on:run_async("true", {cwd = "/none"}) end,
    ["run_async no-such-program: No such file"] = function(on) on:run_async("no-such-program", {}) end,
    ["an integer or a file, got string"] = function(on) on:fd_stream("x") end,
    ["EBADF"] = function(on) on:fd_stream(900) end,
  } do
    for _, on in ipairs{vm, w} do t:assert_contains(t:assert_raises(function() op(on) end), needle) end
  end
  vm:unlink("/tmp/large")
  t:assert_contains(t:assert_raises(function() w:run("id", {user = 77}) end), "`user` is not possible")
  t:assert_eq(w:run("cat", {stdin = "in"}).stdout, "in")
  t:assert_eq(w:run("pwd; echo $X $HOME", {cwd = "/tmp", env = {X = "y"}}).stdout, "/tmp\ny /root\n")
  t:assert_eq(w:run("/bin/busybox", {args = {"env"}, env = {ONLY = "this"}, env_clear = true}).stdout, "ONLY=this\n")
end)

test("files are pushed, pulled and followed with the worker's credentials and namespaces", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(UNSHARE, CLONE_NEWNS).ret, 0)
  t:assert_eq(w:syscall(MOUNT, {args = {0, 0, 0, 0x44000}, bufs = {"none\0", "/\0"}, ptrs = {0, 1}}).ret, 0) -- private, all below
  t:assert_eq(w:syscall(MOUNT, {bufs = {"none\0", "/mnt\0", "tmpfs\0"}, ptrs = {0, 1, 2}}).ret, 0)
  local host = os.tmpname()
  local f = assert(io.open(host, "wb"))
  f:write(("pushed\0"):rep(300000))
  f:close()
  w:push_file(host, "/mnt/pushed", {perm = 0x1c0})
  t:assert_eq(w:stat("/mnt/pushed").perm, 0x1c0)
  t:assert_contains(t:assert_raises(function() vm:stat("/mnt/pushed") end), "ENOENT")
  w:pull_file("/mnt/pushed", host .. ".back")
  f = assert(io.open(host .. ".back", "rb"))
  t:assert(f:read("a") == ("pushed\0"):rep(300000))
  f:close()
  os.remove(host)
  os.remove(host .. ".back")
  -- A tail follows the file as the worker sees it, also after a rotation.
  w:write_file("/mnt/log", "old\n")
  local s = w:tail_file("/mnt/log")
  w:run("echo new >> /mnt/log; mv /mnt/log /mnt/log.1; echo next > /mnt/log"):assert_ok()
  t:assert_eq(s:read_until("next\n"), "new\nnext\n")
  w:write_file("/mnt/secret", "")
  w:syscall(90, {args = {0, 0}, bufs = {"/mnt/secret\0"}, ptrs = {0}}) -- chmod 0
  w:syscall(SETRESUID, 77, 77, 77)
  t:assert_contains(t:assert_raises(function() w:tail_file("/mnt/secret") end), "EACCES")
  t:assert_contains(t:assert_raises(function() w:push_file("worker.test.lua", "/etc/no") end), "EACCES")
  t:assert_contains(t:assert_raises(function() w:pull_file("/mnt/secret", host) end), "EACCES")
  t:assert_contains(t:assert_raises(function() w:push_file("no-such-file", "/mnt/no") end), "/tests/no-such-file")
end)

test("kill reaches a command that another task runs, and a wait does not hide a process from signals", function(t)
  local w = vm:spawn_worker()
  local r = parallel{
    function() return w:run("exec sleep 1000") end,
    function()
      wait_until(function() return vm:run("pidof sleep"):ok() end)
      w:kill()
    end,
  }
  t:assert_eq(r.signal, 15)
  local p = w:run_async("exec sleep 1000")
  r = parallel{
    function() return p:wait() end,
    function()
      wait_until(function() return vm:run("pidof sleep"):ok() end)
      p:kill("int")
    end,
  }
  t:assert_eq(r.signal, 2)
end)

test("the files of a worker go with it", function(t)
  local w, other = vm:spawn_worker(), vm:spawn_worker()
  local h = w:open_file("/proc/version", {read = true})
  local kept = other:open_file("/proc/version", {read = true})
  t:assert_eq(vm:open_file_count(), 2)
  w:close()
  t:assert_eq(vm:open_file_count(), 1)
  t:assert_contains(t:assert_raises(function() h:read(1) end), "worker is closed")
  t:assert_contains(t:assert_raises(function() other:syscall(231, 0) end), "exited with code 0")
  t:assert_eq(vm:open_file_count(), 0)
  t:assert_raises(function() kept:read(1) end)
end)

test("a dead worker gives an error, not a hang", function(t)
  local w = vm:spawn_worker()
  t:assert_contains(t:assert_raises(function() w:syscall(231, 9) end), "worker exited with code 9")
  t:assert_contains(t:assert_raises(function() w:syscall(GETPID) end), "worker exited with code 9")
end)

test("a hundred workers", function(t)
  for _ = 1, 100 do
    local w = vm:spawn_worker()
    t:assert_eq(w:syscall(UNSHARE, CLONE_NEWUTS).ret, 0)
    t:assert_eq(w:join(), 0)
    w:close()
  end
end)

test("workers work side by side", function(t)
  vm:run("mkfifo /tmp/one /tmp/two"):assert_ok()
  -- Each open waits for an open of the other end, so in sequence they would never return.
  local function opens(path, flags)
    local w = vm:spawn_worker()
    return function() return w:syscall(2, {args = {0, flags}, bufs = {path .. "\0"}, ptrs = {0}}).ret end
  end
  local fds = {parallel {opens("/tmp/one", 0), opens("/tmp/two", 0), opens("/tmp/two", 1), opens("/tmp/one", 1)}}
  for i = 1, 4 do t:assert(fds[i] >= 0, "open " .. i) end
end)

test("options", function(t)
  t:assert(vm:spawn_worker{thread = false}:handle() > 0)
  t:assert_contains(t:assert_raises(function() vm:spawn_worker{thread = true} end), "`thread=true` is not yet supported")
  t:assert_contains(t:assert_raises(function() vm:spawn_worker{name = "x"} end), "unknown option `name`")
end)

test("nothing is left of ended tests", function(t)
  t:assert(vm:is_quiescent())
  t:assert_eq(vm:run("ps -o args | grep -c '@[p]rovium-executor'").stdout, "1\n")
end)
