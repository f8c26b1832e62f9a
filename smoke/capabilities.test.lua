-- Every capability of the machine that depends on QEMU, on one guest. `make test` runs it
-- on a newer QEMU than that of the system.
local vm = provium:vm("v", "plain", {memory = "256M", cold = true})
local lan = provium:bridge("lan")
lan:attach(vm)
vm:boot()

local function sh(v, text) return (v:run(text):assert_ok().stdout:gsub("\n$", "")) end

test("a guest boots and is reset", function(t)
  t:assert_eq(sh(vm, "echo $((6 * 7))"), "42")
  t:assert_eq(vm:nic("lan"):ip(), sh(vm, "ip -4 addr show eth0"):match("inet ([%d.]+)"))
end)

test("NICs and disks come and go", function(t)
  local later = provium:bridge("later")
  later:attach(vm)
  t:assert_contains(sh(vm, "ip addr show eth1"), vm:nic("later"):ip())
  later:close()
  t:assert_eq(sh(vm, "ls /sys/class/net"), "eth0\nlo")
  local d = vm:attach_disk({id = "d", size = "4M", logical_block_size = 4096, discard = true})
  sh(vm, "echo kept | dd of=/dev/vda bs=4096 conv=sync,fsync; echo lost | dd of=/dev/vda bs=4096 seek=1 conv=sync oflag=direct")
  t:assert_eq(d:read_sectors(0, 1):sub(1, 4), "kept")
  d:resize("8M")
  t:assert_eq(sh(vm, "cat /sys/block/vda/size"), "16384")
  d:power_cut()
  t:assert_eq(sh(vm, "dd if=/dev/vda bs=4096 count=2 iflag=direct | tr -d '\\0 '"), "kept")
  d:detach()
  t:assert_eq(sh(vm, "ls /sys/block"), "")
end)

test("snapshots, diffs, forks, and a reset after a restore", function(t)
  sh(vm, "echo one >/tmp/state")
  local full = vm:snapshot()
  vm:shutdown()
  vm:restore(full)
  sh(vm, "echo two >/tmp/state")
  local diff = vm:snapshot()
  local fork = vm:fork()
  t:assert_eq(sh(fork, "cat /tmp/state"), "two")
  fork:shutdown()
  vm:shutdown()
  vm:restore(diff)
  t:assert_eq(sh(vm, "cat /tmp/state"), "two")
  vm:shutdown()
  vm:restore(full)
  t:assert_eq(sh(vm, "cat /tmp/state"), "one")
  local again = provium:bridge("again")
  again:attach(vm) -- of a restored guest
  t:assert_contains(sh(vm, "ip addr show eth1"), vm:nic("again"):ip())
  local cap = again:capture({filter = "arp"})
  vm:run("ping -c 1 -W 1 " .. vm:nic("again"):ip():gsub("%d+$", "9"))
  t:assert(#cap:packets() > 0, "the capture has seen what the guest sent")
  vm:reset()
  t:assert(not vm:run("test -e /tmp/state"):ok(), "the reset has begun a new boot")
  t:assert_contains(sh(vm, "ip addr show eth1"), vm:nic("again"):ip())
end)

test("a guest sleeps and is woken, twice", function(t)
  for _ = 1, 2 do
    local suspend
    parallel{ -- it may be asleep before it could say that the command runs
      function() suspend = vm:run_async("echo mem > /sys/power/state; echo woke") end,
      function()
        wait_until(function() return (pcall(vm.wakeup, vm)) end, {timeout = "60s", desc = "the guest is asleep"})
      end,
    }
    t:assert_eq(suspend:wait("60s").stdout, "woke\n")
  end
end)
