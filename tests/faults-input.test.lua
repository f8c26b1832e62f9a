-- Input that is refused without a guest: names, options, sizes, durations, calls in the
-- wrong state. No guest boots here.

local count = 0

-- refused asserts that fn raises an error which contains every needle.
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  t:assert_eq(type(err), "string")
  t:assert_contains(err, "faults-input.test.lua:")
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

-- declare declares a VM under a new name with opts.
local function declare(opts)
  count = count + 1
  return provium:vm("v" .. count, "host", opts)
end

test("an unknown profile lists the known ones", function(t)
  refused(t, function() provium:vm("x", "hots") end, "hots", "provium.toml", "bare", "host")
  refused(t, function() provium:vm("x", 7) end, "profile", "string", "number")
end)

test("names of VMs and labs are checked", function(t)
  for _, name in ipairs({"", "a b", "a/b", "ä", ("n"):rep(64), "pack", "unpack", "vm_fixture", "lab_fixture"}) do
    refused(t, function() provium:vm(name, "host") end, "name")
  end
  refused(t, function() provium:lab("a.b") end, "a.b")
  provium:vm("twice", "host")
  refused(t, function() provium:vm("twice", "host") end, "twice")
  refused(t, function() provium:vm("nobody") end, "nobody", "twice")
end)

test("unknown boot opts are named with the valid ones", function(t)
  refused(t, function() declare({memroy = "1G"}) end, "memroy", "memory", "kernel_cmdline", "agent_timeout")
  refused(t, function() declare({"512M"}) end, "1")
  refused(t, function() declare({files = {{path = "/x", content = "", user = "root"}}}) end, "user", "path", "content")
  refused(t, function() declare("512M") end, "table", "string")
  local vm = declare()
  refused(t, function() vm:boot({cpu = 2}) end, "cpu", "cpus")
  t:assert_eq(vm:state(), "created")
end)

test("sizes that are none", function(t)
  for _, size in ipairs({"2X", "", "M", "1.5.1G", "0", "0M", "-1G", "1e3M", "0x10M", " 1G", "1 G", "512", "512MB",
                         0, -1, 1.5, 1 / 0, 0 / 0, "9999999T", true, {}}) do
    refused(t, function() declare({memory = size}) end, "memory")
  end
end)

test("durations that are none", function(t)
  local vm = declare()
  for _, d in ipairs({"10", "5 s", "1d", "", "s", "1e3s", "0x1s", "-1s", "1..5s", -1, 0 / 0, 1 / 0, true, {}}) do
    refused(t, function() wait_until(function() return true end, {timeout = d}) end)
    refused(t, function() wait_until(function() return true end, {interval = d}) end)
    refused(t, function() vm:run("true", {timeout = d}) end, "timeout")
  end
  for _, d in ipairs({0, -1, 0 / 0, 1 / 0, "soon", {}}) do
    refused(t, function() declare({agent_timeout = d}) end, "agent_timeout", "expected a positive number of seconds, got")
  end
end)

test("other boot opts of the wrong kind", function(t)
  for _, cpus in ipairs({0, -1, 1.5, "2", true, 1e9}) do
    refused(t, function() declare({cpus = cpus}):boot() end, "cpus")
  end
  refused(t, function() declare({initial_time = 0 / 0}) end, "NaN/inf not allowed")
  refused(t, function() declare({initial_time = 1 / 0}) end, "NaN/inf not allowed")
  refused(t, function() declare({initial_time = "now"}) end, "expected number (seconds since epoch), got string")
  refused(t, function() declare({rng_seed = "x"}) end, "rng_seed")
  refused(t, function() declare({kernel_cmdline = 1}) end, "kernel_cmdline")
  for _, path in ipairs({"", "x", "./x", "/", "/.."}) do
    refused(t, function() declare({files = {{path = path, content = ""}}}):boot() end, "files")
  end
  for _, mode in ipairs({-1, 4096, 1.5, "0644"}) do
    refused(t, function() declare({files = {{path = "/x", content = "", mode = mode}}}):boot() end, "mode")
  end
end)

test("guest operations need a booted guest", function(t)
  local vm = declare()
  local host_file = os.tmpname()
  local calls = {
    run = function() vm:run("true") end,
    read_file = function() vm:read_file("/x") end,
    write_file = function() vm:write_file("/x", "") end,
    stat = function() vm:stat("/x") end,
    listdir = function() vm:listdir("/") end,
    mkdir = function() vm:mkdir("/x") end,
    unlink = function() vm:unlink("/x") end,
    rename = function() vm:rename("/x", "/y") end,
    pull_file = function() vm:pull_file("/x", host_file) end,
    push_file = function() vm:push_file("faults-input.test.lua", "/x") end,
    batch = function() vm:batch(function(b) b:stat("/x") end) end,
    pause = function() vm:pause() end,
    resume = function() vm:resume() end,
    reset = function() vm:reset() end,
    power_button = function() vm:power_button() end,
    wakeup = function() vm:wakeup() end,
  }
  for op, call in pairs(calls) do
    refused(t, call, "cannot " .. op, vm:name(), "created", "not booted")
  end
  vm:shutdown()
  for op, call in pairs(calls) do
    refused(t, call, "cannot " .. op, vm:name(), "shutdown", "boot", "create a new")
  end
  os.remove(host_file)
  t:assert_eq(vm:state(), "shutdown")
  t:assert_eq(vm:console():read_log(), "")
end)

test("arguments of the wrong type name what is wanted and what was given", function(t)
  local vm = declare()
  refused(t, function() vm:read_file(7) end, "string", "number")
  refused(t, function() vm:write_file("/x") end, "string")
  refused(t, function() vm:write_file("/x", {}) end, "string", "table")
  refused(t, function() vm:mkdir("/x", {perm = "755"}) end, "perm", "string")
  refused(t, function() vm:mkdir("/x", {parent = true}) end, "parent", "parents")
  refused(t, function() vm:batch(7) end, "function", "number")
  refused(t, function() vm:push_file("no-such-file-here", "/x") end, "tests/no-such-file-here")
  refused(t, function() vm:run("true", {user = {}}) end, "user")
end)

test("a dot in place of a colon, and misspelt methods and settings", function(t)
  local vm = declare()
  refused(t, function() vm.run("true") end, ":")
  refused(t, function() vm.state() end, ":")
  refused(t, function() provium.vm("a", "host") end, ":")
  refused(t, function() vm:red_file("/x") end, "red_file", "read_file")
  refused(t, function() provium.reset_between_test = true end, "reset_between_test")
  refused(t, function() provium.timeout = "1 hour" end, "timeout")
  t:assert_eq(provium.no_such_thing, nil)
end)

test("claims are checked", function(t)
  refused(t, function() provium:claim({mem = "1G"}) end, "mem", "memory")
  refused(t, function() provium:claim({memory = -1}) end, "memory")
  refused(t, function() provium:claim({cpus = 1.5}) end, "cpus")
  refused(t, function() provium:claim({}) end, "claim")
  refused(t, function() provium:claim({memory = "4096T"}) end, "exceeds pool total")
end)

test("more memory than there can ever be is refused at once", function(t)
  local vm = declare({memory = "1000T"})
  refused(t, function() vm:boot() end, "exceeds pool total")
  t:assert_neq(vm:state(), "booted")
end)

test("bad registrations inside a test", function(t)
  refused(t, function() test("inner", function() end) end, "test")
  refused(t, function() todo("later") end, "todo")
  refused(t, function() wait_until(7) end, "function")
  refused(t, function() wait_until(function() end, {timout = 1}) end, "timout", "timeout")
end)
