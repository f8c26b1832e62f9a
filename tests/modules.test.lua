-- Kernel modules that a profile lists.
test("soft dependencies are loaded, also those by alias", function(t)
  local vm = provium:vm("fs", "btrfs", {memory = "256M"}):boot()
  t:assert_contains(vm:read_file("/proc/filesystems"), "btrfs")
  local crypto = vm:read_file("/proc/crypto")
  for _, name in ipairs {"blake2b-256", "xxhash64", "sha256", "crc32c"} do
    t:assert(crypto:find("name         : " .. name .. "\n", 1, true), name .. " is missing")
  end
  t:assert(not vm:console():read_log():find("provium-agent:", 1, true), "a soft dependency is no failure")
end)

test("a listed module that does not load is the boot's error", function(t)
  local vm = provium:vm("bad", "bad-module", {memory = "256M"})
  local err = t:assert_raises(function() vm:boot() end)
  t:assert_contains(err, "load module loop.ko: invalid argument")
  t:assert_contains(err, "modules")
  t:assert_eq(vm:state(), "dead")
end)
