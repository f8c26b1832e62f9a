package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestKilledShard runs a suite as three shards, of which one is killed: the merge names it, also while it still runs.
// When it has run again, the merge is that of a whole run, and refuses what came twice or was run otherwise.
func TestKilledShard(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `test("one", function(t) end)`)
	p.write("tests/b.test.lua", `test("two", function(t)
  if os.getenv("WAIT") then io.open("begun", "w"):close() while true do os.execute("sleep 0.05") end end
end)`)
	p.write("tests/c.test.lua", `test("three", function(t) end)`)
	p.run("--shard", "1/3", "--save-events", "1.events").expect(0, "1 passed")
	p.run("--shard", "3/3", "--save-events", "3.events").expect(0, "1 passed")

	env := p.env
	p.env = append(p.env, "WAIT=1")
	r := p.start("--shard", "2/3", "--save-events", "2.events")
	p.awaitFile("begun")
	p.env = env
	merge := []string{"report", "--exit-code", "1.events", "2.events", "3.events"}
	p.run(merge...).expect(1, "it died, or has not ended yet: 2.events ends before the run does", "2 passed")
	r.signal(syscall.SIGKILL)
	r.wait()
	p.expectNoProcess()
	p.run(merge...).expect(1, "it died, or has not ended yet: 2.events ends before the run does", "2 passed")
	p.run("report", "--exit-code", "1.events", "3.events").expect(1, "it is missing: 2 of 3 shards are there")

	p.run("--shard", "2/3", "--save-events", "2b.events").expect(0, "1 passed")
	whole := []string{"report", "--exit-code", "1.events", "2b.events", "3.events"}
	p.run(append(whole, "--junit", "all.xml", "--save-durations", "d.json")...).expect(0, "3 passed, 0 failed")
	p.run(append(whole, "2.events")...).expect(2, "2.events: shard 2/3 came twice, in 2b.events, too: give one of them")
	p.run("--shard", "2/3", "--durations-file", "d.json", "--save-events", "2c.events").expect(0, "1 passed")
	p.run("report", "1.events", "2c.events", "3.events").expect(2, "2c.events: another durations file (sha256:",
		"give all shards the same")
	p.run("--shard", "2/3", "--test", "two", "--save-events", "2d.events")
	p.run("report", "1.events", "2d.events", "3.events").expect(2, "2d.events: another selection (sha256:",
		"with the same arguments")
	for _, name := range []string{"all.xml", "d.json"} {
		if _, err := os.Stat(filepath.Join(p.dir, name)); err != nil {
			t.Error(err)
		}
	}
}
