package script

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/script/verdict"
)

// runOn runs one file on a host whose machines are prepared by do.
func runOn(t *testing.T, source string, do func(*fakemachine.Machine), change func(*Config)) outcome {
	t.Helper()
	host, machines := fakeHost(t)
	if do != nil {
		machines.Prepare(do)
	}
	return runFile(t, context.Background(), write(t, map[string]string{testPath: source}), func(c *Config) {
		c.Host = host
		if change != nil {
			change(c)
		}
	})
}

// addFaults makes the commands `panic` and `oops`, which print what a kernel would.
func addFaults(m *fakemachine.Machine) {
	m.Program("panic", func(p *fakemachine.Process) int {
		m.Panic("Fatal exception")
		<-p.Context.Done()
		return 1
	})
	m.Program("oops", func(*fakemachine.Process) int {
		m.Print(false, "[    2.000000] BUG: unable to handle page fault for address: 0000000000000008\n"+
			"[    2.000000] ---[ end trace 0000000000000000 ]---\n")
		return 0
	})
}

func TestGuestFailures(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host")
test("panic", function(t) provium:vm("a", "host"):boot():run("panic") end)
test("panic below pcall", function(t) local b = provium:vm("b", "host"):boot() pcall(b.run, b, "panic") while
true do end end)
test("panic is allowed", {allow_oops = true}, function(t)
  local vm = provium:vm("c", "host"):boot()
  t:assert_contains(t:assert_raises(function() vm:run("panic") end), "panic")
end)
test("oops", function(t) provium:vm("d", "host"):boot():run("oops") end)
test("oops is allowed", {allow_oops = true}, function(t) provium:vm("e", "host"):boot():run("oops") end)
test("after", function(t) vm:boot() end)
`, addFaults, nil)
	for _, name := range []string{"panic", "panic below pcall"} {
		e := o.failed(t, name, "guest failure on vm `", "Kernel panic - not syncing: Fatal exception")
		if !strings.Contains(e.ConsoleExcerpt, "--- console of vm `") {
			t.Errorf("%s: no console: %q", name, e.ConsoleExcerpt)
		}
	}
	o.passed(t, "panic is allowed")
	o.failed(t, "oops", "guest failure on vm `d`: BUG: unable to handle kernel paging request")
	o.passed(t, "oops is allowed")
	o.passed(t, "after")
	o = runOn(t, `provium:vm("n1", "host"):boot():run("oops") test("it", function() end)`, addFaults, nil)
	if !strings.Contains(o.ChunkError, "guest failure on vm `n1`: BUG: unable") ||
		!strings.Contains(o.ChunkError, "--- console of vm `n1` ---") {
		t.Error(o.ChunkError)
	}
}

// A boot that fails by a panic is the boot's error and nothing else.
func TestPanicOfABoot(t *testing.T) {
	o := runOn(t, `
test("caught", function(t)
  local vm = provium:vm("a", "host")
  local ok, err = pcall(vm.boot, vm)
  t:assert(not ok)
  t:assert_contains(err, "Kernel panic - not syncing: no init")
  t:assert_eq(vm:state(), "dead")
end)
test("raised", function(t) provium:vm("b", "host"):boot() end)
`, func(m *fakemachine.Machine) {
		m.SetAgent(fakemachine.AgentSilent)
		m.Print(false, "[    0.500000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n")
		m.Panic("no init")
	}, nil)
	o.passed(t, "caught")
	e := o.failed(t, "raised", "vm `b` boot: guest panicked: Kernel panic - not syncing: no init")
	if strings.Contains(e.Reason, "guest failure") {
		t.Error(e.Reason)
	}
}

