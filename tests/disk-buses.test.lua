-- Disks that are not virtio-blk: the same faults, snapshots where QEMU can save them.

local function fails(want, f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(err):find(want, 1, true), ("%q is not in %q"):format(want, tostring(err)))
end

-- Writes and reads a sector of a disk, and has a write fail.
local function exercise(vm, id, path)
  local d = vm:disk(id)
  vm:run("printf hello | dd of=" .. path .. " bs=512 conv=sync,fsync 2>/dev/null"):assert_ok()
  assert(d:read_sectors(0, 1):sub(1, 5) == "hello")
  d:write_sectors(8, ("x"):rep(512))
  assert(vm:run("dd if=" .. path .. " bs=512 skip=8 count=1 iflag=direct 2>/dev/null | tr -d x | wc -c").stdout == "0\n")
  local rule = d:inject{op = "write", sectors = {64, 8}, errno = "EIO"}
  assert(not vm:run("dd if=/dev/zero of=" .. path .. " bs=512 seek=64 count=1 oflag=direct"):ok())
  d:clear_rule(rule)
  assert(vm:run("dd if=/dev/zero of=" .. path .. " bs=512 seek=64 count=1 oflag=direct"):ok())
end

test("virtio-scsi and nvme", function(t)
  local vm = provium:vm("a", "buses", {
    disks = {{scratch = "8M", id = "s", bus = "virtio-scsi"}, {scratch = "4M", id = "v"}},
  }):boot({agent_timeout = 300})
  local scsi = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_s"
  assert(vm:run("cat /sys/block/sda/size").stdout == "16384\n")
  exercise(vm, "s", scsi)
  -- What the guest has not flushed, and the disk itself, are in a snapshot.
  local copy = vm:fork()
  assert(copy:run("head -c 5 " .. scsi).stdout == "hello")
  exercise(copy, "s", scsi)

  local plugged = copy:attach_disk({id = "p", size = "4M", bus = "virtio-scsi"})
  exercise(copy, "p", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_p")
  plugged:resize("8M")
  -- Linux 6.1 warns (virtscsi_remove) where the driver goes while it looks at the new size.
  wait_until(function() return copy:run("cat /sys/block/sdb/size").stdout == "16384\n" end)
  plugged:detach()
  assert(not copy:run("test -e /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_p"):ok())

  local nvme = copy:attach_disk({id = "n", size = "4M", bus = "nvme"})
  exercise(copy, "n", "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_n")
  fails("an NVMe disk of a guest that runs keeps its size", nvme.resize, nvme, "8M")
  fails("NVMe", copy.snapshot, copy)
  nvme:detach()
  copy:snapshot()
end)

test("a guest without the driver says so at once", function(t)
  local vm = provium:vm("x", "host"):boot()
  for _ = 1, 2 do -- the first one has left nothing behind
    fails('no driver for disks on bus `virtio-scsi` (CONFIG_SCSI_VIRTIO, CONFIG_BLK_DEV_SD): load it by modules = ' ..
      '["virtio_scsi", "sd_mod"] of the profile', vm.attach_disk, vm, {size = "1M", bus = "virtio-scsi"})
  end
  -- Disks for which it has one are found.
  vm:attach_disk({id = "v", size = "1M"})
  vm:run("test -b /dev/disk/by-id/virtio-v"):assert_ok()
end)

test("a bus that is not known", function(t)
  fails("`ide` is unknown (valid: virtio-blk, virtio-scsi, nvme)", function()
    provium:vm("x", "host", {disks = {{scratch = "1M", bus = "ide"}}})
  end)
  fails("discard = false needs bus `virtio-blk`, not `nvme`", function()
    provium:vm("x", "host", {disks = {{scratch = "1M", bus = "nvme", discard = false}}})
  end)
end)
