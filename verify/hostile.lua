-- Each act is a shell command in a guest, which has a limit of 3 s. Whatever comes of it,
-- the test ends and the next guest is fine. `only` is the number of the one to be tried.

local acts = {
  {"a fork bomb", "f() { f | f & }; f"},
  {"many processes that do not end", "i=0; while [ $i -lt 2000 ]; do sleep 1000 & i=$((i+1)); done; wait"},
  {"the agent is stopped", "kill -STOP $PPID; sleep 10"},
  {"the agent is killed", "kill -KILL $PPID; sleep 10"},
  {"the agent gets every signal", "for s in 1 2 3 4 5 6 7 8 10 11 12 13 14 15 24 25 26 30 31; do kill -$s $PPID; done; sleep 10"},
  {"all processes are killed", "kill -KILL -1; sleep 10"},
  {"all processes are stopped", "kill -STOP -1; sleep 10"},
  {"the kernel panics", "echo c > /proc/sysrq-trigger; sleep 10"},
  {"the kernel panics without a word", "echo 0 > /proc/sys/kernel/printk; echo c > /proc/sysrq-trigger; sleep 10"},
  {"a reset at once", "echo b > /proc/sysrq-trigger; sleep 10"},
  {"a power-off at once", "poweroff -f; sleep 10"},
  {"a halt", "halt -f; sleep 10"},
  {"suspend to RAM", "echo mem > /sys/power/state; sleep 10"},
  {"all memory is used", "tail /dev/zero"},
  {"all memory is used by files", "cat /dev/zero > /dev/shm/x 2>/dev/null || dd if=/dev/zero of=/tmp/x bs=1M; sleep 10"},
  {"the out-of-memory killer kills the agent", "echo 1000 > /proc/$PPID/oom_score_adj; tail /dev/zero"},
  {"endless output", "yes"},
  {"endless output on both", "yes & yes >&2"},
  {"endless random output", "cat /dev/urandom"},
  {"a line without an end", "cat /dev/zero"},
  {"both consoles are flooded", "yes flood > /dev/hvc0 & yes flood > /dev/console"},
  {"the console gets control characters", "printf '\\033[2J\\033]0;x\\007\\033[31m\\000\\377\\n' > /dev/console; cat /dev/urandom > /dev/console"},
  {"the console reports a panic that is none", "echo 'Kernel panic - not syncing: no' > /dev/console; sleep 10"},
  {"the kernel log is flooded", "while :; do echo flood > /dev/kmsg; done"},
  {"the agent's port is written to", "cat /dev/urandom > /dev/vport*p1; sleep 10"},
  {"the agent's port gets zeroes", "cat /dev/zero > /dev/vport*p1; sleep 10"},
  {"the agent's port is read", "cat /dev/vport*p1 > /dev/null; sleep 10"},
  {"the agent's descriptors are written to", "for f in /proc/$PPID/fd/*; do head -c 100000 /dev/urandom > $f; done 2>/dev/null; sleep 10"},
  {"the driver of the port is unbound", "cd /sys/bus/virtio/drivers/virtio_console && for d in virtio*; do echo $d > unbind; done; sleep 10"},
  {"the PCI devices are removed", "for d in /sys/bus/pci/devices/*/remove; do echo 1 > $d; done; sleep 10"},
  {"the devices are removed from the file system", "rm -rf /dev/*; sleep 10"},
  {"everything is removed", "rm -rf / 2>/dev/null; rm -rf /bin /sbin /usr /lib /etc /tmp /dev; sleep 10"},
  {"/proc and /sys are unmounted", "umount -l /proc /sys /dev; sleep 10"},
  {"the memory of the agent is overwritten", "dd if=/dev/urandom of=/proc/$PPID/mem bs=1M seek=2 count=4 conv=notrunc; sleep 10"},
  {"the CPUs are taken off", "for c in /sys/devices/system/cpu/cpu*/online; do echo 0 > $c; done; sleep 10"},
  {"a process of the highest priority", "chrt -f 99 sh -c 'while :; do :; done'"},
  {"the clock goes back", "date -s @0; sleep 10"},
  {"the clock goes forward", "date -s @4000000000; sleep 10"},
  {"the network is taken down", "for i in /sys/class/net/*; do ip link set ${i##*/} down; done; sleep 10"},
  {"a flood of frames", "ping -f -s 60000 127.0.0.1 >/dev/null & while :; do head -c 1400 /dev/urandom | nc -u -w 0 10.0.0.1 9; done"},
}

-- now returns the seconds since the host was started.
local function now()
  local f <close> = assert(io.open("/proc/uptime"))
  return tonumber(f:read("a"):match("^%S+"))
end

-- waits returns how long each thread of a guest's QEMU has waited for a CPU of this machine, in seconds, by thread.
local function waits(vm)
  local by = {}
  local list <close> = io.popen("cd /proc/" .. vm:cid() .. "/task 2>/dev/null && grep -H . */schedstat 2>/dev/null")
  for line in list:lines() do
    local thread, ns = line:match("^(%d+)/schedstat:%d+ (%d+)")
    if thread then by[thread] = tonumber(ns) / 1e9 end
  end
  return by
end

local name, command = table.unpack(acts[only])

test(name, {timeout = "5m", allow_oops = true}, function(t)
  local vm = provium:vm("hostile", "host", {memory = "256M", cpus = 2}):boot()
  local began = now()
  local fine, err, seconds
  local waited = 0
  parallel{
    function()
      fine, err = pcall(vm.run, vm, command, {timeout = 3})
      seconds = now() - began
    end,
    function() -- how long the guest has waited for a CPU since the limit
      wait_until(function() return seconds or now() - began >= 3 end, {interval = "50ms", timeout = "1m"})
      if seconds then return end
      local before = waits(vm)
      wait_until(function()
        for thread, s in pairs(waits(vm)) do waited = math.max(waited, s - (before[thread] or 0)) end
        return seconds
      end, {interval = "100ms", timeout = "4m"})
    end,
  }
  -- Output of up to 64 MiB, and twice that with both, is waited for once it comes.
  local much = fine and #err.stdout + #err.stderr > 4 << 20
  t:log(("seconds of the operation%s: %.2f"):format(much and " with its output" or "", seconds))
  if waited > 0 then t:log(("seconds without a CPU behind the limit: %.2f"):format(waited)) end
  t:log(fine and err.status or err)
  if only % 2 == 0 then vm:shutdown() end -- else the end of the test does
  local after = provium:vm("after", "host"):boot()
  t:assert_eq(after:run("echo fine").stdout, "fine\n")
end)