// A boot need not wait for an agent.
func TestBootWithoutAnAgent(t *testing.T) {
	o := runOn(t, `
test("text", function(t)
  local vm = provium:vm("a", "host", {agent_timeout = 0.05}):boot{wait = "console:login: "}
  t:assert_eq(vm:state(), "booted")
  t:assert_contains(t:assert_raises(function() vm:run("true") end), "no agent answered within 50ms")
end)
test("nothing", function(t) t:assert_eq(provium:vm("b", "host", {wait = "none"}):boot():state(), "booted") end)
test("late", {timeout = "50ms"}, function(t) provium:vm("c", "host", {wait = "none"}):boot() while true do end end)
`, func(m *fakemachine.Machine) {
		m.SetAgent(fakemachine.AgentSilent)
		m.Print(false, "login: ")
	}, nil)
	o.passed(t, "text")
	o.passed(t, "nothing")
	o.failed(t, "late", "timed out after 0.05s")
}

// A panic that the test expects fails nothing, nor does what led to it.
func TestExpectedPanic(t *testing.T) {
	o := runOn(t, `
local function crash(vm)
  local ok, err = pcall(vm.run, vm, "oops; crash")
  assert(not ok and tostring(err):find("Kernel panic - not syncing: on purpose", 1, true), err)
  return vm:run("echo alive").stdout == "alive\n" and vm:state() == "booted"
end
test("meta", {expect_panic = true}, function(t) t:assert(crash(provium:vm("a", "host"):boot())) end)
test("boot", function(t) t:assert(crash(provium:vm("b", "host"):boot{expect_panic = true})) end)
test("declared", function(t) t:assert(crash(provium:vm("c", "host", {expect_panic = true}):boot())) end)
test("unexpected", function(t) crash(provium:vm("d", "host"):boot()) end)
test("only allowed", {allow_oops = true}, function(t)
  local vm = provium:vm("e", "host"):boot()
  pcall(vm.run, vm, "crash")
  t:assert_contains(t:assert_raises(function() vm:run("true") end), "dead")
end)
test("type", function(t) provium:vm("f", "host"):boot{expect_panic = 1} end)
test("none", {expect_panic = true}, function(t) provium:vm("g", "host"):boot() end)
test("any report", function(t) t:expect_kernel("") end)
`, func(m *fakemachine.Machine) {
		addFaults(m)
		m.Program("crash", func(p *fakemachine.Process) int {
			m.Panic("on purpose")
			go m.Reboot() // it waits for the programs of the boot
			<-p.Context.Done()
			return 1
		})
	}, nil)
	for _, name := range []string{"meta", "boot", "declared", "only allowed"} {
		if e := o.passed(t, name); len(e.Log) > 0 {
			t.Errorf("%s: %q", name, e.Log)
		}
	}
	const unneeded = "note: meta.expect_panic is not needed"
	if e := o.passed(t, "none"); len(e.Log) != 1 || !strings.HasPrefix(e.Log[0], unneeded) {
		t.Errorf("%q", e.Log)
	}
	o.failed(t, "any report", "t:expect_kernel: argument 1 (pattern) must not be empty")
	o.failed(t, "unexpected", "guest failure on vm `d`: Kernel panic - not syncing: on purpose")
	o.failed(t, "type", "expect_panic")
}

// TestUnexpectedReboot has guests reboot, with and without a reboot call.
func TestUnexpectedReboot(t *testing.T) {
	o := runOn(t, `
local console = {kernel_cmdline = "console=ttyS0"}
local function reboots(name, how)
  local vm = provium:vm(name, "host", console):boot()
  pcall(vm.run, vm, how)
  vm:wait_reboot()
end
test("unasked", function(t) reboots("a", "fault") end)
test("expected", function(t)
  t:expect_kernel("unexpected reboot")
  reboots("b", "fault")
end)
test("asked", function(t) reboots("c", "reboot") end)
`, func(m *fakemachine.Machine) {
		for name, reboot := range map[string]func(){"fault": m.RebootSilently, "reboot": m.Reboot} {
			m.Program(name, func(p *fakemachine.Process) int {
				go reboot() // it waits for the programs of the boot
				<-p.Context.Done()
				return 1
			})
		}
	}, nil)
	o.failed(t, "unasked", "guest failure on vm `a`: unexpected reboot\n",
		"the guest was reset without a reboot call, sysrq or panic")
	o.passed(t, "expected")
	o.passed(t, "asked")
}

