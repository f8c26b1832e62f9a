-- An OCI image with systemd (tests/profiles/oci-systemd).

test("an image's own systemd boots, and a snapshot has all of it", function(t)
  local vm = provium:vm("box", "oci-systemd", {memory = "384M"}):boot()
  vm:wait_boot()
  vm:wait_unit("web")
  t:assert_eq(vm:read_file("/proc/1/comm"), "systemd\n")
  t:assert_contains(vm:run("mount").stdout, "userland on / type overlay")
  local noted = vm:journal{unit = "noted.service"}
  t:assert_contains(noted[#noted].message, "Finished")
  vm:run("echo kept >/etc/kept; systemctl stop noted"):assert_ok()
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:read_file("/etc/kept"), "kept\n")
  vm:wait_unit("noted", {state = "inactive"})
  vm:wait_port(8080)
  -- A program that no boot has read.
  t:assert_matches(vm:run("systemd-id128 new"):assert_ok().stdout, "^%x+\n$")
end)
