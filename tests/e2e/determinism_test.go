package e2e

import (
	"fmt"
	"regexp"
	"syscall"
	"testing"

	"provium/internal/fulltest"
)

// snapshots has a deterministic guest, copies of it, and a background process that goes on in them.
const snapshots = `
test("snapshots", function(t)
  local look = [[for i in 1 2 3 4; do (head -c 4 /dev/urandom | od -An -tx1; echo $i) & done; wait
    sleep 0.2; cat /proc/uptime /tmp/log]]
  local vm = provium:vm("a", "host", {memory = "256M"}):boot()
  vm:run("while :; do cut -d ' ' -f 1 /proc/uptime >>/tmp/log; sleep 0.05; done >/dev/null 2>&1 &")
  local s = vm:snapshot()
  vm:run(look)
  vm:shutdown()
  vm:restore(s)
  vm:run(look)
  %s
end)
`

const forks = "for _, copy in ipairs(vm:fork(2)) do copy:run(look) end"

// TestDeterministicRuns compares two runs, and in full ten, of guests from the boot cache and from snapshots.
func TestDeterministicRuns(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	more := ""
	if fulltest.Wanted() {
		more = forks
	}
	p.write("tests/a.test.lua", fmt.Sprintf(snapshots, more))
	p.run("verify-determinism", "tests/a.test.lua", "--runs", fmt.Sprint(fulltest.Of(2, 10))).expect(0, "the same in ")
}

// lossy has three guests, of which two talk to the third over a bridge that loses and delays frames.
const lossy = `
test("lossy", function(t)
  local lan, vms = provium:bridge("lan"), {}
  for i, name in ipairs({"a", "b", "c"}) do
    vms[i] = provium:vm(name, "host", {memory = "256M"})
    lan:attach(vms[i])
  end
  lan:drop_rate(20)
  lan:add_latency(3)
  lan:add_jitter(2)
  for _, vm in ipairs(vms) do vm:boot() end
  vms[3]:run("(while :; do nc -l -p 7 -e cat; done) >/dev/null 2>&1 &")
  vms[2]:run("ping -i 0.05 c >/tmp/log 2>&1 &")
  vms[1]:run("ping -i 0.02 -c 30 b; head -c 20000 /dev/urandom | nc -w 3 c 7 | md5sum; cat /proc/uptime")
  vms[2]:run("cat /tmp/log /proc/uptime")
  vms[3]:run("cat /proc/net/dev /proc/uptime")
end)
`

// TestDeterministicNetwork compares runs of guests that send each other frames.
func TestDeterministicNetwork(t *testing.T) {
	if !fulltest.Wanted() {
		t.Skip("tests/deterministic-network.test.lua has frames pass")
	}
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", lossy)
	p.run("verify-determinism", "tests/a.test.lua", "--runs", "20").expect(0, "the same in ")
}

// pair is a fixture of two guests on a bridge, of which one pings the other all the time.
const pair = `
local lan = provium:bridge("lan")
for _, name in ipairs({"a", "b"}) do lan:attach(provium:vm(name, "host", {memory = "256M"})) end
lan:drop_rate(20)
lan:add_latency(3)
provium:boot()
provium.b:run("ping -i 0.05 a >/tmp/log 2>&1 &")
provium.a:run("ping -c 3 -i 0.05 b")
return provium:snapshot()
`

// saved restores and copies guests that send each other frames: alone, and all of a bridge at once. In the first of
// its runs the fixture is built.
const saved = `
local outer = provium:bridge("outer")
outer:attach(provium:vm("c", "host", {memory = "256M"}))
provium.c:boot()
test("saved", function(t)
  local look = function(vm) vm:run("ping -c 10 -i 0.02 -W 1 b; tail -n 2 /tmp/log; cat /proc/uptime /proc/net/dev") end
  local l = provium:lab_fixture("pair")
  look(l.a)
  local s = l.a:snapshot()
  l.a:shutdown()
  look(l.b)
  l.a:restore(s)
  look(l.a)
  local all = l:snapshot()
  look(l.a)
  l:restore(all)
  look(l.a)
  look(l.b)
  local copy = l:fork()
  look(copy.a)
  look(copy.b)
  for _, copy in ipairs(l.b:fork(2)) do look(copy) end
  look(l.b)
  look(provium.c)
end)
`

// TestDeterministicLabs compares runs in which guests on bridges are restored and copied.
func TestDeterministicLabs(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/pair.fixture.lua", pair)
	p.write("tests/a.test.lua", saved)
	p.run("verify-determinism", "tests/a.test.lua", "--runs", fmt.Sprint(fulltest.Of(2, 5))).expect(0, "the same in ")
}

// disks has a guest use two disks beside each other, of which one fails at random; it is saved and copied.
const disks = `
test("disks", function(t)
  local vm = provium:vm("a", "host", {memory = "256M", disks = {{id = "d", scratch = "8M"}, {id = "e", scratch = "4M"}}})
  vm:boot()
  vm:run("(while :; do dd if=/dev/urandom of=/dev/vdb bs=4k count=3 conv=fsync; sleep 0.02; done) >/dev/null 2>&1 &")
  local look = [[
    dd if=/dev/urandom of=/dev/vda bs=64k count=10 conv=fsync; sync; sync
    for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/dev/vda bs=4k count=2 seek=$i conv=fsync || echo lost; done
    echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/vda; cat /proc/uptime /proc/interrupts]]
  vm:disk("d"):inject({op = "write", errno = "EIO", probability = 0.2})
  vm:run(look)
  local s = vm:snapshot()
  vm:run(look)
  for _, copy in ipairs(vm:fork(2)) do copy:run(look) end
  vm:shutdown()
  vm:restore(s)
  vm:run(look)
end)
`

// TestDeterministicDisks compares runs of a guest whose disks are delayed at random.
func TestDeterministicDisks(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", disks)
	p.run("verify-determinism", "tests/a.test.lua", "--runs", fmt.Sprint(fulltest.Of(2, 10))).expect(0, "the same in ")
}

// race loses an update with four of ten seeds.
const race = `
test("counts to 2", function(t)
  local vm = provium:vm("a", "host", {memory = "256M"}):boot()
  local out = vm:run([[
    echo 0 >/tmp/n
    add() { read x </tmp/n; echo $((x + 1)) >/tmp/n; }
    add & add & wait; echo "$(cat /tmp/n), $(cut -d ' ' -f 1 /proc/uptime)"
  ]]).stdout
  t:assert(out:find("^2,"), "there are " .. out)
end)
`

// TestExplore finds a seed with which a race is lost, and loses it with that seed each time.
func TestExplore(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", race)
	r := p.run("tests/a.test.lua", "--explore", "50")
	r.expect(1, "failed with seed ")
	seed := regexp.MustCompile(`failed with seed (\d+)`).FindStringSubmatch(r.stdout.String())[1]
	lost := regexp.MustCompile(`there are .*`).FindString(r.stdout.String())
	for range fulltest.Of(1, 10) {
		p.run("tests/a.test.lua", "--deterministic", "--disturb", "--seed", seed).expect(1, lost)
	}
}

// TestDeterministicGuestsEndWithTheirHost kills a run of which one guest stands at a sync point and another one runs:
// none waits there for ever.
func TestDeterministicGuestsEndWithTheirHost(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
test("two guests", function(t)
  for _, name in ipairs({"stands", "runs"}) do
    provium:vm(name, "host", {deterministic = true, memory = "256M"}):boot()
  end
  io.write("up\n") io.flush()
  provium.runs:run("while :; do :; done")
end)
`)
	r := p.start()
	r.await("up")
	r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait()
	p.clearTemp()
}
