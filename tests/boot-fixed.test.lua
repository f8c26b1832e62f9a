-- Boots with a fixed seed or time, and the bytes of /dev/hwrng: with rng_seed the same ones
-- after each boot, and never those that a snapshot's drivers held.
local a = provium:vm("a", "host", {rng_seed = 0xdeadbeef, memory = "192M", initial_time = 0})
local b = provium:vm("b", "host", {rng_seed = 0xdeadbeef, memory = "192M"})
provium:boot()

local function bytes(vm)
  return (vm:run("head -c 160 /dev/hwrng | od -An -v -tx1"):assert_ok().stdout:gsub("%s", ""))
end

-- The bytes after a boot or reset, before the kernel's own thread takes a block, which it
-- does every 60 s of the guest's time.
local function early(vm)
  for _ = 1, 5 do
    local got = bytes(vm)
    if tonumber(vm:read_file("/proc/uptime"):match("^%S+")) < 60 then return got end
    vm:reset()
  end
  error("the guest's clock runs ahead")
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
  local first = early(a)
  t:assert_eq(early(b), first)
  b:reset()
  t:assert_eq(early(b), first)
  local s = b:snapshot()
  local streams = {boot = first, on = bytes(b), fork = bytes(b:fork())}
  for i = 1, 2 do
    a:shutdown()
    a:restore(s)
    streams["restore " .. i] = bytes(a)
  end
  differ(t, streams)
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

test("boots from the cache share no bytes", function(t)
  local streams = {}
  for i = 1, 2 do streams[i] = bytes(provium:vm("c" .. i, "host"):boot()) end
  differ(t, streams)
end)
