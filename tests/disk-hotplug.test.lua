-- A disk's life in a running guest: plugged, formatted, mounted, unplugged, and back.

local vm = provium:vm("hot", "host"):boot()

test("a disk is plugged, formatted, mounted, unplugged, and is back with its files", function(t)
  local image = os.tmpname()
  assert(os.execute("truncate -s 32M " .. image))
  local dev = "/dev/disk/by-id/virtio-data"
  local d = vm:attach_disk({id = "data", image = image})
  vm:run("mke2fs -q " .. dev .. " && mount -t ext4 " .. dev .. " /mnt"):assert_ok()
  vm:write_file("/mnt/file", "on the disk")
  vm:run("umount /mnt"):assert_ok()
  d:detach()
  t:assert(d:is_detached())
  t:assert_contains(t:assert_raises(function() vm:stat(dev) end), "ENOENT")
  t:assert_contains(t:assert_raises(function() d:read_sectors(0, 1) end), "disk is detached")

  d = vm:attach_disk({id = "data", image = image})
  vm:run("mount -t ext4 " .. dev .. " /mnt"):assert_ok()
  t:assert_eq(vm:read_file("/mnt/file"), "on the disk")
  vm:run("umount /mnt"):assert_ok()
  d:detach()
  os.remove(image)
end)
