-- Does a program keep its promises when the power goes? Every write of the disk is recorded,
-- and the check looks at what a power cut could have left, point by point.
local image = os.tmpname()
assert(os.execute("truncate -s 16M " .. image .. " && mkfs.ext4 -q -F " .. image))
local vm = provium:vm("db", "host", {memory = "256M"}):boot()
local disk = vm:attach_disk({id = "data", image = image})
local function mount(vm) vm:run("mkdir -p /mnt && mount /dev/disk/by-id/virtio-data /mnt"):assert_ok() end

test("what was saved is there after a power cut, old or new, and never half", function(t)
  disk:crash_points{
    workload = function(vm, disk)
      mount(vm)
      for i = 1, 3 do -- without the first fsync this test fails
        vm:run(("echo version %d | dd of=/mnt/new conv=fsync && mv /mnt/new /mnt/data && echo | dd of=/mnt/log conv=fsync"):format(i)):assert_ok()
        disk:mark(i)
      end
    end,
    check = function(vm, disk, point)
      mount(vm)
      if point.mark then
        local version = tonumber(vm:read_file("/mnt/data"):match("^version (%d)\n$"))
        assert(version >= tonumber(point.mark))
      end
    end,
    sample = 20, guest = "reuse",
  }
end)
