-- Kernels that really fail, by a module built for them: what they report has a title that names
-- the function, is found on a quiet console, too, and decides about the test.
local module = io.open("dist/profiles/crash/crash.ko")
local vm = provium:vm("crash", module and "crash" or "host", {memory = "256M"})
if module then
  module:close()
  vm:boot()
  assert(vm:read_file("/proc/modules"):find("^crash "), "the module is not loaded")
else
  todo("the headers of the kernel or a compiler are not to be had")
end
local base = module and vm:snapshot()
vm:shutdown()

local function restored()
  local box = provium:vm("box", module and "crash" or "host")
  box:restore(base)
  return box
end
local function crash(box, what) return box:run("echo " .. what .. " > /proc/crash", {timeout = "60s"}) end

for _, level in ipairs {4, 8} do
  local console = level == 4 and "a quiet console" or "a console that shows all"
  local function begin()
    local box = restored()
    box:run("dmesg -n " .. level):assert_ok()
    return box
  end

  test("a NULL pointer on " .. console, function(t)
    local box = begin()
    t:expect_kernel("BUG: unable to handle kernel NULL pointer dereference in crash_null")
    crash(box, "null")
  end)

  test("a corrupted list on " .. console, function(t)
    local box = begin()
    t:expect_kernel("BUG: corrupted list in crash_list")
    crash(box, "list")
  end)

  test("a warning on " .. console, function(t)
    local box = begin()
    t:expect_kernel("WARNING in crash_warn")
    crash(box, "warn")
  end)
end

-- What a quiet kernel has logged is looked for before it is gone.
for how, goes in pairs {
  ["is cleared"] = function(box) box:run("dmesg -c >/dev/null"):assert_ok() end,
  ["goes with a reset"] = function(box) box:reset() end,
  ["goes with the power button"] = function(box) box:power_button() end,
  ["goes with a shutdown"] = function(box) box:shutdown() end,
  ["goes with the VM"] = function(box) box:close() end,
} do
  test("a warning whose log " .. how, function(t)
    local box = restored()
    box:run("dmesg -n 1"):assert_ok()
    t:expect_kernel("WARNING in crash_warn")
    crash(box, "warn")
    goes(box)
  end)
end

-- A guest that ends itself takes its log along, too.
for how, ends in pairs {
  ["powers off"] = "poweroff -f", ["reboots"] = "reboot -f", ["powers off by sysrq"] = "echo o > /proc/sysrq-trigger",
  ["resets by sysrq"] = "echo b > /proc/sysrq-trigger", ["dies of a triple fault"] = "echo triple > /proc/crash",
} do
  test("a warning in a guest that then " .. how, function(t)
    local box = restored()
    box:run("dmesg -n 1"):assert_ok()
    t:expect_kernel("WARNING in crash_warn")
    if how:find("triple") then t:expect_kernel("unexpected reboot") end
    local err = t:assert_raises(function() box:run("echo warn > /proc/crash; " .. ends .. "; sleep 100") end)
    if how:find("powers") then
      t:assert_contains(err, "guest powered off")
      t:assert_eq(box:state(), "dead")
    else
      t:assert_contains(err, "the guest was reset")
      box:shutdown() -- its reboot would take seconds
    end
  end)
end

test("what led to a panic that is expected is no report of its own", {expect_panic = true}, function(t)
  local box = restored()
  box:run("dmesg -n 1"):assert_ok()
  t:assert_raises(function() box:run("echo warn > /proc/crash; echo c > /proc/sysrq-trigger; sleep 100") end)
  box:shutdown()
end)

test("a hung task on a quiet console", function(t)
  local box = restored()
  t:expect_kernel("INFO: task hung in crash_hang")
  box:run("echo 1 > /proc/sys/kernel/hung_task_timeout_secs"):assert_ok()
  crash(box, "hang")
end)

test("a task hung by a disk that never answers", function(t)
  local box = restored()
  local d = box:attach_disk({id = "stalled", size = "1M"})
  t:expect_kernel("INFO: task hung in blkdev_fsync")
  box:run("dmesg -n 8; echo 1 > /proc/sys/kernel/hung_task_timeout_secs"):assert_ok()
  d:inject{op = "write", delay = "1h"}
  box:run_async("dd if=/dev/zero of=/dev/disk/by-id/virtio-stalled bs=4096 count=1 conv=fsync status=none")
  box:console():expect("</TASK>")
  box:shutdown()
end)

test("a kernel that reboots at once after its panic leaves its log", {allow_oops = true}, function(t)
  local box = restored()
  box:run("echo -1 > /proc/sys/kernel/panic; echo the last > /dev/kmsg"):assert_ok()
  t:assert_contains(t:assert_raises(function() box:run("echo c > /proc/sysrq-trigger; sleep 100") end), "sysrq triggered crash")
  t:assert_eq(box:state(), "dead")
  t:assert_contains(box:dmesg(), "the last")
  t:assert_contains(box:dmesg(), "Call Trace:")
end)

test("a panic by sysrq on a quiet console", function(t)
  local box = restored()
  t:expect_kernel("Kernel panic - not syncing: sysrq triggered crash")
  local err = t:assert_raises(function() box:run("echo c > /proc/sysrq-trigger") end)
  t:assert_contains(err, "sysrq triggered crash")
end)

test("a panic that no console shows", function(t)
  local box = restored()
  box:run("echo 0 0 0 0 > /proc/sys/kernel/printk"):assert_ok()
  t:expect_kernel("Kernel panic - not syncing: sysrq triggered crash")
  local err = t:assert_raises(function() box:run("echo c > /proc/sysrq-trigger") end)
  t:assert_contains(err, "sysrq triggered crash") -- and not its silence, a minute later
end)

test("a soft lockup", {timeout = "2m"}, function(t)
  local box = restored()
  t:expect_kernel("BUG: soft lockup in crash_write")
  box:run("echo 1 > /proc/sys/kernel/watchdog_thresh"):assert_ok()
  crash(box, "spin")
end)

test("a triple fault", function(t)
  local box = restored()
  t:expect_kernel("unexpected reboot")
  local err = t:assert_raises(function() crash(box, "triple") end)
  t:assert_contains(err, "the guest was reset")
  box:shutdown() -- its reboot would take seconds
end)

test("a reboot call is no report", function(t)
  local box = restored()
  t:assert_contains(t:assert_raises(function() box:run("reboot -f; sleep 100") end), "the guest was reset")
  box:shutdown()
end)

test("a hang with interrupts off", function(t)
  local box = restored()
  box:run("echo the last > /dev/kmsg"):assert_ok()
  local err = t:assert_raises(function() box:run("echo deaf > /proc/crash", {timeout = "1s"}) end)
  t:assert_contains(err, "timed out after 1s")
  t:assert_contains(box:dmesg(), "the last") -- read from outside
end)

test("what was reported before a snapshot is not reported again", function(t)
  local box = restored()
  t:expect_kernel("WARNING in crash_warn")
  crash(box, "warn")
  base = box:snapshot()
end)

test("and is over in the next test", function(t)
  local box = restored()
  t:assert_contains(box:dmesg(), "WARNING: CPU:")
end)

test("a program's words in the kernel's log are not the kernel's", function(t)
  local box = restored()
  box:run("dmesg -n 8; echo '<2>BUG: KASAN: use-after-free in crash_me+0x1/0x2' > /dev/kmsg"):assert_ok()
  box:console():expect("crash_me")
end)
