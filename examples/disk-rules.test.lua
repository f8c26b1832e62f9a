-- A program must notice when a disk gives back other bytes than it was given.
local vm = provium:vm("store", "host"):boot()
local disk = vm:attach_disk({id = "data", size = "16M"})
local dev = "/dev/disk/by-id/virtio-data"

test("a corrupted write is caught by a checksum", function(t)
  -- One write is corrupted, and the guest is not told.
  disk:inject{op = "write", effect = "corrupt", count = 1, seed = 1}
  vm:run("head -c 65536 /dev/urandom > /tmp/want && dd if=/tmp/want of=" .. dev .. " bs=64k oflag=direct conv=fsync status=none"):assert_ok()
  t:assert_eq(disk:rules()[1].hits, 1)
  local read = "dd if=" .. dev .. " bs=64k count=1 iflag=direct status=none | cmp -s - /tmp/want"
  t:assert(not vm:run(read):ok(), "the corruption was not there")
  -- The same write once more is fine: the rule was for one.
  vm:run("dd if=/tmp/want of=" .. dev .. " bs=64k oflag=direct conv=fsync status=none"):assert_ok()
  vm:run(read):assert_ok()
end)
