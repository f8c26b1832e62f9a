-- Guests that UEFI starts: from a disk and with the kernel of their profile, their variables, snapshots and the boot cache.

local efivars = "mount -t efivarfs none /sys/firmware/efi/efivars 2>/dev/null; cd /sys/firmware/efi/efivars; "
local guid = "-5f8d1c3a-0b7e-4f7e-9d51-2a6c7e1b9f00"

local function store(vm, name)
  vm:run(efivars .. "printf '\\007\\000\\000\\000" .. name .. "' >" .. name .. guid):assert_ok()
end

local function load(vm, name) return vm:run(efivars .. "tail -c 3 " .. name .. guid).stdout end

test("a disk with a kernel of its own is booted, and variables are the guest's own", function(t)
  local vm = provium:vm("a", "efi-disk"):boot({agent_timeout = 300})
  t:assert_contains(vm:run("cat /proc/cmdline").stdout, "rdinit=/sbin/provium-agent")
  t:assert_eq(vm:run("cat /sys/block/vda/vda1/start").stdout, "2048\n")
  t:assert_eq(vm:disk("system"):read_sectors(1, 1):sub(1, 8), "EFI PART")
  -- Snapshots of snapshots have the variables.
  store(vm, "one")
  local copy = vm:fork()
  vm:shutdown()
  t:assert_eq(load(copy, "one"), "one")
  store(copy, "two")
  local second = copy:fork()
  copy:shutdown()
  t:assert_eq(load(second, "two"), "two")
  t:assert_error_matches(function()
    provium:vm("words", "efi-disk", {kernel_cmdline_append = "debug"}):boot()
  end, "a guest that boots from its disk gets neither a command line nor files")
end)

test("variables outlive a reset, and not a boot", {slow = true}, function(t)
  local vm = provium:vm("a", "uefi"):boot({agent_timeout = 300})
  store(vm, "one")
  local copy = vm:fork()
  store(copy, "two")
  local second = copy:fork()
  second:reset()
  -- The kernel has asked the firmware again.
  t:assert_eq(load(second, "one"), "one")
  t:assert_eq(load(second, "two"), "two")
  vm:shutdown()
  vm:boot()
  t:assert_eq(load(vm, "one"), "")
end)

test("a unified kernel image boots without its firmware code", {slow = true}, function(t)
  local vm = provium:vm("unified", "unified"):boot()
  local plain = provium:vm("plain", "host"):boot()
  t:assert_eq(vm:run("uname -r").stdout, plain:run("uname -r").stdout)
  t:assert_contains(vm:read_file("/proc/cmdline"), "random.trust_cpu=on") -- the image's
  t:assert_eq(vm:fork():run("echo copy").stdout, "copy\n")
end)
