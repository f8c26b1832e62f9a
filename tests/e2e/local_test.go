package e2e

import (
	"path/filepath"
	"testing"
)

// TestLocal runs a file without a kernel: what needs a guest says so, everything else
// works, and nothing is left in the caches.
func TestLocal(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.fixture.lua", "return provium:vm(\"box\", \"host\"):boot():snapshot()\n")
	p.write("tests/a.test.lua", `
test("states", function(t)
  local a, b = provium:vm("a", "host", {disks = {{scratch = "1M", id = "d"}}}), provium:vm("b", "host")
  local lan = provium:bridge("lan")
  lan:attach({a, b})
  provium:boot()
  a:pause()
  t:assert_eq(a:state(), "paused")
  a:resume()
  a:reset()
  local saved = a:snapshot()
  a:shutdown()
  a:restore(saved)
  t:assert_eq(provium:vm_fixture("x"):state(), "booted")
end)
for name, op in pairs({
  run = function(vm) vm:run("true") end,
  clock = function(vm) vm:clock():get() end,
  file = function(vm) vm:read_file("/x") end,
}) do
  test(name, function(t)
    local ok, err = pcall(op, provium:vm("v", "host"):boot())
    t:assert(not ok)
    t:assert(tostring(err):find("this run boots no guests (--vmm local)", 1, true), tostring(err))
  end)
end
test("console", function(t)
  local vm = provium:vm("v", "host"):boot()
  local _, err = pcall(function() vm:console():read() end)
  t:assert(tostring(err):find("console:read: VMM does not expose a console socket", 1, true), tostring(err))
end)
`)
	p.run("--vmm", "local").expect(0, "5 passed, 0 failed")
	p.write("tests/a.test.lua", "test(\"\\xff\", function(t) end)")
	p.run("--vmm", "local", "-v").expect(0, `PASS \xff`, "1 passed, 0 failed")
	p.run("--vmm", "none").expect(2, "expected qemu or local")
	if left, err := filepath.Glob(filepath.Join(p.dir, ".provium*", "*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}
