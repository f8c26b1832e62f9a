-- Boots served from a post-boot snapshot. Guests from one snapshot have the same times in
-- the kernel log of the boot.
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end
local function id(vm) return sh(vm, "dmesg | grep -m1 'as init process'") end
local function boot_id(vm) return sh(vm, "cat /proc/sys/kernel/random/boot_id") end
local loud = {kernel_cmdline_append = "ignore_loglevel", memory = "128M"}

test("a second boot comes from the cache, a cold one does not", function(t)
  local first = id(provium:vm("a", "host", loud):boot())
  local vm = provium:vm("b", "host", loud)
  vm:boot()
  t:assert_eq(id(vm), first)
  t:assert_contains(sh(vm, "cat /proc/cmdline"), " ignore_loglevel")
  t:assert(math.abs(vm:clock():get() - os.time()) < 5)
  vm:shutdown()
  vm:boot {cold = true}
  t:assert_neq(id(vm), first)
end)

test("cached guests differ where guests must", function(t)
  local a, b = provium:vm("a", "host"):boot(), provium:vm("b", "host"):boot()
  local r = "head -c 16 /dev/urandom | xxd -p"
  t:assert_neq(sh(a, r), sh(b, r))
  t:assert_neq(a:cid(), b:cid())
  t:assert_eq(id(a), id(b))
  t:assert_neq(boot_id(a), boot_id(b))
  t:assert(boot_id(a):find("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$"), boot_id(a))
  t:assert_eq(boot_id(a), boot_id(a))
  -- A restore goes on with the same boot.
  t:assert_eq(boot_id(a:fork()), boot_id(a))
end)

-- Those after the first are copies of that one, which has just booted, until one was loaded from the entry.
test("guests of an entry that has just been made differ, too", function(t)
  local seen = {}
  for i = 1, 6 do
    local vm = provium:vm("v" .. i, "young", {memory = "128M"}):boot()
    for what, value in pairs({["boot id"] = boot_id(vm), bytes = sh(vm, "head -c 16 /dev/urandom | xxd -p"),
        uuid = sh(vm, "cat /proc/sys/kernel/random/uuid"), ["stack"] = sh(vm, "grep stack /proc/self/maps")}) do
      t:assert(not seen[value], ("the %s of guest %d is that of guest %s: %s"):format(what, i, seen[value], value))
      seen[value] = i
    end
    vm:shutdown()
  end
end)

test("what a boot depends on makes another entry", function(t)
  local function with(opts) local vm = provium:lab():vm("x", "host", opts):boot(); return vm end
  local plain = id(with {memory = "128M"})
  t:assert_neq(id(with {}), plain)
  t:assert_neq(id(with {memory = "128M", cpus = 2}), plain)
  local a = with {memory = "128M", files = {{path = "/etc/f", content = "1"}}}
  local b = with {memory = "128M", files = {{path = "/etc/f", content = "2"}}}
  t:assert_eq(sh(a, "cat /etc/f"), "1")
  t:assert_eq(sh(b, "cat /etc/f"), "2")
end)

-- boot-fixed has the guests with a fixed seed, which always boot.

test("a fixed time is part of what a boot depends on, and goes on", function(t)
  local first
  for i = 1, 2 do
    local vm = provium:vm("v" .. i, "host", {memory = "128M", initial_time = 1700000000.5}):boot()
    first = first or id(vm)
    t:assert_eq(id(vm), first)
    local up = tonumber(vm:read_file("/proc/uptime"):match("^%S+"))
    local ahead = vm:clock():get() - 1700000000.5 - up
    t:assert(ahead > -1 and ahead < 60, ("the clock is %s s ahead of the uptime"):format(ahead))
  end
end)

test("the console log begins with the boot, once", function(t)
  local vm
  for i = 1, 2 do
    vm = provium:vm("v" .. i, "host", loud):boot()
    local _, n = vm:console():read_log():gsub("Linux version", "")
    t:assert_eq(n, 1)
    vm:console():expect("Linux version")
  end
  -- A power cycle adds a boot, with or without the cache.
  vm:shutdown()
  vm:boot()
  local _, n = vm:console():read_log():gsub("Linux version", "")
  t:assert_eq(n, 2)
end)

-- vm-lifecycle and disk reset some.
test("a cached guest can be snapshotted and restored", function(t)
  local vm = provium:vm("a", "host", {memory = "128M"}):boot()
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  sh(vm, "true")
end)
