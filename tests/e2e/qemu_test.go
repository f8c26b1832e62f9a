package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A snapshot of one QEMU does not fit another: it is refused with the difference. What
// Provium itself keeps, boots and fixtures, is made anew.
func TestSnapshotOfAnotherQEMU(t *testing.T) {
	t.Parallel()
	newer, err := filepath.Abs("../../dist/qemu-trixie/qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(newer); err != nil {
		t.Skip("there is no second QEMU: scripts/unpack-qemu")
	}
	if version(t, newer) == version(t, "qemu-system-x86_64") {
		t.Skip("the QEMU on PATH is of the same version")
	}
	p := newProject(t, fixtureProject)
	p.write("tests/box.fixture.lua", `
local vm = provium:vm("box", "host"):boot()
vm:write_file("/tmp/made", "made")
return vm:snapshot()
`)
	p.write("tests/a.test.lua", `
local box = provium:vm_fixture("box")
test("the fixture and its snapshot", function(t)
  t:assert_eq(box:read_file("/tmp/made"), "made")
  box:snapshot("saved.snap")
end)
`)
	p.write("tests/b.test.lua", `
local box = provium:vm_fixture("box")
test("the fixture is there, the snapshot does not fit", function(t)
  t:assert_eq(box:read_file("/tmp/made"), "made")
  box:shutdown()
  local err = t:assert_raises(function() box:restore("saved.snap") end)
  t:assert_contains(err, "saved.snap`+"`"+` does not fit: QEMU version: the snapshot has ")
  t:assert_contains(err, ", here is 10.")
  t:log(err)
  box:boot() -- from scratch: the boot cache has another guest
  t:assert(box:run("true"):ok())
end)
`)
	p.run("tests/a.test.lua").expect(0, "1 passed, 0 failed")
	p.run("--qemu", newer, "tests/b.test.lua").expect(0, "1 passed, 0 failed")
}

// version returns what a QEMU says of itself.
func version(t *testing.T, qemu string) string {
	t.Helper()
	out, err := exec.Command(qemu, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
