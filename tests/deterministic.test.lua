-- Guests that do the same in each run.

-- look boots the guest and returns what it shows of chance: entropy, the clock, and the order in
-- which processes end.
local function look(vm)
  vm:boot({memory = "256M"})
  local out = vm:run([[
    for i in 1 2 3 4 5 6 7 8; do (head -c 8 /dev/urandom | od -An -tx1; echo $i) & done; wait
    cat /proc/uptime /proc/interrupts; sleep 0.2; dmesg
  ]]).stdout
  return {out = out, clock = vm:clock():get()}
end

-- refuses checks that act raises an error with that text.
local function refuses(t, act, text)
  t:assert_contains(tostring(t:assert_raises(act)), text)
end

local first = provium:vm("first", "host", {deterministic = true})

test("two boots with one seed are one", function(t)
  local a = look(first)
  local console = first:console():read_log()
  first:shutdown()
  local b = look(first)
  t:assert_eq(b.out, a.out)
  t:assert_eq(b.clock, a.clock)
  t:assert_eq(first:console():read_log(), console .. console) -- it is of both boots
  -- Time passes, and timers fire at theirs.
  first:run("for at in 150 50 100; do (sleep $at; echo $(date +%s) $at >>/tmp/fired) & done >/dev/null 2>&1")
  local began = first:clock():get()
  first:clock():warp("2m")
  t:assert_eq(first:clock():get() // 1, (began + 120) // 1)
  t:assert_eq(first:read_file("/tmp/fired"), ("%d 50\n%d 100\n"):format((began + 50) // 1, (began + 100) // 1))
  -- What the guest would see is refused.
  for what, act in pairs({
    ["vm:pause()"] = function() first:pause() end,
    ["vm:reset()"] = function() first:reset() end,
    ["attaching a disk"] = function() first:attach_disk({size = "1M"}) end,
    ["input on a console"] = function() first:console():write("x") end,
  }) do
    refuses(t, act, "deterministic, and " .. what .. " is not possible")
  end
end)

test("a restored guest goes on where it stood", function(t)
  local vm = provium:vm("second", "host", {deterministic = true, memory = "256M"}):boot()
  local s = vm:snapshot()
  local clock, random = vm:clock():get(), {}
  for i = 1, 2 do
    vm:shutdown()
    vm:restore(s)
    random[i] = vm:run("head -c 16 /dev/urandom | od -An -tx1").stdout
    t:assert(vm:clock():get() - clock < 10, "the clock of the host has no part in it")
  end
  t:assert(random[1] ~= random[2], "two restores have the same random bytes")
end)

test("a disk is done in no time, in the order of its requests", function(t)
  local vm = provium:vm("disks", "host", {deterministic = true, memory = "256M",
    disks = {{id = "data", scratch = "16M"}, {id = "more", scratch = "4M", logical_block_size = 4096}}}):boot()
  local disk = vm:disk("data")
  vm:run("(while :; do dd if=/dev/urandom of=/dev/vdb bs=4k count=3 conv=fsync; sleep 0.02; done) >/dev/null 2>&1 &")
  vm:run("head -c 4194304 /dev/urandom >/tmp/a; dd if=/tmp/a of=/dev/vda bs=64k conv=fsync"):assert_ok()
  t:assert_eq(disk:read_sectors(0, 8192), vm:read_file("/tmp/a"))
  local s = vm:snapshot()
  -- The guest does not see the host's time, and a fault comes at the same request each time.
  local look = function()
    disk:inject({op = "read", delay = 0.02})
    disk:inject({op = "write", errno = "EIO", probability = 0.3})
    local out = vm:run([[
      echo 3 >/proc/sys/vm/drop_caches
      md5sum /dev/vda; sync; sync
      for i in $(seq 20); do dd if=/tmp/a of=/dev/vda bs=4k count=1 seek=$i conv=fsync || echo lost $i; done 2>&1
      cat /proc/uptime
    ]]).stdout
    disk:clear_rules()
    return out
  end
  t:assert_contains(look(), "lost")
  vm:shutdown()
  vm:restore(s)
  disk = vm:disk("data")
  t:assert_contains(look(), "lost")
  for what, act in pairs({
    ["detaching a disk"] = function() disk:detach() end,
    ["resizing a disk"] = function() disk:resize("32M") end,
  }) do
    refuses(t, act, "deterministic, and " .. what .. " is not possible")
  end
end)

test("a guest with this machine's programs is the same, too", {slow = true}, function(t)
  local vm, seen = provium:vm("py", "programs", {deterministic = true, memory = "512M"}), {}
  for i = 1, 2 do
    vm:boot()
    seen[i] = vm:run("python3 -c 'import json, random, time; print(random.random(), time.time())'"):assert_ok().stdout
    vm:shutdown()
  end
  t:assert_eq(seen[2], seen[1])
end)

test("another seed is another run", {slow = true}, function(t)
  local a, b = look(provium:vm("third", "host", {deterministic = true})),
    look(provium:vm("fourth", "host", {deterministic = true}))
  t:assert(a.out ~= b.out, "another VM has another seed")
end)

test("machines that cannot be deterministic are refused", function(t)
  for want, opts in pairs({
    ["set cpus = 1"] = {cpus = 2},
    ["rng_seed"] = {rng_seed = 1},
    ["leave qemu_args out"] = {qemu_args = {"-device", "pci-testdev"}},
    ['set bus = "virtio-blk"'] = {disks = {{scratch = "1M", bus = "virtio-scsi"}}},
    ["by its agent"] = {wait = "none"},
  }) do
    opts.deterministic = true
    refuses(t, function() provium:vm((want:gsub("[^a-z]", "")), "host", opts):boot() end, want)
  end
end)
