-- What the operating system of a guest has reached: files, ports, units of systemd, the end of
-- the boot, and the journal. The profile "services" says that its boots end with systemd's.

-- services returns a guest with systemd, from the boot cache.
local function services(name) return provium:vm(name or "box", "services", {memory = "384M"}):boot() end

test("a boot is done when systemd has done it", function(t)
  local vm = services()
  t:assert_eq(vm:run("systemctl is-system-running").stdout, "running\n")
  t:assert_eq(vm:read_file("/proc/1/comm"), "systemd\n")
  vm:wait_boot()
  -- What was served from the cache has the same boot as its journal.
  local noted = vm:journal{unit = "noted.service"}
  local said
  for _, e in ipairs(noted) do
    if e.message == "noted at the boot" then said = e end
  end
  t:assert(said, "the service's line is missing")
  t:assert_eq(said.unit, "noted.service")
  t:assert_eq(said.identifier, "sh")
  t:assert_eq(said.priority, 6)
  t:assert_gt(said.pid, 1)
  t:assert_gt(said.uptime, 0)
  t:assert_le(said.uptime, tonumber(vm:read_file("/proc/uptime"):match("%S+")))
  t:assert_eq(#vm:journal{lines = 2}, 2)
  t:assert_eq(#vm:journal{since = "1000h"}, 0)
  t:assert_contains(vm:run("journalctl -b -o cat -u noted").stdout, "noted at the boot")
end)

test("ports, files and units are waited for", function(t)
  local vm = services()
  vm:wait_unit("web")
  vm:wait_port(8080)
  t:assert_contains(vm:run("wget -q -O - http://127.0.0.1:8080/passwd").stdout, "root:")
  vm:run("systemctl stop --no-block web"):assert_ok()
  vm:wait_unit("web", {state = "inactive"})
  t:assert_error_matches(function() vm:wait_port(8080, {timeout = "200ms"}) end,
    "port 8080 did not come within 200ms: no port is open")
  vm:run_async("sh -c 'sleep 0.3; touch /tmp/there; exec udhcpd -f /dev/null'")
  vm:wait_file("/tmp/there")
  t:assert_error_matches(function() vm:wait_file("/tmp/there/below", {timeout = "100ms"}) end,
    "the file /tmp/there/below did not come within 100ms: ENOTDIR")
end)

test("a unit that fails ends the wait, with its journal", function(t)
  local vm = services()
  vm:run("systemctl start --no-block broken"):assert_ok()
  local failed = t:assert_raises(function() vm:wait_unit("broken") end)
  t:assert_contains(failed, "vm:wait_unit: the unit broken is failed, result exit-code\n")
  t:assert_contains(failed, "no such disk")
  vm:wait_unit("broken", {state = "failed"})
  local boot = t:assert_raises(function() vm:wait_boot() end)
  t:assert_contains(boot, "vm:wait_boot: the boot ended degraded\nthe unit broken.service is failed\n")
  t:assert_contains(boot, "no such disk")
  t:assert_error_matches(function() vm:wait_unit("nothing") end,
    "the unit nothing is not loaded %(not%-found%): Unit nothing.service not found.")
  t:assert_error_matches(function() vm:wait_unit("a b") end, '"a b" is no name of a unit')
  t:assert_error_matches(function() vm:wait_unit("web", {state = "up"}) end, "valid: active, inactive, failed")
  t:assert_error_matches(function() vm:wait_port(0) end, "must be between 1 and 65535, got 0")
end)

test("the agent outlives what systemd does to its services", function(t)
  local vm = services()
  local agent = vm:run("echo $PPID").stdout
  vm:run("systemctl daemon-reload"):assert_ok()
  vm:run("systemctl daemon-reexec"):assert_ok()
  vm:run("systemctl isolate rescue.target")
  vm:wait_unit("web", {state = "inactive"})
  vm:run("systemctl isolate --no-block multi-user.target"):assert_ok()
  vm:wait_unit("web")
  t:assert_eq(vm:run("echo $PPID").stdout, agent)
  local copy = vm:fork()
  copy:wait_port(8080)
end)

test("a guest with Provium's init has no boot to wait for", function(t)
  local vm = provium:vm("plain", "host"):boot()
  for _, wait in ipairs{function() vm:wait_boot() end, function() vm:wait_unit("web") end} do
    t:assert_error_matches(wait, "the guest's init is Provium's minimal one %(provium%-agent%), not systemd")
  end
  t:assert_error_matches(function() vm:journal() end, "journalctl cannot be run: ENOENT")
  vm:run_async("nc -l -p 7 -e cat")
  vm:wait_port(7)
  t:assert_error_matches(function() vm:wait_port(7, {timeout = "100ms", protocol = "udp"}) end,
    "port 7/udp did not come within 100ms")
  t:assert_error_matches(function()
    provium:vm("none", "host"):boot{wait = "soon"}
  end, 'opts.wait must be "agent", "none", "init", "systemd", "console:TEXT" or "command:CMD", got soon')
end)

test("a boot waits for a command, a text or the init", {slow = true}, function(t)
  local command = provium:vm("command", "host"):boot{wait = "command:test -d /proc/self"}
  t:assert_eq(command:state(), "booted")
  t:assert_error_matches(function()
    provium:vm("never", "host"):boot{wait = "systemd"}
  end, "the guest is not ready %(`systemd`%): the guest's init is Provium's minimal one")
  local init = provium:vm("init", "tree"):boot{wait = "init"}
  t:assert(not init:read_file("/proc/1/mountinfo"):find("- rootfs", 1, true), "PID 1 is in the initramfs")
  local shown = provium:vm("shown", "services", {memory = "384M"}):boot{wait = "console:systemd"}
  shown:wait_boot()
end)
