-- A panic that a test expects, with a crash kernel that takes over. It needs a compressed kernel: kexec takes no
-- other.

local SYS_open, SYS_kexec_file_load, KEXEC_FILE_ON_CRASH = 2, 320, 2

-- Every day, faults-guest has an expected panic after which the guest goes on, and suspend
-- another kernel without a reset.
test("a crash kernel goes on after an expected panic", {slow = true, expect_panic = true}, function(t)
  local vm = provium:vm("dumps", "firmware", {memory = "640M", kernel_cmdline_append = "crashkernel=224M"}):boot()
  -- The guest's own kernel and initrd, as its QEMU was given them.
  local fds, name = {}, nil
  for word in io.open("/proc/" .. vm:cid() .. "/cmdline"):read("a"):gmatch("[^\0]+") do
    if name then
      vm:push_file(word, "/tmp/" .. name)
      fds[name] = vm:syscall(SYS_open, {bufs = {"/tmp/" .. name .. "\0"}, ptrs = {0}}).ret
    end
    name = word:match("^%-(kernel)$") or word:match("^%-(initrd)$")
  end
  local cmdline = vm:read_file("/proc/cmdline"):gsub("\n", ""):gsub("crashkernel=%S+", "") .. " crash_kernel\0"
  local loaded = vm:syscall(SYS_kexec_file_load,
    {args = {fds.kernel, fds.initrd, #cmdline, 0, KEXEC_FILE_ON_CRASH}, bufs = {cmdline}, ptrs = {3}})
  t:assert_eq(loaded.errno, 0)
  local err = t:assert_raises(function() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end)
  t:assert_contains(err, "vm `dumps`: guest panicked: Kernel panic - not syncing: sysrq triggered crash")
  -- The next operation waits for the agent of the crash kernel.
  t:assert_contains(vm:read_file("/proc/cmdline"), "crash_kernel")
  t:assert(vm:stat("/proc/vmcore").size > 0)
  t:assert_eq(vm:state(), "booted")
end)
