-- Boots that fail. Each error has the reason and shows the console.

test("a kernel that panics at boot", {allow_oops = true}, function(t)
  local vm = provium:vm("panics", "broken-agent", {kernel_cmdline_append = "fate=exit"})
  local err = t:assert_raises(function() vm:boot() end)
  t:assert_contains(err, "vm `panics` boot: ")
  t:assert_contains(err, "Kernel panic - not syncing: Attempted to kill init")
  t:assert_contains(err, "broken agent: fate is exit")
  t:assert_eq(vm:state(), "dead")
  t:assert_contains(t:assert_raises(function() vm:run("true") end), "Attempted to kill init")
  -- The console stays readable, and the VM can be booted again.
  t:assert_contains(vm:console():read_log(), "Attempted to kill init")
  vm:shutdown()
  t:assert_eq(vm:state(), "shutdown")
end)

test("an agent that never answers", function(t)
  local vm = provium:vm("mute", "broken-agent", {kernel_cmdline_append = "fate=mute", agent_timeout = 1.5})
  local err = t:assert_raises(function() vm:boot() end)
  t:assert_contains(err, "no agent answered within 1.5s")
  t:assert_contains(err, "console")
  t:assert_eq(vm:state(), "dead")
  t:assert_contains(t:assert_raises(function() vm:boot() end), "dead")
end)

test("memory that no kernel can start in", function(t)
  for _, size in ipairs({"64K", "16M", "32M", "64M"}) do
    local vm = provium:vm("crammed" .. size, "host", {memory = size})
    t:assert_contains(t:assert_raises(function() vm:boot() end), "memory is too small: ")
    t:assert_eq(vm:state(), "created")
  end
end)

test("a boot that failed may be tried again", function(t)
  local vm = provium:vm("hasty", "host", {agent_timeout = 0.001})
  t:assert_contains(t:assert_raises(function() vm:boot() end), "no agent answered within 1ms")
  vm:shutdown()
  -- Unusual sizes of memory work.
  vm:boot({agent_timeout = 120, memory = (192 << 20) + 1})
  t:assert_eq(vm:run("echo at last").stdout, "at last\n")
end)

test("a command line that takes the agent's place is refused", function(t)
  local vm = provium:vm("taken", "host", {kernel_cmdline_append = "rdinit=/bin/sh"})
  local err = t:assert_raises(function() vm:boot() end)
  t:assert_contains(err, "rdinit=/bin/sh")
  t:assert_contains(err, "inject_agent = false")
  t:assert_eq(vm:state(), "created")
end)

test("boot files do not need the agent in the initrd", function(t)
  local vm = provium:vm("filed", "own-agent", {files = {{path = "/x/y", content = "there"}}})
  vm:boot()
  t:assert_eq(vm:read_file("/x/y"), "there")
end)
