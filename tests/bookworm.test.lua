-- Debian bookworm with systemd, bootstrapped by Debian's own tool, as a tar file and as an OCI image of it.
-- scripts/bootstrap-bookworm makes both, once. debian.test.lua has the larger systems that Provium makes by itself.

local function bootstrap()
  local p = assert(io.popen("scripts/bootstrap-bookworm 2>&1"))
  local text = p:read("a")
  local ok, _, code = p:close()
  return ok and 0 or code, text
end

test.each({{profile = "bookworm"}, {profile = "bookworm-oci"}}, "a bootstrapped Debian boots: $profile", {timeout = "15m"},
  function(t, case)
    local code, text = bootstrap()
    if code == 3 then t:skip("no Debian bookworm here: " .. text) end
    t:assert_eq(code, 0, text)
    local vm = provium:vm("debian", case.profile, {memory = "384M"}):boot()
    vm:wait_boot()
    t:assert_eq(vm:run("systemctl is-system-running").stdout, "running\n")
    t:assert_matches(vm:read_file("/etc/os-release"), "VERSION_CODENAME=bookworm")
    t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/usr/lib/systemd/systemd\n")
    t:assert_eq(vm:run("dpkg-query -W -f '${Status}' systemd-sysv").stdout, "install ok installed")
    vm:wait_unit("systemd-udevd")
    vm:wait_unit("dbus")
    -- What changes is kept by snapshots, beside the files of the image.
    vm:run("groupadd testers && dpkg --remove --force-all mount"):assert_ok()
    local s = vm:snapshot()
    vm:shutdown()
    vm:restore(s)
    vm:wait_boot()
    t:assert_contains(vm:run("getent group testers").stdout, "testers:")
    t:assert_contains(vm:run("mount").stderr, "not found")
    vm:run("systemd-run --wait --quiet true"):assert_ok()
  end)

-- The guests after the first are loaded from the entry of the boot cache and copied from a guest that was loaded.
test("guests of one boot have machine ids of their own", {timeout = "15m"}, function(t)
  local code, text = bootstrap()
  if code == 3 then t:skip("no Debian bookworm here: " .. text) end
  t:assert_eq(code, 0, text)
  local ids, random, last = {}, {}, nil
  for i = 1, 4 do
    local vm = provium:vm("node" .. i, "bookworm", {memory = "384M"}):boot()
    local id = vm:run("cat /etc/machine-id").stdout
    t:assert_matches(id, "^%x+\n$")
    t:assert(not ids[id], "an earlier guest has the machine id, too: " .. id)
    ids[id] = true
    local bytes = vm:run("od -An -tx1 -N16 /dev/urandom").stdout
    t:assert(not random[bytes], "an earlier guest has read the same random bytes: " .. bytes)
    random[bytes] = true
    -- journalctl looks for the journal under the machine id.
    t:assert_contains(vm:run("journalctl -b -q -o cat -u systemd-udevd").stdout, "Started")
    if last then last:shutdown() end
    last = vm
  end
  -- A snapshot is of one machine, which keeps its id.
  local id, s = last:run("cat /etc/machine-id").stdout, last:snapshot()
  last:shutdown()
  for _ = 1, 2 do
    last:restore(s)
    t:assert_eq(last:run("cat /etc/machine-id").stdout, id)
    last:shutdown()
  end
end)
