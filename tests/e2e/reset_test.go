package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestResetRefusesStreams: a stream that the chunk leaves open fails the file at load.
func TestResetRefusesStreams(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `provium.reset_between_tests = true
local vm = provium:vm("v", "host"):boot()
vm:write_file("/tmp/log", "")
vm:tail_file("/tmp/log")
test("one", function() end)
test("two", function() end)
`)
	p.run().expect(1, "tests/a.test.lua (0 passed, 0 failed", "would auto-snapshot a live stream",
		`tail_file("/tmp/log") at tests/a.test.lua:4`)
}

// TestResetShuffles: with --shuffle the tests of such files run in another order, and
// those of others do not.
func TestResetShuffles(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	tests := "for i = 1, 12 do test('t' .. i, function() io.write('ran', i, ' ') end) end\n"
	p.write("tests/a.test.lua", "provium.reset_between_tests = true\n"+tests)
	ran := func(args ...string) string {
		r := p.run(args...)
		r.expect(0)
		return strings.Join(regexp.MustCompile(`ran\d+`).FindAllString(r.stdout.String(), -1), " ")
	}
	const straight = "ran1 ran2 ran3 ran4 ran5 ran6 ran7 ran8 ran9 ran10 ran11 ran12"
	if got := ran(); got != straight {
		t.Errorf("without --shuffle: %s", got)
	}
	first := ran("--shuffle=7")
	if len(first) != len(straight) || first == straight || first != ran("--shuffle=7") || first == ran("--shuffle=8") {
		t.Errorf("with --shuffle: %s", first)
	}
	p.write("tests/a.test.lua", tests)
	if got := ran("--shuffle=7"); got != straight {
		t.Errorf("a file without reset: %s", got)
	}
}
