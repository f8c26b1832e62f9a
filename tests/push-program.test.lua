-- Programs of the host with their libraries, and what is said where a program does not start.

-- programs returns a directory of the host with a program that needs a library beside it.
local function programs(t)
  local dir = os.tmpname()
  os.remove(dir)
  t:defer(function() os.execute("rm -r " .. dir) end)
  assert(os.execute(([[mkdir -p %s/bin %s/lib && cd %s && printf 'int answer(void) { return 42; }' >l.c &&
    printf '#include <stdio.h>\nint answer(void);\nint main(void) { printf("%%%%d\\n", answer()); return 3; }' >p.c &&
    gcc -shared -fPIC -Wl,-soname,libanswer.so.1 -o lib/libanswer.so.1 l.c &&
    gcc -o bin/p p.c lib/libanswer.so.1 '-Wl,-rpath,$ORIGIN/../lib' && printf '#!/bin/bash\n' >bin/script &&
    chmod +x bin/script]]):format(dir, dir, dir)))
  return dir
end

test("a program is pushed with its libraries", function(t)
  local dir, vm = programs(t), provium:vm("v", "host"):boot()
  vm:push_file(dir .. "/bin/p", "/p")
  local loader = "`/p` is linked dynamically, and the guest lacks its loader `/lib64/ld-linux-x86-64.so.2`"
  t:assert_contains(t:assert_raises(function() vm:run("/p"):assert_ok() end), loader)
  t:assert_contains(t:assert_raises(function() vm:run("/p", {}) end), "No such file or directory (ENOENT, os error 2) [errno 2]: " .. loader)
  t:assert_eq(vm:push_program(dir .. "/bin/p", {to = "/opt/x/bin/answer"}), "/opt/x/bin/answer")
  local r = vm:run("/opt/x/bin/answer")
  t:assert_eq(r.stdout, "42\n")
  t:assert_eq(r.exit_code, 3)
  t:assert_eq(vm:stat("/opt/x/lib/libanswer.so.1").entry_type, "file")
  -- The loader names what is missing for the first one.
  local err = t:assert_raises(function() vm:run("/p"):assert_ok() end)
  t:assert_contains(err, "libanswer.so.1: cannot open shared object file")
  t:assert_contains(err, "push_program")
  -- What is there stays.
  vm:write_file("/opt/x/lib/libanswer.so.1", "mine")
  vm:push_program(dir .. "/bin/p", {to = "/opt/x/bin/answer"})
  t:assert_eq(vm:read_file("/opt/x/lib/libanswer.so.1"), "mine")

  t:assert_eq(vm:push_program("/bin/bash"), "/usr/local/bin/bash")
  t:assert_eq(vm:run("bash -c 'a=(1 2 3); echo ${#a[@]}'").stdout, "3\n")
end)

test("what does not start is explained", function(t)
  local dir, vm = programs(t), provium:vm("v", "host"):boot()
  local busybox = "the guest has no program `python3`: its userland is busybox; `userland = \"host\"` has the programs of this machine"
  t:assert_contains(t:assert_raises(function() vm:run("python3 -c 1"):assert_ok() end), busybox)
  t:assert_contains(t:assert_raises(function() vm:run("python3", {"-c", "1"}) end), busybox)
  t:assert_contains(t:assert_raises(function() vm:run_async("python3", {"-c", "1"}) end), busybox)
  vm:push_file(dir .. "/bin/script", "/tmp/script")
  t:assert_contains(t:assert_raises(function() vm:run("./script", {cwd = "/tmp"}):assert_ok() end),
    "`/tmp/script` is a script, and the guest lacks its interpreter `/bin/bash`")
  t:assert_contains(t:assert_raises(function() vm:run("true", {args = {}, cwd = "/none"}) end), "cwd /none")
  -- A command that ends so by itself has no such reason.
  t:assert_eq(vm:run("exit 127").exit_code, 127)
  local err = t:assert_raises(function() vm:run("exit 127"):assert_ok() end)
  t:assert_contains(err, [[command failed: status=exited code=127 stdout="" stderr=""]])
  t:assert(not err:find("the guest", 1, true), err)
  t:assert_error_matches(function() vm:push_program(dir .. "/none") end, "no such file or directory")
  t:assert_error_matches(function() vm:push_program(dir .. "/p.c") end, "is not an executable file")
  t:assert_error_matches(function() vm:push_program(dir .. "/bin/script") end, "is not an ELF program")
  t:assert_error_matches(function() vm:push_program("/bin/bash", {to = "x"}) end, "opts.to must be an absolute path")
end)
