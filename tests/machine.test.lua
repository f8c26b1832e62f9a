-- What a machine is made of, and the commands of QEMU's monitor.

local base = provium:vm("base", "host"):boot()

local function fails(want, f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(err):find(want, 1, true), ("%q is not in %q"):format(want, tostring(err)))
end

test("commands of the monitor", function(t)
  local vm = base:fork()
  assert(vm:qmp("query-status").status == "running")
  assert(#vm:qmp("query-cpus-fast") == 1)
  assert(vm:qmp("human-monitor-command", {["command-line"] = "info version"}):find("%d+%.%d+"))
  vm:pause()
  assert(vm:qmp("query-status").status == "paused")
  vm:resume()
  fails("qmp device_add: GenericError: 'nosuch' is not a valid device model name", vm.qmp, vm, "device_add",
    {driver = "nosuch"})
  fails("qmp nosuch: CommandNotFound: The command nosuch has not been found", vm.qmp, vm, "nosuch")
  fails("qmp quit: refused: use vm:shutdown()", vm.qmp, vm, "quit")
  fails("argument 2 (arguments) must be a table, got string", vm.qmp, vm, "quit", "x")
  vm:shutdown()
  fails("vm", vm.qmp, vm, "query-status")
end)

test("a place for a debugger", function(t)
  local vm = base:fork()
  local stub = vm:gdb()
  assert(vm:gdb().socket == stub.socket)
  assert(stub.command:find("gdb -ex 'target remote " .. stub.socket .. "'", 1, true), stub.command)
  assert(stub.offset % 4096 == 0)
  assert(vm:run("echo on"):assert_ok().stdout == "on\n")
end)

test("a snapshot does not leave a new device out", function(t)
  local vm = base:fork()
  vm:qmp("object-add", {["qom-type"] = "rng-builtin", id = "mine"})
  fails("the machine was changed by vm:qmp(\"object-add\")", vm.snapshot, vm)
  assert(vm:run("echo on"):assert_ok().stdout == "on\n")
end)

test("arguments for QEMU, and a topology of CPUs", function(t)
  local vm = provium:vm("shaped", "host", {
    cpu_topology = {sockets = 2, cores = 1}, qemu_args = {"-device", "edu", "-smbios", "type=1,serial=mine"},
  }):boot({agent_timeout = 300})
  assert(vm:run("cat /sys/devices/system/cpu/online").stdout == "0-1\n")
  assert(vm:run("cat /sys/devices/system/cpu/cpu1/topology/physical_package_id").stdout == "1\n")
  assert(vm:read_file("/sys/class/dmi/id/product_serial") == "mine\n")
  local copy = vm:fork()
  assert(copy:run("cat /sys/devices/system/cpu/online").stdout == "0-1\n")
  local saved = vm:snapshot()
  local plain = provium:vm("plain", "host")
  fails("qemu_args `-device edu -smbios type=1,serial=mine`", plain.restore, plain, saved)
end)

test("shapes that no machine has", function(t)
  local function declare(opts) return function() provium:vm("x", "host", opts) end end
  fails("opts.qemu_args: `-qmp` is Provium's own", declare({qemu_args = {"-qmp", "stdio"}}))
  fails("opts.qemu_args must be an array of strings, got string", declare({qemu_args = "-device"}))
  fails("entry 1 is a number", declare({qemu_args = {1}}))
  fails("are 4 CPUs, the machine has 3", declare({cpus = 3, cpu_topology = {cores = 2, threads = 2}}))
  fails("unknown option `dies`", declare({cpu_topology = {dies = 2}}))
end)
