-- Writes to the file FIGURES how long reads take, in nanoseconds of the guest.
test("reads", function(t)
  local vm = provium:vm("v", "image", {memory = "512M"}):boot()
  local out <close> = assert(io.open(os.getenv("FIGURES"), "w"))
  local disk = "/dev/disk/by-id/virtio-plain"
  for round = 0, 6 do
    for name, path in pairs{file = "/data/file", disk = disk} do
      local r = vm:run("sync; echo 3 >/proc/sys/vm/drop_caches; date +%s%N; dd bs=1M count=64 of=/dev/null if=" .. path ..
        " 2>/dev/null; date +%s%N"):assert_ok()
      local from, to = r.stdout:match("(%d+)\n(%d+)")
      if round > 0 then out:write(("%s %d\n"):format(name, to - from)) end
    end
  end
end)