// WARNING reports fail a test unless something takes them out.
func TestKernelWarnings(t *testing.T) {
	source := `
test("warns", function(t) provium:vm("a", "host"):boot():run("warn") end)
test("warnings are allowed", {allow_warnings = true}, function(t) provium:vm("b", "host"):boot():run("warn") end)
test("all is allowed", {allow_oops = true}, function(t) provium:vm("c", "host"):boot():run("warn") end)
test("no oops", {allow_warnings = true}, function(t) provium:vm("d", "host"):boot():run("oops") end)
`
	addWarning := func(m *fakemachine.Machine) {
		addFaults(m)
		m.Program("warn", func(*fakemachine.Process) int {
			m.Print(false, "[    3.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:1 frob+0x1/0x2\n"+
				"[    3.000000] ---[ end trace 0 ]---\n")
			return 0
		})
	}
	o := runOn(t, source, addWarning, nil)
	o.failed(t, "warns", "guest failure on vm `a`: WARNING in frob")
	o.passed(t, "warnings are allowed")
	o.passed(t, "all is allowed")
	o.failed(t, "no oops", "BUG: unable to handle")
	o = runOn(t, source, addWarning, func(c *Config) { c.Host.Profiles["host"].NoteWarnings = true })
	e := o.passed(t, "warns")
	if len(e.Log) != 1 || !strings.HasPrefix(e.Log[0], "warning: the kernel of vm `a`: WARNING in frob") {
		t.Errorf("%q", e.Log)
	}
}

// TestSourceOfReports has lines of source in the text of a failure, for its profile.
func TestSourceOfReports(t *testing.T) {
	source := `test("oops", function(t) provium:vm("a", "host"):boot():run("oops") end)`
	o := runOn(t, source, addFaults, func(c *Config) {
		c.Reports = &verdict.Project{Source: func(_ context.Context, profile, report string) (string, error) {
			return strings.ReplaceAll(report, "BUG:", profile+" (x.c:7) BUG:"), errors.New("no module")
		}}
	})
	o.failed(t, "oops", "host (x.c:7) BUG: unable to handle")
	if e := o.failed(t, "oops", ""); !strings.Contains(strings.Join(e.Log, "\n"), "no module") {
		t.Errorf("%q", e.Log)
	}
}

// TestExpectKernel has tests say which reports of kernels are to come.
func TestExpectKernel(t *testing.T) {
	o := runOn(t, `
test("comes", function(t)
  t:expect_kernel({pattern = "unable to handle %w+ paging"})
  provium:vm("a", "host"):boot():run("oops")
end)
test("does not come", function(t) t:expect_kernel("WARNING in frob") provium:vm("b", "host"):boot() end)
test("another one", function(t)
  t:expect_kernel("WARNING in frob")
  provium:vm("c", "host"):boot():run("oops")
end)
test("a panic", function(t)
  t:expect_kernel("not syncing: Fatal")
  local vm = provium:vm("d", "host"):boot()
  t:assert_contains(t:assert_raises(function() vm:run("panic") end), "panic")
end)
test("skipped", function(t) t:expect_kernel("x") t:skip("enough") end)
test("wrong", function(t)
  t:assert_error_matches(function() t:expect_kernel() end, "a string or {pattern=}")
  t:assert_error_matches(function() t:expect_kernel({pattern = "("}) end, "pattern")
end)
test("in vain", {allow_oops = true}, function(t) provium:vm("e", "host"):boot() end)
test("killed", function(t) provium:vm("f", "host"):boot():run("oom") end)
`, func(m *fakemachine.Machine) {
		addFaults(m)
		m.Program("oom", func(*fakemachine.Process) int {
			m.Print(false, "[    4.000000] Out of memory: Killed process 91 (tail) total-vm:1kB, anon-rss:1kB\n")
			return 0
		})
	}, nil)
	o.passed(t, "comes")
	o.failed(t, "does not come", "tests/x.test.lua:6: t:expect_kernel: no kernel has reported "+"`WARNING in frob`")
	e := o.failed(t, "another one", "guest failure on vm `c`: BUG: unable to handle kernel paging request")
	if !strings.Contains(e.Reason, "no kernel has reported "+"`WARNING in frob`") {
		t.Error(e.Reason)
	}
	o.passed(t, "a panic")
	o.skipped(t, "skipped", "enough")
	o.passed(t, "wrong")
	if e := o.passed(t, "in vain"); len(e.Log) != 1 ||
		!strings.HasPrefix(e.Log[0], "note: meta.allow_oops is not needed") {
		t.Errorf("%q", e.Log)
	}
	if e := o.passed(t, "killed"); len(e.Log) != 1 || !strings.Contains(e.Log[0], "Out of memory: killed tail") {
		t.Errorf("%q", e.Log)
	}
}

