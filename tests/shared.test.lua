-- Directories of the host that guests write to (rw of a profile).

local host = "dist/profiles/shared/"

local function content(path)
  local f = io.open(host .. path)
  if not f then return nil end
  local text <close> = f
  return text:read("a")
end

local function put(path, text)
  local f <close> = assert(io.open(host .. path, "w"))
  f:write(text)
end

test("both sides write, and each sees what the other has written", function(t)
  local vm = provium:vm("v", "shared"):boot()
  t:assert_contains(vm:read_file("/proc/mounts"), "share0 /srv/files virtiofs rw")
  t:assert_eq(#vm:listdir("/srv/files"), 0) -- nothing else of the host
  vm:write_file("/srv/files/of-guest", "from the guest\n")
  t:assert_eq(content("files/of-guest"), "from the guest\n")
  put("files/of-host", "from the host\n")
  t:assert_eq(vm:read_file("/srv/files/of-host"), "from the host\n")
  -- What the host has at the same path.
  local p <close> = assert(io.popen("cd " .. host .. "same && pwd"))
  local same = p:read("l")
  vm:run("mkdir d && ln -s target d/link && echo $((6 * 7)) >d/answer && chmod 755 d/answer && mv d e", {cwd = same})
    :assert_ok()
  t:assert_eq(content("same/e/answer"), "42\n")
  t:assert(os.execute(("test -x %ssame/e/answer -a -L %ssame/e/link"):format(host, host)))
  -- A program that is made there runs there; the linker maps what it writes.
  put("files/p.c", "#include <stdio.h>\nint main(void) { puts(\"made there\"); }\n")
  t:assert_eq(vm:run("cd /srv/files && gcc -o p p.c && ./p"):assert_ok().stdout, "made there\n")
  -- Nothing above the directory can be reached, and no device can be made.
  vm:run("ln -s ../../profile.provium.toml /srv/files/up; ! cat /srv/files/up 2>/dev/null"):assert_ok()
  t:assert_contains(vm:run("mknod /srv/files/null c 1 3; :").stderr, "Operation not permitted")
  -- The guest that comes after a reset has them, too.
  vm:reset()
  t:assert_eq(vm:read_file("/srv/files/of-guest"), "from the guest\n")
end)

test("a guest with shared directories is not saved, and says why", function(t)
  local vm = provium:vm("v", "shared"):boot()
  for what, f in pairs{snapshot = function() vm:snapshot() end, fork = function() vm:fork() end} do
    t:assert_error_matches(f, "vm `v` cannot be saved: it shares directories of the host for writing %(`rw`%)", what)
  end
  -- It runs on.
  vm:write_file("/srv/files/after", "x")
  t:assert_eq(content("files/after"), "x")
  t:assert_error_matches(function() provium:vm("d", "shared", {deterministic = true}):boot() end,
    "rw: .* deterministic or recorded guest has no shared directories")
end)

test("a guest ends with the program that serves its directories, and says so", function(t)
  local vm = provium:vm("v", "shared"):boot()
  local p <close> = assert(io.popen([[for f in /proc/[0-9]*/stat; do
    read -r pid name state parent rest <$f && [ "$parent $name" = "$PPID (virtiofsd)" ] && echo $pid
  done 2>/dev/null]])) -- children of this runner
  for pid in p:lines() do os.execute("kill -9 " .. pid) end
  wait_until(function() return vm:state() == "dead" end)
  t:assert_error_matches(function() vm:run("true") end,
    "virtiofsd of `/.*/dist/profiles/shared/[a-z]*` ended: signal: killed")
  vm:shutdown()
  vm:boot()
  vm:write_file("/srv/files/again", "x")
  t:assert_eq(content("files/again"), "x")
end)

test("what cannot be shared is an error before anything boots", function(t)
  t:assert_error_matches(function() provium:vm("m", "shared-missing"):boot() end,
    "rw: `/.*/dist/no%-such%-directory`: no such file or directory")
  t:assert_error_matches(function() provium:vm("f", "shared-file"):boot() end,
    "rw: `/.*/provium.toml` is not a directory")
end)

test("the built-in userland has them, one within another", function(t)
  local vm = provium:vm("v", "shared-small"):boot()
  t:assert_contains(vm:read_file("/mnt/a/profile.provium.toml"), "rw ")
  t:assert_contains(vm:read_file("/mnt/a/b/images.md"), "Userlands")
end)
