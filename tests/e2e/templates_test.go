package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

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

// TestFilesShareTemplates runs files one after the other, whose guests are copies of one template: each is what it
// would be alone. In the last one, the fork server with the templates has been killed.
func TestFilesShareTemplates(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	const text = `
local templates = [[s=$(pgrep -P $PPID -f provium-fork-serve[r]) && pgrep -P $s -f ^provium-template >/dev/null]]
local had_template = os.execute(templates)
if %[2]t then
  assert(os.execute("pkill -KILL -P $PPID -f provium-fork-serve[r]"))
end
local plain = provium:vm("plain", "host", {memory = "128M"}):boot()
local disks = provium:vm("disks", "host", {memory = "128M", disks = {{id = "d", scratch = "1M"}}}):boot()
test("x", function(t)
  t:assert_eq(had_template or false, %[1]t)
  t:assert(os.execute(templates) or %[2]t)
  for _, vm in ipairs{plain, disks} do
    t:assert(vm:run("test ! -e /tmp/x"):ok())
    vm:write_file("/tmp/x", "kept")
    local id = vm:run("cat /proc/sys/kernel/random/uuid").stdout
    assert(os.execute("! grep -s " .. id:sub(1, 8) .. " ids"))
    assert(io.open("ids", "a")):write(id)
    t:assert(not vm:console():read_log():find("said by", 1, true))
    vm:run("echo said by %[3]s > /dev/console")
    vm:console():expect("said by %[3]s")
  end
  local blank = "cmp -n 512 /dev/vda /dev/zero"
  t:assert(disks:run(blank):ok())
  disks:run("echo %[3]s | dd of=/dev/vda conv=fsync 2>/dev/null")
  t:assert(not disks:run(blank):ok())
end)
`
	for i, file := range []string{"a", "b", "c", "d"} {
		p.write("tests/"+file+".test.lua", fmt.Sprintf(text, i > 0, i == 3, file))
	}
	p.run("--jobs", "1").expect(0, "4 passed")
	p.expectNoProcess()
}

// TestTemplatesOfBootsThatAreAskedForAgain runs files one after the other, twice. A boot that one file asks for, and
// once, has a template only in the first run, which does not know that.
func TestTemplatesOfBootsThatAreAskedForAgain(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	const text = `
local function boot(name)
  local vm = provium:vm(name, "host", {memory = "128M", disks = {%[2]s}}):boot()
  vm:run("true"):assert_ok()
  vm:close()
end
boot("one")
if %[3]t then boot("two") end
test("x", function()
  local count = [[pgrep -P $(pgrep -P $PPID -f provium-fork-serve[r]) -fc ^provium-template]]
  local out = io.popen(count)
  assert(io.open("count-%[1]s", "w")):write(out:read("l"))
end)
`
	const disk = `{id = "d", scratch = "1M"}`
	p.write("tests/a.test.lua", fmt.Sprintf(text, "a", disk, false))
	p.write("tests/b.test.lua", fmt.Sprintf(text, "b", "", false))
	p.write("tests/c.test.lua", fmt.Sprintf(text, "c", "", true))
	for _, want := range []string{"122", "011"} {
		p.run("--jobs", "1").expect(0, "3 passed")
		got := ""
		for _, file := range []string{"a", "b", "c"} {
			text, err := os.ReadFile(filepath.Join(p.dir, "count-"+file))
			if err != nil {
				t.Fatal(err)
			}
			got += string(text)
		}
		if got != want {
			t.Errorf("%s templates at the ends of the files, want %s", got, want)
		}
	}
}

// TestBootsAtATimeShareATemplate boots two guests of one kind at a time, in the only file of a run that knows this from
// the run before: the first one to be ready is the template of the other.
func TestBootsAtATimeShareATemplate(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
for _, name in ipairs{"one", "two"} do provium:vm(name, "host", {memory = "128M"}) end
provium:boot()
test("x", function(t)
  local count = [[pgrep -P $(pgrep -P $PPID -f provium-fork-serve[r]) -fc ^provium-template]]
  assert(io.open("count", "w")):write(io.popen(count):read("l"))
  local id = {}
  for i, name in ipairs{"one", "two"} do
    id[i] = provium:vm(name):read_file("/proc/sys/kernel/random/boot_id")
  end
  t:assert_neq(id[1], id[2])
end)
`)
	p.run().expect(0, "1 passed")
	p.run().expect(0, "1 passed")
	if text, err := os.ReadFile(filepath.Join(p.dir, "count")); err != nil || string(text) != "1" {
		t.Errorf("%s templates: %v", text, err)
	}
}
