-- Writes to the file FIGURES how long reads take, in nanoseconds of the guest, whose clock counts hundredths of a second.
test("reads", function(t)
  local vm = provium:vm("v", "image", {memory = "512M"}):boot()
  local out <close> = assert(io.open(os.getenv("FIGURES"), "w"))
  local disk = "/dev/disk/by-id/virtio-plain"
  for round = 0, 6 do
    for name, path in pairs{file = "/data/file", disk = disk} do
      local r = vm:run("sync; echo 3 >/proc/sys/vm/drop_caches; cat /proc/uptime; dd bs=1M count=64 of=/dev/null if=" .. path ..
        " 2>/dev/null; cat /proc/uptime"):assert_ok()
      local from, to = r.stdout:match("^([%d.]+)[^\n]*\n([%d.]+)")
      if round > 0 then out:write(("%s %.0f\n"):format(name, (to - from) * 1e9)) end
    end
  end
end)
