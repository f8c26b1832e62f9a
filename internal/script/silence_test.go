package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guest"
)

// quickWatch is how guests are watched in tests that wait for them to be given up.
var quickWatch = guest.Watch{Limit: 200 * time.Millisecond, Probe: 16 * time.Millisecond,
	Grace: 60 * time.Millisecond, Confirm: 30 * time.Millisecond, Sign: 60 * time.Millisecond,
	Hindered: func() time.Duration { return 0 }}

// runSilent runs one file whose guests have a command `stop`, which stops their agents.
func runSilent(t *testing.T, source string) outcome {
	return runOn(t, source, func(m *fakemachine.Machine) {
		m.Program("stop", func(*fakemachine.Process) int {
			m.StopAgent()
			return 0
		})
	}, func(c *Config) { c.Host.Watch = quickWatch })
}

// TestHostKeepsLimits has operations end at their limits in guests whose agents are stopped.
// Such a guest is dead soon after that.
func TestHostKeepsLimits(t *testing.T) {
	o := runOn(t, `
local quote = string.char(96)
local function dead(t, vm, where)
  wait_until(function() return vm:state() == "dead" end, {timeout = "20s"})
  local why = t:assert_raises(function() vm:run("true") end)
  t:assert_contains(why, "no sign of life for")
  t:assert_contains(why, "(vm " .. quote .. vm:name() .. quote .. ", in " .. where .. " at tests/x.test.lua:")
end
local function unconfirmed(t, what, fn)
  t:assert_contains(t:assert_raises(fn), what .. ": timed out after 10ms, and the guest has not confirmed the end")
end
test("run", function(t)
  local vm = provium:vm("a", "host"):boot()
  unconfirmed(t, "run", function() vm:run("true", {timeout = "10ms"}) end)
  dead(t, vm, "vm:run")
end)
test("wait", function(t)
  local vm = provium:vm("b", "host"):boot()
  local p = vm:run_async("sleep 100")
  unconfirmed(t, "proc:wait", function() p:wait("10ms") end)
  dead(t, vm, "proc:wait")
end)
test("worker", function(t)
  local vm = provium:vm("c", "host"):boot()
  local w = vm:spawn_worker()
  unconfirmed(t, "proc:wait", function() w:run("true", {timeout = "10ms"}) end)
  dead(t, vm, "worker:run")
end)
test("files", function(t)
  local vm = provium:vm("d", "host"):boot()
  t:assert_contains(t:assert_raises(function() vm:read_file("/x") end), "no sign of life for")
  dead(t, vm, "vm:read_file")
end)
test("snapshot", function(t)
  local vm = provium:vm("e", "host"):boot()
  pcall(vm.run, vm, "true", {timeout = "10ms"})
  t:assert_contains(t:assert_raises(function() vm:snapshot() end), "no sign of life for")
end)
test("op_timeout", {op_timeout = "40ms"}, function(t)
  local vm = provium:vm("f", "host"):boot()
  t:assert_contains(t:assert_raises(function() vm:stat("/x") end), "stat /x: the guest was silent for 40ms")
  dead(t, vm, "vm:stat")
end)
test("no op_timeout", {op_timeout = 0, timeout = "1s"}, function(t)
  local vm = provium:vm("g", "host"):boot()
  vm:stat("/x")
end)
`, func(m *fakemachine.Machine) {
		m.StopAgentAt("run", "proc_wait", "read_file", "stat")
	}, func(c *Config) { c.Host.Watch = quickWatch })
	for _, name := range []string{"run", "wait", "worker", "files", "snapshot", "op_timeout"} {
		o.passed(t, name)
	}
	o.failed(t, "no op_timeout", "timed out after 1s in vm:stat")
	if o.stderr != "" {
		t.Error(o.stderr)
	}
}

// TestProfileLimitsSilence has the profile say how long its guests may be silent.
func TestProfileLimitsSilence(t *testing.T) {
	host, machines := fakeHost(t)
	host.Watch, host.Profiles["host"].OpTimeout = quickWatch, 30*time.Millisecond
	host.Watch.Limit = time.Hour
	machines.Prepare(func(m *fakemachine.Machine) { m.StopAgentAt("stat") })
	o := runFile(t, t.Context(), write(t, map[string]string{testPath: `
test("it", function(t)
  local vm = provium:vm("a", "host"):boot()
  vm:stat("/x")
end)`}), func(c *Config) { c.Host = host })
	o.failed(t, "it", "the guest was silent for 30ms")
}

