-- Suspend-to-RAM: the guest puts itself to sleep, the test wakes it up. And a guest that
-- starts another kernel, whose agent takes over without a reset.
local vm = provium:vm("sleeper", "plain"):boot()

-- sleeps has the guest put itself to sleep and wakes it up. It may be asleep before it could
-- say that the command runs.
local function sleeps(command)
  local suspend
  parallel{
    function() suspend = vm:run_async(command) end,
    function()
      wait_until(function() return (pcall(vm.wakeup, vm)) end, {timeout = "60s", desc = "the guest is asleep"})
    end,
  }
  return suspend
end

test("a guest that is awake is not woken", function(t)
  t:assert_contains(t:assert_raises(function() vm:wakeup() end), "not suspended")
  t:assert_contains(vm:read_file("/sys/power/mem_sleep"), "deep")
end)

test("processes and the link survive the sleep", function(t)
  local id = vm:read_file("/proc/sys/kernel/random/boot_id")
  local sleeper = vm:run_async("cat")
  local suspend = sleeps("echo mem > /sys/power/state; echo woke")
  t:assert_eq(suspend:wait("30s").stdout, "woke\n")
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:read_file("/proc/sys/kernel/random/boot_id"), id)
  sleeper:stdin_write("still here"); sleeper:close_stdin()
  t:assert_eq(sleeper:wait("30s").stdout, "still here")
end)

test("a guest sleeps more than once, and a system call in flight survives it", function(t)
  local a, b = string.unpack("<i4i4", vm:syscall(22, {bufs = {("\0"):rep(8)}, ptrs = {0}}).out_bufs[1]) -- pipe
  local call = vm:syscall_async(0, {args = {a, 0, 16}, bufs = {("\0"):rep(16)}, ptrs = {1}}) -- read
  local suspend = sleeps("echo mem > /sys/power/state")
  t:assert(suspend:wait("60s"):ok())
  vm:syscall(1, {args = {b, 0, 5}, bufs = {"awake"}, ptrs = {1}}) -- write
  local r = call:await("30s")
  t:assert_eq(r.out_bufs[1]:sub(1, r.ret), "awake")
end)

local SYS_open, SYS_reboot, SYS_kexec_file_load = 2, 169, 320

test("kexec: what is in flight fails with the reason, and the VM lives on", function(t)
  -- The guest's own kernel and initrd, as its QEMU was given them.
  local words = {}
  for word in io.open("/proc/" .. vm:cid() .. "/cmdline"):read("a"):gmatch("[^\0]+") do words[#words + 1] = word end
  local fds = {}
  for i, word in ipairs(words) do
    local name = word:match("^%-(kernel)$") or word:match("^%-(initrd)$")
    if name then
      vm:push_file(words[i + 1], "/tmp/" .. name)
      fds[name] = vm:syscall(SYS_open, {bufs = {"/tmp/" .. name .. "\0"}, ptrs = {0}}).ret
    end
  end
  local cmdline = vm:read_file("/proc/cmdline"):gsub("\n", "") .. " second_kernel\0"
  local loaded = vm:syscall(SYS_kexec_file_load,
    {args = {fds.kernel, fds.initrd, #cmdline, 0, 0}, bufs = {cmdline}, ptrs = {3}})
  t:assert_eq(loaded.ret, 0)
  local id = vm:read_file("/proc/sys/kernel/random/boot_id")
  vm:run("echo before the kexec >/dev/ttyS0"):assert_ok()
  local err = t:assert_raises(function()
    vm:syscall(SYS_reboot, {args = {0xfee1dead, 672274793, 0x45584543, 0}}) -- LINUX_REBOOT_CMD_KEXEC
  end)
  t:assert_contains(err, "vm `sleeper`: the agent ")
  t:assert_eq(vm:wait_reboot("2m"), true)
  t:assert_contains(vm:read_file("/proc/cmdline"), "second_kernel")
  t:assert_neq(vm:read_file("/proc/sys/kernel/random/boot_id"), id)
  t:assert_eq(vm:state(), "booted")
  vm:console():expect("before the kexec", "1s")
end)

-- Three boots and two images of the memory. Every day, TestResumedAgent in internal/instance
-- has the agents, and the kexec above a takeover without a reset.
test("a resume from hibernation: its own agent is replaced by the hibernated one", {slow = true, timeout = "5m"}, function(t)
  local own = provium:vm("hibernates", "plain", {memory = "192M", disks = {{scratch = "400M"}}}):boot()
  own:run("mkswap /dev/vda && swapon /dev/vda"):assert_ok()
  local cat = own:run_async("cat")
  local id = own:read_file("/proc/sys/kernel/random/boot_id")
  own:write_file("/sys/power/disk", "reboot") -- instead of a power-off, when the image is written
  local err = t:assert_raises(function() own:write_file("/sys/power/state", "disk") end)
  t:assert_contains(err, "the guest was reset")
  t:assert_eq(own:wait_reboot("2m"), true)
  t:assert_neq(own:read_file("/proc/sys/kernel/random/boot_id"), id)
  local device = own:read_file("/sys/block/vda/dev")
  err = t:assert_raises(function() own:write_file("/sys/power/resume", device) end)
  t:assert_contains(err, "vm `hibernates`: the agent ")
  t:assert_eq(own:wait_reboot("2m"), true)
  -- What the hibernated guest had is there, the process too.
  t:assert_eq(own:read_file("/proc/sys/kernel/random/boot_id"), id)
  cat:stdin_write("still here"); cat:close_stdin()
  t:assert_eq(cat:wait("30s").stdout, "still here")
  t:assert_eq(own:state(), "booted")
end)
