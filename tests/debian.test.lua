-- Debian with systemd as guests: made by Debian's own tool, and from an OCI image of such a tree. Both are of some
-- 200 MiB and are made in minutes, so that these tests are slow ones (make test-full).

test.each({{profile = "debian"}, {profile = "debian-oci"}}, "a whole Debian boots: $profile", {slow = true},
  function(t, case)
    local vm = provium:vm("debian", case.profile, {memory = "512M"}):boot{agent_timeout = 300}
    vm:wait_boot()
    t:assert_eq(vm:run("systemctl is-system-running").stdout, "running\n")
    t:assert_matches(vm:read_file("/etc/os-release"), "VERSION_CODENAME=bookworm")
    t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/usr/lib/systemd/systemd\n")
    t:assert_eq(vm:run("dpkg-query -W -f '${Status}' systemd-sysv").stdout, "install ok installed")
    vm:wait_unit("dbus")
    local named
    for _, e in ipairs(vm:journal()) do named = named or e.message:find("Reached target multi-user.target", 1, true) end
    t:assert(named, "the journal has no end of the boot")
    -- The cache keeps the end of the boot, snapshots what has changed since then.
    vm:run("useradd tester && dpkg --remove --force-all iproute2"):assert_ok()
    local s = vm:snapshot()
    vm:shutdown()
    vm:restore(s)
    vm:wait_boot()
    t:assert_eq(vm:run("id tester -un").stdout, "tester\n")
    t:assert_eq(vm:run("ip link").exit_code, 127)
    vm:run("systemctl daemon-reexec && systemd-run --wait --quiet true"):assert_ok()
  end)

test("the agent outlives a soft-reboot, also into another root", {slow = true}, function(t)
  local vm = provium:vm("debian", "debian-next", {memory = "1G"}):boot{agent_timeout = 300}
  local agent, worker = vm:run("echo $PPID").stdout, vm:spawn_worker()
  local ended = vm:run_async("exec sleep 1000")
  -- soft_reboot returns when everything was started again for the nth time.
  local function soft_reboot(nth)
    vm:run("systemctl soft-reboot")
    wait_until(function() return vm:run("systemctl show -P SoftRebootsCount").stdout == nth .. "\n" end, {timeout = "120s"})
    vm:wait_boot()
    t:assert_eq(vm:run("echo $PPID").stdout, agent)
    t:assert_eq(worker:run("cat /proc/1/comm").stdout, "systemd\n")
  end
  soft_reboot(1)
  -- What tests have started is ended as all else is, by systemd.
  t:assert_eq(ended:wait("10s").signal, 15)
  vm:run("mkdir -p /run/up/files /run/up/work /run/nextroot && mount -t overlay -o lowerdir=/,upperdir=/run/up/files," ..
    "workdir=/run/up/work next /run/nextroot && echo next >/run/nextroot/etc/which"):assert_ok()
  soft_reboot(2)
  t:assert_eq(vm:read_file("/etc/which"), "next\n")
  t:assert_eq(worker:run("cat /etc/which").stdout, "next\n")
  t:assert_eq(vm:run("findmnt -no FSTYPE,SOURCE /").stdout, "overlay next\n")
  local copy = vm:fork()
  t:assert_eq(copy:run("systemctl is-system-running").stdout, "running\n")
end)
