package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// chance shows what was left to chance, without a seed in the file: which of the pings
// from one guest to another got lost, which writes a rule struck, which un-flushed
// sectors a power cut left. Chance decides frame by frame, so
// only the pings may go that way: neighbours are fixed, and IPv6 asks for none.
const chance = `
local lan = provium:bridge("lan")
local a, b = provium:vm("a", "host"), provium:vm("b", "host")
lan:attach({a, b})
a:boot()
b:boot()

test("pings", function(t)
  local function settle(vm, other)
    vm:run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6\narp -s " .. lan:nic(other):ip() .. " " .. lan:nic(other):mac()):assert_ok()
  end
  settle(a, b)
  settle(b, a)
  local before = lan:nic(a):counters().tx_packets
  lan:drop_rate({from = a, to = b, p = 30})
  local text = a:run("ping -c 24 -i 0.05 -W 1 " .. lan:nic(b):ip()).stdout
  t:assert_eq(lan:nic(a):counters().tx_packets - before, 24, "the guest sends more than pings")
  local came, seen = {}, ""
  for n in text:gmatch("seq=(%d+)") do came[tonumber(n)] = true end
  for n = 0, 23 do seen = seen .. (came[n] and "x" or ".") end
  io.write("pings ", seen, "\n")
end)

test("writes", function(t)
  local d = a:attach_disk({id = "d", size = "1M"})
  d:inject({op = "write", probability = 0.4})
  io.write("writes ", a:run([[for i in $(seq 24); do
    dd if=/dev/zero of=/dev/vda bs=512 count=1 oflag=direct conv=notrunc status=none 2>/dev/null && printf x || printf .
  done]]).stdout, "\n")
end)

test("power cut", function(t)
  local d = b:attach_disk({id = "d", size = "1M"})
  b:run("tr '\\0' L < /dev/zero | dd of=/dev/vda bs=512 count=40 iflag=fullblock oflag=direct conv=notrunc status=none"):assert_ok()
  d:power_cut({keep = "random"})
  io.write("cut ", (d:read_sectors(0, 40):gsub(("."):rep(512), function(s) return s:sub(1, 1) == "L" and "x" or "." end)), "\n")
end)
`

// TestSeedRepeats: what chance decides is the same in two runs with one seed, on real
// guests, and another with another seed.
func TestSeedRepeats(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", chance)
	outcome := func(args ...string) map[string]string {
		t.Helper()
		r := p.run(args...)
		r.expect(0, "3 passed")
		seen := map[string]string{}
		lines := regexp.MustCompile(`(pings|writes|cut) ([x.]{24,40})\n`)
		for _, m := range lines.FindAllStringSubmatch(r.stdout.String(), -1) {
			seen[m[1]] = m[2]
		}
		if len(seen) != 3 {
			t.Fatal(r.report())
		}
		return seen
	}
	first, again, other := outcome("--seed", "7"), outcome("--seed", "7"), outcome("--seed", "8")
	for what, was := range first {
		if again[what] != was {
			t.Errorf("%s, twice with one seed:\n%s\n%s", what, was, again[what])
		}
		if other[what] == was {
			t.Errorf("%s: another seed gives %s as well", what, was)
		}
		if !strings.Contains(was, "x") || !strings.Contains(was, ".") {
			t.Errorf("%s: %s leaves nothing to chance", what, was)
		}
	}
}

// repeated is the last line of a failure but for what was kept of it.
var repeated = regexp.MustCompile(`\nrepeat with: provium tests/.* --seed 7(\nartifacts: .*)?$`)

// TestFailureTellsSeed: a failure says how to repeat what chance decided, on the
// terminal, in the JSON lines and in the saved events. A run that a run without flags
// repeats says nothing.
func TestFailureTellsSeed(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('fine', function() end)\ntest('bad', function() error('by chance') end)\n")
	p.write("tests/b.test.lua", "error('at load')\n")
	if r := p.run(); strings.Contains(r.report(), "--seed") {
		t.Error(r.report())
	}
	for args, want := range map[string]string{
		"--seed 7":             " --seed 7",
		"--shuffle 9":          " --shuffle 9",
		"--shuffle --seed 7":   " --seed 7 --shuffle 7",
		"--seed 0xff -q":       " --seed 255",
		"--shuffle --repeat 1": " --shuffle ",
	} {
		r := p.run(strings.Fields(args)...)
		r.expect(1, "by chance", "at load")
		if n := strings.Count(r.stdout.String(), want); n != 2 {
			t.Errorf("%d times %q\n%s", n, want, r.report())
		}
	}
	r := p.run("--seed", "7", "--json", "--save-events", "events")
	r.expect(1)
	for _, line := range strings.Split(strings.TrimSpace(r.stdout.String()), "\n") {
		var f struct {
			ChunkError *string `json:"chunk_error"`
			Tests      []struct{ Message *string }
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		last := f.ChunkError
		if last == nil {
			last = f.Tests[1].Message
		}
		if last == nil || !repeated.MatchString(*last) {
			t.Errorf("%s", line)
		}
	}
	events, err := os.ReadFile(filepath.Join(p.dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	// In the failed test, and in the chunk error.
	if n := strings.Count(string(events), " --seed 7"); n != 2 {
		t.Errorf("%d times in the events: %q", n, events)
	}
}
