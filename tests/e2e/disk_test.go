package e2e

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// small puts a filesystem of a limited size at dir until the test ends.
func (p *project) small(dir, size string) {
	p.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		p.t.Skipf("needs the right to mount: %v", err)
	}
	p.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			p.t.Error(err)
		}
	})
}

// A host without room for what a guest writes to a disk is an I/O error to the guest
// and a reason to the test; when there is room again the disk works.
func TestHostDiskFull(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.small(p.temp, "48m")
	p.write("tests/a.test.lua", `
local path = os.getenv("TMPDIR") .. "/filler"

test("full", function(t)
  local vm = provium:vm("box", "host"):boot()
  vm:attach_disk({id = "big", size = "256M"})
  local dev = "/dev/disk/by-id/virtio-big"
  local function write(count, skip)
    return vm:run(("dd if=/dev/zero of=%s bs=1M count=%d seek=%d oflag=direct conv=notrunc,fsync"):format(dev, count, skip))
  end
  write(1, 0):assert_ok()

  local filler = assert(io.open(path, "w"))
  repeat
    local done = filler:write(("x"):rep(1 << 16)) and filler:flush()
  until not done
  filler:close()

  local r = write(8, 1)
  assert(r.exit_code ~= 0 and r.stderr:find("Input/output error"), r.stderr)
  vm:run("dd of=/dev/null bs=1M count=9 iflag=direct if=" .. dev):assert_ok() -- reads do not need room

  os.remove(path)
  write(8, 1):assert_ok()
  write(4, 100):assert_ok()
end)
`)
	p.run().expect(0, "1 passed, 0 failed", "vm `box` disk `big`: the host has no space left for what the guest writes")
}
