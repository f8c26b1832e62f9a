-- Options of a boot.

local full = provium:vm("full", "host", {
  memory = "384M",
  kernel_cmdline_append = "provium.suite=1",
  files = {{path = "/etc/motd.d/greeting", content = "hello\0\n"},
           {path = "/etc/tool", content = "#!/bin/sh\necho tool\n", mode = 0x1ed}},
})
-- boot-fixed has rng_seed, with which a guest is not cached.
full:boot({cpus = 2, initial_time = 1700000000.5,
           files = {{path = "/etc/late", content = "later"}}})

test("memory and cpus are what the guest sees", function(t)
  local kib = tonumber(full:run("grep MemTotal /proc/meminfo").stdout:match("%d+"))
  t:assert(kib > 256 * 1024 and kib <= 384 * 1024, "MemTotal is " .. kib .. " KiB")
  t:assert_eq(full:run("grep -c ^processor /proc/cpuinfo").stdout, "2\n")
end)

test("kernel_cmdline_append goes to the end of the command line", function(t)
  t:assert_contains(full:read_file("/proc/cmdline"), "provium.suite=1")
end)

test("files are there before init, with their modes", function(t)
  t:assert_eq(full:read_file("/etc/motd.d/greeting"), "hello\0\n")
  t:assert_eq(full:stat("/etc/motd.d/greeting").perm, 0x1a4)
  t:assert_eq(full:run("/etc/tool").stdout, "tool\n")
  t:assert_eq(full:read_file("/etc/late"), "later")
end)

test("initial_time sets the wall clock", function(t)
  local now = full:clock():get()
  t:assert(now >= 1700000000 and now < 1700000000 + 3600, "the guest says " .. now)
end)

test("boot opts are checked before anything boots", function(t)
  local n = 0
  local function refused(opts, ...)
    n = n + 1
    local err = t:assert_raises(function() provium:vm("bad" .. n, "host", opts) end)
    for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
  end
  refused({memroy = "1G"}, "memroy", "valid:", "memory")
  refused({memory = 0}, "memory")
  refused({memory = "2X"}, "memory", "2X")
  refused({memory = 1.5}, "memory")
  refused({cpus = 0}, "cpus")
  refused({cpus = "2"}, "cpus")
  refused({initial_time = 0 / 0}, "NaN/inf not allowed")
  refused({initial_time = "now"}, "expected number (seconds since epoch), got string")
  refused({agent_timeout = 0}, "expected a positive number of seconds")
  refused({rng_seed = 1.5}, "rng_seed")
  refused({cold = 1}, "cold")
  refused({kernel_cmdline = 7}, "kernel_cmdline")
  refused({files = {{content = "x"}}}, "path")
  refused({files = {{path = "/x"}}}, "content")
  refused({files = {{path = "x", content = ""}}}, "absolute")
  refused({files = {{path = "/x", content = "", mode = 0x10000}}}, "mode")
  refused({files = {{path = "/x", content = "", perm = 1}}}, "perm")
  refused("512M", "table")
end)

test("an empty image of a disk", function(t)
  local path = os.tmpname()
  for _, disk in ipairs({{path = path}, {template = path}}) do
    local vm = provium:vm(next(disk), "host", {disks = {disk}})
    local err = t:assert_raises(function() vm:boot() end)
    t:assert_contains(err, "image `" .. path .. "` is empty")
    t:assert_eq(vm:state(), "created")
  end
  os.remove(path)
end)

test("an unknown profile lists the known ones", function(t)
  local err = t:assert_raises(function() provium:vm("x", "no-such-profile") end)
  t:assert_contains(err, "no-such-profile")
  t:assert_contains(err, "provium.toml")
  t:assert_contains(err, "host")
end)
