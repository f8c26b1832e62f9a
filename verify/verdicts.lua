-- Guests panic, and the log of a kernel is read from the memory of a guest of 512 MiB: how long both take is in the
-- events of the run.
local base = provium:vm("base", "host", {memory = "512M"}):boot()
local saved = base:snapshot()
base:shutdown()

for i = 1, times do
  test("a panic " .. i, function()
    local vm = provium:vm("box", "host")
    vm:restore(saved)
    parallel({
      function() vm:console():expect("Kernel panic - not syncing: ", "1m") end,
      function() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end,
    })
  end)
  test("a log " .. i, function(t)
    local vm = provium:vm("box", "host")
    vm:restore(saved)
    t:assert_contains(vm:dmesg(), "Linux version")
  end)
end
