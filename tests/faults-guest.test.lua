-- How a guest can disturb its operations: much output, any bytes, a full disk, and its
-- end in the middle of one. The guest has 128 MiB, the documented minimum.

local vm = provium:vm("small", "host", {memory = "128M"}):boot()

-- all_bytes contains every byte value, in an order unlike text.
local bytes = {}
for i = 0, 255 do bytes[i + 1] = string.char((i * 167 + 13) % 256) end
local all_bytes = table.concat(bytes)

test("128 MiB are enough to run commands", function(t)
  local kib = tonumber(vm:run("grep MemTotal /proc/meminfo").stdout:match("%d+"))
  t:assert(kib < 128 * 1024)
  t:assert_eq(vm:run("seq 1000 | tail -n 1").stdout, "1000\n")
end)

test("the idle agent stays within 16 MiB", function(t)
  t:assert_eq(vm:run("cat /proc/$PPID/comm").stdout, "provium-agent\n")
  local kib = tonumber(vm:run("grep ^Rss: /proc/$PPID/smaps_rollup"):assert_ok().stdout:match("%d+"))
  t:log("the agent has " .. kib .. " KiB resident")
  t:assert(kib <= 16 * 1024, "the agent has " .. kib .. " KiB resident")
end)

test("two million bytes on both outputs", function(t)
  local r = vm:run("dd if=/dev/zero bs=100000 count=20 status=none | tr '\\0' o & dd if=/dev/zero bs=100000 count=20 status=none | tr '\\0' e >&2; wait"):assert_ok()
  t:assert_eq(#r.stdout, 2000000)
  t:assert_eq(#r.stderr, 2000000)
  t:assert(r.stdout == ("o"):rep(2000000), "stdout has other bytes")
  t:assert(r.stderr == ("e"):rep(2000000), "stderr has other bytes")
end)

test("output that nobody reads does not stop a command", function(t)
  local r = vm:run("yes | dd bs=100000 count=50 iflag=fullblock status=none | wc -c"):assert_ok()
  t:assert_eq(tonumber(r.stdout), 5000000)
end)

test("every byte value passes, in and out", function(t)
  local data = all_bytes:rep(64)
  t:assert(vm:run("cat", {stdin = data}).stdout == data, "stdin to stdout")
  t:assert(vm:run("cat >&2", {stdin = data}).stderr == data, "stdin to stderr")
  vm:write_file("/tmp/bytes", data)
  t:assert(vm:read_file("/tmp/bytes") == data, "write_file to read_file")
  -- No argument can hold a NUL.
  local argument = all_bytes:gsub("%z", "")
  t:assert(vm:run("printf", {"%s", argument}).stdout == argument, "argument to stdout")
  t:assert(vm:run("printf %s \"$V\"", {env = {V = argument}}).stdout == argument, "environment to stdout")
  local name = all_bytes:gsub("[%z/]", ""):sub(1, 200)
  vm:mkdir("/tmp/names")
  vm:write_file("/tmp/names/" .. name, "named")
  t:assert(vm:listdir("/tmp/names")[1].name == name, "file name")
  t:assert_eq(vm:read_file("/tmp/names/" .. name), "named")
end)

test("a full disk is an error with its name, and the guest lives on", function(t)
  vm:run("mkdir /tmp/disk; mount -t tmpfs -o size=1m disk /tmp/disk"):assert_ok()
  local full = "No space left on device (ENOSPC, os error 28) [errno 28]"
  local err = t:assert_raises(function() vm:write_file("/tmp/disk/big", ("x"):rep(4 << 20)) end)
  t:assert_contains(err, full)
  t:assert_contains(err, "/tmp/disk/big")

  local host_file = os.tmpname()
  local f <close> = assert(io.open(host_file, "wb"))
  f:write(("y"):rep(4 << 20))
  f:close()
  err = t:assert_raises(function() vm:push_file(host_file, "/tmp/disk/pushed") end)
  os.remove(host_file)
  t:assert_contains(err, full)

  vm:run("dd if=/dev/zero of=/tmp/disk/rest bs=4k 2>/dev/null")
  local results = vm:batch(function(b)
    b:write_file("/tmp/disk/more", "more than nothing")
    b:run("echo still here")
  end)
  t:assert_contains(results[1].err, full)
  t:assert_eq(results[2].ok.stdout, "still here\n")
  vm:run("umount /tmp/disk"):assert_ok()
end)

test("the out-of-memory killer takes commands, not the agent", {allow_oops = true}, function(t)
  local r = vm:run("tail /dev/zero")
  t:assert_eq(r.status, "signalled")
  t:assert_eq(r.signal, 9)
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

-- lines are what kernels print when they fail. A program's lines have no time stamp.
local lines = {
  "Kernel panic - not syncing: from pstore", "---[ end Kernel panic - not syncing: from pstore ]---",
  "BUG: kernel NULL pointer dereference, address: 0000000000000000", "BUG: my program failed",
  "kernel BUG at fs/ext4/inode.c:1234!", "Oops: 0000 [#1] PREEMPT SMP", "Oops: try again",
  "Internal error: Oops: 0000000096000004 [#1] SMP", "invalid opcode: 0000 [#1] PREEMPT SMP",
  "general protection fault: 0000 [#1] PREEMPT SMP", "Unable to handle kernel paging request at virtual address 0",
  "INFO: task scheduler blocked list for more than none", "INFO: task dd:312 blocked for more than 122 seconds.",
  "INFO: rcu_sched self-detected stall on CPU", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
  "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
  "WARNING: CPU: 0 PID: 290 at kernel/demo.c:17 demo_warn+0x12/0x20", "WARNING: this script is old",
  "WARNING: possible circular locking dependency detected", "BUG: KASAN: slab-out-of-bounds in demo+0x1/0x2",
  "BUG: KFENCE: use-after-free read in demo", "UBSAN: array-index-out-of-bounds in demo.c:1:2",
  "PANIC: double fault, error_code: 0x0", "[ BUG: held lock freed! ]",
}

test("a line that a program prints is not the kernel's", function(t)
  for _, line in ipairs(lines) do vm:run("cat > /dev/console", {stdin = line .. "\n"}):assert_ok() end
  vm:console():expect("[ BUG: held lock freed! ]")
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
  -- The kernel stamps what is written to its log, but it answers after this panic.
  vm:run("echo '<2>Kernel panic - not syncing: from a log' > /dev/kmsg"):assert_ok()
  vm:console():expect("not syncing: from a log")
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

test("a warning that a program writes to the kernel's log is not the kernel's", function(t)
  vm:run("echo '<2>WARNING: CPU: 0 PID: 7 at kernel/demo.c:17 demo+0x1/0x2' > /dev/kmsg"):assert_ok()
  vm:console():expect("kernel/demo.c:17")
end)

test("a reboot from within ends the operation and keeps the VM", function(t)
  t:assert_contains(t:assert_raises(function() vm:wait_reboot(0) end),
    "wait_reboot timed out after 0s: vm `small` has not rebooted")
  local err = t:assert_raises(function() vm:run("echo before the reboot >/dev/ttyS0; reboot -f; sleep 1000") end)
  t:assert_eq(vm:wait_reboot("2m"), true)
  vm:console():expect("before the reboot", "1s")
  t:assert_contains(err, "reset")
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:run("echo back").stdout, "back\n")
end)

-- ends runs op, which ends the guest, asserts that it and the next operation fail with
-- the reason, and boots the VM again.
local function ends(t, op, ...)
  local err = t:assert_raises(op)
  local later = t:assert_raises(function() vm:read_file("/proc/version") end)
  t:assert_eq(vm:state(), "dead")
  for _, needle in ipairs({...}) do
    t:assert_contains(err, needle)
    t:assert_contains(later, needle)
  end
  t:assert_contains(later, "cannot read_file: vm `small` is dead")
  t:assert_contains(later, "create a new")
  vm:shutdown()
end

test("a power-off in the middle of an operation", function(t)
  ends(t, function() vm:run("poweroff -f; sleep 1000") end, "guest powered off")
end)

test("a kernel crash in the middle of an operation", {allow_oops = true}, function(t)
  vm:boot()
  ends(t, function() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end, "Kernel panic", "sysrq")
  t:assert_contains(vm:console():read_log(), "sysrq triggered crash")
end)

local function crash() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end

test("an expected panic lets the kernel reboot", {expect_panic = true}, function(t)
  vm:boot({kernel_cmdline_append = "panic=-1"})
  t:assert_contains(t:assert_raises(crash), "vm `small`: guest panicked: Kernel panic - not syncing: sysrq")
  t:assert_eq(vm:run("echo back").stdout, "back\n")
  t:assert_eq(vm:state(), "booted")
end)

test("any other panic is the end, also where the kernel reboots", {allow_oops = true}, function(t)
  ends(t, crash, "guest panicked: Kernel panic", "sysrq")
end)

test("the end of the agent in the middle of an operation", function(t)
  vm:boot()
  ends(t, function() vm:run("kill -9 $PPID; sleep 1000") end, "agent is lost")
end)

test("the end of QEMU itself", function(t)
  vm:boot()
  -- The CID, which is unique on the host, is the process id of its QEMU.
  t:assert(os.execute("kill -9 " .. vm:cid()))
  ends(t, function() vm:run("sleep 1000") end, "qemu ended", "killed")
end)