// TestIdleRules has rules for requests that do not come.
func TestIdleRules(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("a", "host", {disks = {{scratch = "1M", id = "d"}}}):boot()
local old = vm:disk("d"):inject{op = "flush", errno = "EIO"}
test("two, of which one is met", function(t)
  local d = vm:disk("d")
  d:inject{op = "read", sectors = 7, errno = "EIO"}
  d:inject{op = "write", sectors = 7, delay = "1ms"}
  t:assert_raises(function() d:read_sectors(7, 1) end)
end)
test("none of its own", function(t) end)
test("a policy and a mode", function(t)
  local d = vm:disk("d")
  d:clear_faults()
  d:fail_range(9, 1) d:fail_after(100) d:fault_inject("eio_write")
  t:assert_raises(function() d:write_sectors(7, ("x"):rep(512)) end)
end)
test("that of another one", function(t) end)
`, nil, nil)
	e := o.passed(t, "two, of which one is met")
	const want = "note: no request of disk `d` of vm `a` has met its rule 3: write of sectors 7+1, delay 1ms"
	if len(e.Log) != 1 || e.Log[0] != want {
		t.Errorf("%q", e.Log)
	}
	if e := o.passed(t, "none of its own"); len(e.Log) > 0 {
		t.Errorf("%q", e.Log)
	}
	e = o.passed(t, "a policy and a mode")
	const notMet = "note: no request of disk `d` of vm `a` has met its "
	if len(e.Log) != 2 || e.Log[0] != notMet+"fail_after" || e.Log[1] != notMet+"fail_range" {
		t.Errorf("%q", e.Log)
	}
	if e := o.passed(t, "that of another one"); len(e.Log) > 0 {
		t.Errorf("%q", e.Log)
	}
}

// TestSitesAreInTestFiles has a helper module open what a test asks for: messages name
// the line of the test.
func TestSitesAreInTestFiles(t *testing.T) {
	o := runOn(t, `
package.preload.helper = load("return {tail = function(vm) " ..
  "vm:write_file('/f', '') return (vm:tail_file('/f')) end}", "@tests/lib/helper.lua")
local helper = require("helper")
local vm = provium:vm("n1", "host"):boot()
test("helper", function(t)
  local stream = helper.tail(vm)
  t:assert_eq(stream:creation_site().file, "tests/x.test.lua") t:assert_eq(stream:creation_site().line, 7)
  t:assert_contains(t:assert_raises(function() vm:snapshot() end),
    "open stream tail_file(\"/f\") at tests/x.test.lua:7")
end)`, nil, nil)
	o.passed(t, "helper")
}

// A scope closes what its test has left open.
func TestResourcesOfATest(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host"):boot()
local kept = {}
test("opens", function(t)
  vm:write_file("/tmp/f", "text")
  kept.file = vm:open_file("/tmp/f", {read = true})
  kept.process = vm:run_async("sleep 60")
  kept.stream = vm:tail_file("/tmp/f", {start = "beginning"})
  kept.worker = vm:spawn_worker()
  vm:open_file("/tmp/f", {read = true}):close()
  local at = kept.stream:creation_site()
  t:assert_eq(at.file, "tests/x.test.lua") t:assert_eq(at.line, 8)
end)
test("after", function(t)
  t:assert_eq(vm:open_file_count(), 0) t:assert_eq(vm:open_stream_count(), 0)
  for name, h in pairs{process = kept.process.wait, file = kept.file.read_all} do
    t:assert_contains(t:assert_raises(function() h(kept[name]) end), "closed", name)
  end
end)`, nil, nil)
	o.passed(t, "opens")
	o.passed(t, "after")
	if o.stderr != "" {
		t.Error(o.stderr)
	}
}

