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
