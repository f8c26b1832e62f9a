-- What the machine consists of: places of NICs on the bus, and the firmware's console.

local vm = provium:vm("v", "host", {memory = "128M"})
local a, b = provium:bridge("a"), provium:bridge("b")
a:attach(vm)
b:attach(vm)
vm:boot()

-- place returns where on PCI an interface is.
local function place(t, name)
  local path = vm:run("readlink /sys/class/net/" .. name):assert_ok().stdout
  return path:match("pci0000:00/(.*)/virtio")
end

test("the firmware prints to the serial console", function(t)
  local own = provium:vm("own", "firmware", {memory = "256M"}):boot()
  own:console():expect("SeaBIOS", "10s")
  t:assert_contains(own:console():read_log(), "Booting from ROM")
end)

test("NICs of a boot are on the root bus from slot 2, in the order of bridge names", function(t)
  t:assert_eq(place(t, "eth0"), "0000:00:02.0")
  t:assert_eq(place(t, "eth1"), "0000:00:03.0")
end)

test("later NICs come and go, and those of the boot can only be forgotten", function(t)
  local c = provium:bridge("c")
  c:attach(vm)
  t:assert_contains(place(t, "eth2"), "0000:00:1e.0/")
  c:close()
  t:assert_eq(vm:run("ls /sys/class/net").stdout, "eth0\neth1\nlo\n")
  a:close()
  t:assert_eq(vm:run("ls /sys/class/net").stdout, "eth1\nlo\n")
  -- The name is free, and a snapshot knows what is gone.
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:run("ls /sys/class/net").stdout, "eth1\nlo\n")
  local d = provium:bridge("d")
  d:attach(vm)
  t:assert_contains(place(t, "eth0"), "0000:00:1e.0/")
  t:assert_eq(place(t, "eth1"), "0000:00:03.0") -- reset has what becomes of them
end)
