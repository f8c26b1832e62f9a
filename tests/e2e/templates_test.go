package e2e

import "testing"

// TestGuestsWithoutTheirTemplate kills the templates of a runner, and then its fork server: guests are restored from
// the file, those of the server end with a reason, and the next ones start without a server.
func TestGuestsWithoutTheirTemplate(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", `
local vm = provium:vm("a", "host", {memory = "128M"}):boot()
vm:write_file("/tmp/x", "kept")
local s = vm:snapshot()
test("templates are killed", function(t)
  assert(os.execute("pkill -KILL -P $(pgrep -P $PPID -f provium-fork-serve[r]) -f ^provium-template"))
  for _ = 1, 2 do
    vm:shutdown()
    vm:restore(s)
    t:assert_eq(vm:read_file("/tmp/x"), "kept")
  end
end)
test("the fork server is killed", {reset = false}, function(t)
  assert(os.execute("pkill -KILL -P $PPID -f provium-fork-serve[r]"))
  t:assert_contains(t:assert_raises(function() vm:run("sleep 1000") end), "qemu ended")
  t:assert_eq(vm:state(), "dead")
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:fork():read_file("/tmp/x"), "kept")
end)
`)
	p.run().expect(0, "2 passed")
	p.expectNoProcess()
}
