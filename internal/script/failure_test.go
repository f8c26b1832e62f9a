package script

import (
	"fmt"
	"strings"
	"testing"

	"provium/internal/fakemachine"
)

// addMake makes the command `make`, which prints much and fails.
func addMake(m *fakemachine.Machine) {
	m.Program("make", func(p *fakemachine.Process) int {
		for i := range 60 {
			p.Print(fmt.Sprintf("compiling file number %d\n", i))
		}
		p.Complain("make: *** no rule\n")
		return 2
	})
}

// TestOutputsOfFailedCommands has outputs below the message that would make it unreadable, and
// polls shown once.
func TestOutputsOfFailedCommands(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host"):boot()
test("long", function(t)
  for i = 1, 19 do vm:run("cat /nonexist") end
  local r = vm:run("make")
  local ok, text = pcall(r.assert_ok, r)
  t:log(text)
  r:assert_ok()
end)
test("short", function(t) vm:run("cat /nonexist"):assert_ok() end)`, addMake, nil)
	e := o.failed(t, "long", "tests/x.test.lua:8: command failed: status=exited code=2 stdout=(1490 bytes) ...\"",
		` stderr="make: *** no rule\n"`+"\n", "\n>     8 |   r:assert_ok()\n",
		"\nstdout (1490 bytes, 60 lines):\n  | compiling file number 0\n", "\n  [20 lines left out]\n",
		"\n  | compiling file number 59\nlast operations:\n",
		`[n1] vm:run("cat /nonexist")  tests/x.test.lua:4  ×19, last: exit 1, "cat: /nonexist: `,
		`[n1] vm:run("make")  tests/x.test.lua:5  exit 2, "make: *** no rule"`)
	if first, _, _ := strings.Cut(e.Reason, "\n"); len(first) > 600 {
		t.Errorf("%d bytes on the first line", len(first))
	}
	// Code sees the text as before.
	const text = `tests/x.test.lua:6: command failed: status=exited code=2 stdout="compiling file number 0\n`
	if len(e.Log) != 1 || !strings.HasPrefix(e.Log[0], text) {
		t.Errorf("%q", e.Log)
	}
	e = o.failed(t, "short", `command failed: status=exited code=1 stdout="" stderr="cat: /nonexist: `)
	if strings.Contains(e.Reason, "stderr (") {
		t.Error(e.Reason)
	}
}