func TestWarnings(t *testing.T) {
	o := runOn(t, `
provium:vm("a", "host"):boot():power_button("20ms")
test("it", function(t) provium:vm("b", "host"):boot():power_button("20ms")
end)`, (*fakemachine.Machine).IgnorePowerButton, nil)
	e := o.passed(t, "it")
	if len(e.Log) != 1 || !strings.HasPrefix(e.Log[0], "warning: vm `b` ignored the power button") {
		t.Errorf("%q", e.Log)
	}
	if !strings.HasPrefix(o.stderr, "provium: tests/x.test.lua: vm `a` ignored the power button for 0.02s") {
		t.Errorf("%q", o.stderr)
	}
}

func TestResetBetweenTests(t *testing.T) {
	source := `
provium.reset_between_tests = true
assert(provium.reset_between_tests == true)
local vm = provium:vm("n1", "host"):boot()
vm:write_file("/tmp/base", "1")
for i = 1, 4 do
  test("t" .. i, function(t)
    t:assert_eq(vm:read_file("/tmp/base"), "1")
    t:assert_raises(function() vm:stat("/tmp/dirt") end)
    vm:write_file("/tmp/dirt", "") vm:write_file("/tmp/base", "2")
  end)
end`
	o := runOn(t, source, nil, nil)
	if o.Passed != 4 || o.ChunkError != "" || o.stderr != "" {
		t.Errorf("%+v, stderr %q", o.Result, o.stderr)
	}
	if !slices.Equal(o.registered, []string{"t1", "t2", "t3", "t4"}) {
		t.Errorf("%q", o.registered)
	}
	var seed uint64 = 3
	o = runOn(t, source, nil, func(c *Config) { c.Shuffle = &seed })
	if o.Passed != 4 || slices.IsSorted(o.registered) {
		t.Errorf("%+v %q", o.Result, o.registered)
	}
	for name, c := range map[string]struct{ source, want string }{
		"type": {`provium.reset_between_tests = 1`, "provium.reset_between_tests: expected boolean, got number"},
		"stream": {`provium.reset_between_tests = true local vm = provium:vm("n1", "host"):boot()
			vm:write_file("/f", "") vm:tail_file("/f")
			test("a", print)`, "would auto-snapshot a live stream:\n  - open stream tail_file(\"/f\") at tests/x.test.lua:2"},
		"file": {`provium.reset_between_tests = true local vm = provium:vm("n1", "host"):boot() vm:pause()
			test("a", print) test("b", print)`, ""},
	} {
		if o := runOn(t, c.source, nil, nil); !strings.Contains(o.ChunkError, c.want) {
			t.Errorf("%s: %s", name, o.ChunkError)
		}
	}
	o = runOn(t, `test("it", function() provium.reset_between_tests = true end)`, nil, nil)
	o.failed(t, "it", "cannot be set inside a test body")
}

