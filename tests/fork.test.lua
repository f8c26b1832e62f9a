-- vm:fork(): running copies of a running guest.

local vm = provium:vm("tree", "host"):boot()
vm:write_file("/tmp/ring", "1")
vm:run("(while :; do date +%s%N > /tmp/alive; sleep 0.5; done) </dev/null >/dev/null 2>&1 &"):assert_ok()

test("a fork goes on from the same moment, with a name and a CID of its own", function(t)
  vm:write_file("/tmp/ring", "2")
  local fork = vm:fork()
  t:assert_eq(fork:name(), "tree-1")
  t:assert_eq(fork:state(), "booted")
  t:assert_eq(fork:profile(), "host")
  t:assert_neq(fork:cid(), vm:cid())
  t:assert_eq(fork:read_file("/tmp/ring"), "2")
  fork:write_file("/tmp/ring", "3")
  t:assert_eq(vm:read_file("/tmp/ring"), "2")
  local before = fork:read_file("/tmp/alive")
  wait_until(function() return fork:read_file("/tmp/alive") ~= before end, {desc = "its process goes on"})
  t:assert_eq(fork:read_file("/proc/sys/kernel/random/boot_id"), vm:read_file("/proc/sys/kernel/random/boot_id"))
end)

test("forks belong to the test that made them", function(t)
  t:assert_eq(provium["tree-1"], nil)
end)

test("several at once, and forks of forks", function(t)
  local forks = vm:fork(3)
  t:assert_eq(#forks, 3)
  local names = {}
  for i, f in ipairs(forks) do names[i] = f:name(); f:write_file("/tmp/mine", f:name()) end
  t:assert_eq(table.concat(names, " "), "tree-1 tree-2 tree-3")
  local child = forks[2]:fork()
  t:assert_eq(child:name(), "tree-2-1")
  t:assert_eq(child:read_file("/tmp/mine"), "tree-2")
  t:assert_eq(child:read_file("/tmp/ring"), "2")
  local more = vm:fork(1)
  t:assert_eq(more[1]:name(), "tree-4")
end)

test("the random generators of forks differ", function(t)
  local a, b = table.unpack(vm:fork(2))
  t:assert_neq(a:run("head -c 16 /dev/urandom | od -An -tx1").stdout, b:run("head -c 16 /dev/urandom | od -An -tx1").stdout)
end)

test("forks are on the bridges of the VM, with addresses of their own", function(t)
  local net = provium:bridge("net")
  local host = provium:vm("peer", "host"):boot()
  local one = provium:vm("one", "host"):boot()
  net:attach({host, one})
  local two = one:fork()
  t:assert_neq(two:nic("net"):mac(), one:nic("net"):mac())
  t:assert_neq(two:nic("net"):ip(), one:nic("net"):ip())
  t:assert_contains(two:run("ip addr show eth0").stdout, two:nic("net"):ip())
  t:assert_contains(two:run("ip addr show eth0").stdout, two:nic("net"):mac())
  for _, from in ipairs{host, one, two} do
    for _, to in ipairs{"peer", "one", "one-1"} do
      from:run("ping -c 1 -w 20 " .. to):assert_ok()
    end
  end
end)

test("a fork has the disks of the moment, and changes its own", function(t)
  local d = vm:attach_disk({id = "data", size = "8M"})
  vm:run("echo first | dd of=/dev/disk/by-id/virtio-data conv=sync oflag=direct && sync"):assert_ok()
  local fork = vm:fork()
  fork:run("echo other | dd of=/dev/disk/by-id/virtio-data conv=sync oflag=direct && sync"):assert_ok()
  t:assert_contains(vm:run("dd if=/dev/disk/by-id/virtio-data count=1 iflag=direct").stdout, "first")
  t:assert_contains(fork:run("dd if=/dev/disk/by-id/virtio-data count=1 iflag=direct").stdout, "other")
  d:detach()
end)

test("a paused VM is forked as it stands", function(t)
  vm:pause()
  local fork = vm:fork()
  t:assert_eq(vm:state(), "paused")
  t:assert_eq(fork:state(), "booted")
  t:assert_eq(fork:read_file("/tmp/ring"), "2")
  vm:resume()
end)

test("bad arguments and states", function(t)
  for _, bad in ipairs{0, -1, 257} do
    t:assert_contains(t:assert_raises(function() vm:fork(bad) end), "argument 1 (n) must be 1 to 256, got " .. bad)
  end
  t:assert_contains(t:assert_raises(function() vm:fork("x") end), "argument 1 (n) must be an integer, got string")
  local fresh = provium:vm("fresh", "host")
  t:assert_contains(t:assert_raises(function() fresh:fork() end), "cannot fork: vm `fresh` is created")
  local tail = vm:tail_file("/tmp/ring")
  t:assert_contains(t:assert_raises(function() vm:fork() end), "vm:fork() refused")
  tail:close()
  t:assert_eq(#vm:fork(1), 1)
end)
