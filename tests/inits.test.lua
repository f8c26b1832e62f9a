-- Guests whose init is neither systemd nor Provium's.

local init = "dist/profiles/inits/root/sbin/openrc-init"

-- works checks that the agent serves beside another init, and that nothing of systemd is waited for.
local function works(t, vm, name)
  t:assert_eq(vm:read_file("/proc/1/comm"), name .. "\n")
  for _, wait in ipairs{function() vm:wait_boot() end, function() vm:wait_unit("web") end} do
    t:assert_error_matches(wait, "the guest's init is `" .. name:gsub("%-", "%%-") .. "`, not systemd")
  end
  t:assert_error_matches(function() vm:journal() end, "journalctl cannot be run: ENOENT")
  vm:run_async("nc -l -p 7 -e cat")
  vm:wait_port(7)
  t:assert_eq(vm:fork():run("echo copied").stdout, "copied\n")
end

test("the agent is at home beside sysvinit", {slow = true}, function(t)
  if not io.open(init) then t:skip("the packages of the inits are missing") end
  local vm = provium:vm("v", "inits"):boot()
  vm:wait_file("/tmp/level-2")
  local agent = vm:run("echo $PPID").stdout
  vm:run("telinit u && telinit q && telinit 3"):assert_ok() -- it starts itself again, reads its table, changes its level
  vm:wait_file("/tmp/level-3")
  t:assert_eq(vm:run("echo $PPID").stdout, agent)
  works(t, vm, "init")
end)

test("the agent is at home beside OpenRC", {slow = true}, function(t)
  if not io.open(init) then t:skip("the packages of the inits are missing") end
  local vm = provium:vm("v", "inits"):boot{kernel_cmdline_append = "init=/sbin/openrc-init"}
  vm:wait_file("/tmp/noted")
  local agent = vm:run("echo $PPID").stdout
  vm:run("openrc nonetwork; openrc default"):assert_ok()
  t:assert_eq(vm:run("echo $PPID").stdout, agent)
  works(t, vm, "openrc-init")
  t:assert_error_matches(function()
    provium:vm("never", "inits"):boot{wait = "systemd", kernel_cmdline_append = "init=/sbin/openrc-init"}
  end, "the guest is not ready %(`systemd`%): the guest's init is `openrc%-init`")
end)