// Fixtures are built once, from each other, and restored.
func TestFixturesOfGuests(t *testing.T) {
	host, _ := fakeHost(t)
	project := write(t, map[string]string{
		testPath: `test("it", function(t)
			for _ = 1, 2 do
				local vm = provium:vm_fixture("derived")
				t:assert_eq(vm:read_file("/base") .. vm:read_file("/derived"), "12")
				provium:remove(vm)
			end
			t:assert_eq(provium:lab_fixture("pair").b:read_file("/name"), "b")
			local l = provium:lab("l") local f = l.vm_fixture
			f(provium:lab("m"), "base") t:assert_eq(f("base"):name(), "vm") t:assert_eq(#l:vm_names(), 1)
			t:assert_contains(t:assert_raises(function() provium:lab_fixture("base") end), "is a vm: use vm_fixture")
		end)`,
		"tests/base.fixture.lua": `local vm = provium:vm("vm", "host", {disks = {{template =
			"disk.img"}}}):boot() vm:write_file("/base", "1") return vm:snapshot()`,
		"tests/derived.fixture.lua": `local vm = provium:vm_fixture("base") vm:write_file("/derived", "2")
			return vm:snapshot()`,
		"tests/pair.fixture.lua": `for _, n in ipairs{"a", "b"} do provium:vm(n,
			"host"):boot():write_file("/name", n) end
			provium:claim({cpus = 2}) return provium:snapshot()`,
		"disk.img": strings.Repeat("x", 4096),
	})
	cache := &fixture.Cache{Dir: filepath.Join(t.TempDir(), "cache"), Program: "test", Profile: host.ProfileDigest}
	o := runFile(t, context.Background(), project, func(c *Config) { c.Host, c.Fixtures = host, cache })
	o.passed(t, "it")
	got := strings.Join(o.fixtureEvents(), ", ")
	if strings.Count(got, "started") != 3 || !strings.Contains(got, "hit derived") ||
		!strings.Contains(got, "hit base") {
		t.Error(got)
	}
	source := fixture.Source{Name: "base", Path: filepath.Join(project, "tests/base.fixture.lua")}
	built := func() bool {
		env := testEnv(t, project)
		env.Fixtures = cache
		cache.Profile = env.Host.ProfileDigest
		ok, err := BuildFixture(context.Background(), env, source)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if built() {
		t.Error("built again")
	}
	if err := os.WriteFile(filepath.Join(project, "disk.img"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if !built() {
		t.Error("the image of a disk is no dependency")
	}
}

// addDevice makes the guests of explorations find the disk `data`.
func addDevice(m *fakemachine.Machine) {
	addFaults(m)
	m.Files.MkdirAll("/sys/block/vda")
	m.Files.MkdirAll("/proc/self")
	for name, text := range map[string]string{"/sys/block/vda/serial": "data\n", "/sys/block/vda/dev": "254:0\n",
		"/proc/self/mountinfo": ""} {
		m.Files.Write(name, []byte(text))
	}
	for _, nr := range []int64{unix.SYS_OPEN, unix.SYS_IOCTL, unix.SYS_CLOSE} {
		m.OnSyscall(nr, func(context.Context, *fakemachine.Syscall) (int64, uint32) { return 3, 0 })
	}
}

func TestExplorations(t *testing.T) {
	o := runOn(t, `
local function explore(check, more)
  local vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "data"}}}):boot()
  local opts = {check = check, workload = function(vm, disk) disk:write_sectors(0, ("a"):rep(512)) end}
  for k, v in pairs(more or {}) do opts[k] = v end
  return vm:disk("data"):crash_points(opts)
end
test("passes", function(t) t:assert_eq(#explore(function(vm, disk) disk:read_sectors(0, 1) end).failed, 0) end)
test("fails", function(t) explore(function() error("bad content") end) end)
test("asserts", function(t) explore(function() t:assert(false, "bad content") end) end)
test("oops", function(t) explore(function(vm) vm:run("oops") end) end)
test("allowed oops", {allow_oops = true}, function(t) explore(function(vm) vm:run("oops") end) end)
test("skips", function(t) explore(function() t:skip("enough") end) end)
test("late", {timeout = "2s"}, function(t) explore(function() while true do end end) end)
test("no raise", function(t) t:assert(#explore(function() error("x") end, {raise = false}).failed > 0) end)
`, addDevice, nil)
	o.passed(t, "passes")
	o.failed(t, "fails", "disk:crash_points: ", "checked points failed", "bad content")
	o.failed(t, "asserts", "checked points failed", "bad content")
	o.failed(t, "oops", "BUG: unable to handle kernel paging request")
	o.passed(t, "allowed oops")
	o.skipped(t, "skips", "enough")
	o.failed(t, "late", "timed out after 2s")
	o.passed(t, "no raise")
}

// Errors about relative paths show the path that was tried.
func TestPathsOfSnapshots(t *testing.T) {
	project := write(t, map[string]string{testPath: `
local vm = provium:vm("v", "host"):boot()
test("kept", function(t)
  local s = vm:snapshot("kept.snap") t:assert_eq(s:path(), "kept.snap") vm:shutdown() vm:restore("kept.snap")
vm:shutdown()
end)
test("restore", function() vm:restore("gone.snap") end)
test("restore absolute", function() vm:restore("/no/such.snap") end)
test("lab restore", function() provium:restore("gone") end)
test("snapshot", function() vm:boot() vm:snapshot("gone/x.snap") end)`})
	t.Chdir(project)
	o := runFile(t, context.Background(), project, nil)
	o.passed(t, "kept")
	for name, path := range map[string]string{"restore": "gone.snap", "lab restore": "gone",
		"snapshot": "gone/x.snap"} {
		o.failed(t, name, "(tried `"+filepath.Join(project, path)+"`)")
	}
	if e := o.failed(t, "restore absolute", "/no/such.snap"); strings.Contains(e.Reason, "tried") {
		t.Error(e.Reason)
	}
}

// What cannot be closed is a warning that names the scope.
func TestCloseWarnings(t *testing.T) {
	o := runOn(t, `local vm = provium:vm("n1", "host"):boot() test("it", function() vm:run_async("sleep 60") end)`,
		func(m *fakemachine.Machine) {
			m.OnOp("proc_close", fakemachine.Refuse(uint32(unix.EIO)))
		}, nil)
	o.passed(t, "it")
	if !strings.Contains(o.stderr, "provium: tests/x.test.lua: close of process(proc#") ||
		!strings.Contains(o.stderr, "in test `it`: ") {
		t.Errorf("%q", o.stderr)
	}
}

// A panic beside the Lua code of a build poisons, too, and closes what the build has made.
func TestPanicAfterABuild(t *testing.T) {
	host, _ := fakeHost(t)
	images := &struct{ lab.Images }{host.Images} // without the inner one, its methods panic
	host.Images = images
	project := write(t, map[string]string{
		testPath:              `test("it", function() pcall(provium.vm_fixture, provium, "x") end)`,
		"tests/x.fixture.lua": `local vm = provium:vm("x", "host"):boot() print("arm") return vm:snapshot()`,
	})
	cache := &fixture.Cache{Dir: filepath.Join(t.TempDir(), "cache"), Program: "test", Profile: host.ProfileDigest}
	o := runFile(t, context.Background(), project, func(c *Config) {
		c.Host, c.Fixtures = host, cache
		c.Stdout = writerFunc(func([]byte) { images.Images = nil })
	})
	o.failed(t, "it", "internal error: panic in the build: runtime error: invalid memory address", "goroutine ",
		"dependOnVMs")
	if !o.Poisoned {
		t.Error("not poisoned")
	}
}