// TestSilentGuestIsNamed asks a guest at a test's limit what it does.
func TestSilentGuestIsNamed(t *testing.T) {
	host, machines := fakeHost(t)
	host.Watch = quickWatch
	host.Watch.Limit, host.Watch.Grace = time.Hour, time.Hour // it does not die by itself
	machines.Prepare(func(m *fakemachine.Machine) { m.StopAgentAt("stat") })
	o := runFile(t, t.Context(), write(t, map[string]string{testPath: `
test("it", {timeout = "1s"}, function(t)
  local vm = provium:vm("a", "host"):boot()
  vm:run_async("sleep 100")
  vm:stat("/x")
end)`}), func(c *Config) { c.Host = host })
	o.failed(t, "it", "timed out after 1s in vm:stat", "in vm `a` when the time was up: the guest does not answer")
}

// TestGuestsThatCannotAnswerLive pauses a guest during an operation, which ends at its limit.
func TestGuestsThatCannotAnswerLive(t *testing.T) {
	o := runSilent(t, `
test("paused", function(t)
  local vm = provium:vm("a", "host"):boot()
  local ok, why
  parallel{
    function() ok, why = pcall(vm.run, vm, "echo on > /begun; sleep 100", {timeout = "2s"}) end,
    function()
      wait_until(function() return pcall(vm.stat, vm, "/begun") end, {interval = "1ms"})
      vm:pause()
    end,
  }
  t:assert(not ok)
  t:assert_contains(tostring(why), "the guest has not confirmed the end (it is paused)")
  vm:resume()
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)`)
	o.passed(t, "paused")
}

// TestEndOfATestWithASilentGuest closes nothing in guests that give no sign of life, be
// they of the test or of the file. The latter are dead soon after that.
func TestEndOfATestWithASilentGuest(t *testing.T) {
	const source = `
local good, bad = provium:vm("good", "host"):boot(), provium:vm("bad", "host"):boot()
local stopped = false
good:write_file("/f", "")
test("late", {timeout = "%v"}, function(t)
  local own = provium:vm("own", "host"):boot()
  for _, vm in ipairs{own, bad, good} do
    vm:write_file("/f", "")
    vm:run_async("sleep 100") vm:spawn_worker() vm:tail_file("/f") vm:open_file("/f", {read = true})
  end
  own:run_async("stop")
  bad:run_async("stop")
  stopped = true
  while true do end
end)
test("after", function(t)
  if not stopped then t:skip("the time was up before") end
  t:assert_eq(good:run("echo alive").stdout, "alive\n")
  t:assert_eq(good:open_file_count(), 0)
  wait_until(function() return bad:state() == "dead" end, {timeout = "20s"})
  t:assert_contains(t:assert_raises(function() bad:run("true") end), "no sign of life for")
end)`
	limit := 50 * time.Millisecond
	o := runSilent(t, fmt.Sprintf(source, limit))
	for ; o.Skipped > 0; o = runSilent(t, fmt.Sprintf(source, limit)) {
		limit *= 2 // a busy host had no time for what has to be done before the limit
	}
	o.failed(t, "late", fmt.Sprintf("timed out after %vs", limit.Seconds()))
	o.passed(t, "after")
	if strings.Contains(o.stderr, "close of") {
		t.Error(o.stderr)
	}
}

// TestEndOfAFileWithASilentGuest ends a file in the middle of an operation of a guest that
// gives no sign of life, as the file's limit does.
func TestEndOfAFileWithASilentGuest(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	host, machines := fakeHost(t)
	host.Watch = quickWatch
	host.Watch.Limit, host.Watch.Grace = time.Hour, time.Hour // it does not die by itself
	machines.Prepare(func(m *fakemachine.Machine) {
		m.Program("stop", func(*fakemachine.Process) int {
			m.StopAgent()
			cancel(errors.New("the file's limit has passed"))
			return 0
		})
	})
	o := runFile(t, ctx, write(t, map[string]string{testPath: `
local vm = provium:vm("a", "host"):boot()
vm:write_file("/f", "")
test("hangs", {timeout = "1h"}, function(t)
  vm:run_async("sleep 100") vm:spawn_worker() vm:tail_file("/f") vm:open_file("/f", {read = true})
  vm:run("stop; sleep 100", {timeout = "1h"})
end)
test("never", function() end)`}), func(c *Config) { c.Host = host })
	o.failed(t, "hangs", "the file's limit has passed")
	o.skipped(t, "never", "not run: the file's limit has passed")
	if strings.Contains(o.stderr, "close of") {
		t.Error(o.stderr)
	}
}
