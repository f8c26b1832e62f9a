-- Boots with a fixed seed or time, and the bytes of /dev/hwrng: with rng_seed the same ones
-- after each boot, and never those that a snapshot's drivers held.
local a = provium:vm("a", "host", {rng_seed = 0xdeadbeef, memory = "128M", initial_time = 0})
local b = provium:vm("b", "host", {rng_seed = 0xdeadbeef, memory = "128M"})
provium:boot()

-- Guests from one boot have the same time here.
local function id(vm) return vm:run("dmesg | grep -m1 'as init process'"):assert_ok().stdout end
local first_boot, kept = id(b)

local function bytes(vm)
  return (vm:run("head -c 160 /dev/hwrng | od -An -v -tx1"):assert_ok().stdout:gsub("%s", ""))
end

-- Fails when two of the streams, by name, share a block anywhere.
local function differ(t, streams)
  local seen = {}
  for name, stream in pairs(streams) do
    t:assert_eq(#stream, 320)
    for at = 1, #stream - 15, 2 do
      local piece = stream:sub(at, at + 15)
      t:assert(not seen[piece] or seen[piece] == name, name .. " repeats bytes of " .. tostring(seen[piece]))
      seen[piece] = name
    end
  end
end

test("initial_time = 0 boots at the earliest time that Linux takes", function(t)
  local now = a:clock():get()
  local up = tonumber(a:read_file("/proc/uptime"):match("^%S+"))
  t:assert(now >= 0 and now < up + 60, ("it is %s after %s s"):format(now, up))
end)

test("a seed gives every boot and reset the same bytes, restores and forks others", function(t)
  a:clock():sleep("3s") -- the kernel's own thread takes a block meanwhile, which does not show
  local first = bytes(a)
  kept = a:snapshot()
  t:assert_eq(bytes(b), first)
  b:reset()
  t:assert_eq(bytes(b), first)
  local s = b:snapshot()
  local streams = {boot = first, on = bytes(b), fork = bytes(b:fork())}
  for i = 1, 2 do
    a:shutdown()
    a:restore(s)
    streams["restore " .. i] = bytes(a)
  end
  differ(t, streams)
end)

test("initial_time stays fixed in a restore", function(t)
  a:shutdown()
  a:restore(kept)
  local now = a:clock():get()
  t:assert(now > 0 and now < 600, "clock " .. now)
end)

test("without a seed no guest repeats what the snapshot's drivers held", function(t)
  local vm = provium:vm("v", "host"):boot()
  vm:run("head -c 5 /dev/hwrng"):assert_ok() -- the kernel keeps the rest of a block
  local s = vm:snapshot()
  local streams = {on = bytes(vm), fork = bytes(vm:fork())}
  for i = 1, 2 do
    local copy = provium:vm("v" .. i, "host")
    copy:restore(s)
    streams["restore " .. i] = bytes(copy)
  end
  differ(t, streams)
end)

test("a fixed seed always boots, and its boot serves no other", function(t)
  local plain = id(provium:vm("p1", "host", {memory = "128M"}):boot())
  t:assert_neq(first_boot, plain)
  t:assert_eq(id(provium:vm("p2", "host", {memory = "128M"}):boot()), plain)
end)

test("boots from the cache share no bytes", function(t)
  local streams = {}
  for i = 1, 2 do streams[i] = bytes(provium:vm("c" .. i, "host"):boot()) end
  differ(t, streams)
end)
