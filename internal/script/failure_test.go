package script

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/event"
	"provium/internal/fakemachine"
	"provium/internal/fixture"
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
	e := o.failed(t, "long", "tests/x.test.lua:8: command failed: status=exited code=2 "+
		"stdout=(1490 bytes, below)", ` stderr="make: *** no rule\n"`+"\n", "\n>     8 |   r:assert_ok()\n",
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

// TestWorldOfAFailure has the rules in force and what commands in the background have printed,
// as they were before anything was cleaned up.
func TestWorldOfAFailure(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "d"}, {scratch = "1M", id = "e"}}}):boot()
local net = provium:bridge("net")
provium:vm("n2", "host")
net:attach(vm)
test("rules", function(t)
  t:defer(function()
    net:reset() net:nic(vm):reconnect()
    vm:disk("d"):clear_faults() vm:disk("d"):clear_policy() vm:disk("e"):clear_rules()
  end)
  net:partition("n1", "n2")
  net:add_latency(50)
  net:nic(vm):disconnect()
  vm:disk("d"):fault_inject("eio_read")
  vm:disk("d"):fail_after(3)
  vm:disk("e"):inject({op = "write", sectors = {8, 16}, errno = "ENOSPC", probability = 0.5})
  local p = vm:run_async("chat")
  p:stdout_stream():read_until("two", "5s")
  local waited = vm:run_async("echo gone")
  waited:wait()
  t:fail("here")
end)
test("no rules", function(t) t:fail("here") end)`, func(m *fakemachine.Machine) {
		m.Program("chat", func(p *fakemachine.Process) int {
			p.Complain("oh\n")
			p.Print("one\ntwo\n")
			<-p.Context.Done()
			return 0
		})
	}, nil)
	o.failed(t, "rules", `
network rules in force:
  bridge `+"`net`: n1 and n2 are partitioned; disconnected: n1; latency_ms = 50"+`
disk rules in force:
  [n1] disk `+"`d`: fault_inject eio_read; fail_after 3"+`
  [n1] disk `+"`e`: rule 1: write of sectors 8+16 fails with ENOSPC, probability 0.5 (met 0 times)"+`
commands in the background:
  [n1] `+"`chat`: running with pid ", `
    stdout (8 bytes, 2 lines):
      | one
      | two
    stderr (3 bytes):
      | oh`)
	if e := o.failed(t, "no rules", "here"); strings.Contains(e.Reason, "in force") ||
		strings.Contains(e.Reason, "background") {
		t.Error(e.Reason)
	}
}

// addHang makes the command `hang`, which prints something and does not end, and the entries of
// the kernel for it.
func addHang(m *fakemachine.Machine) {
	m.Program("hang", func(p *fakemachine.Process) int {
		addProc(m)
		p.Print("working\n")
		<-p.Context.Done()
		return 1
	})
}

func addProc(m *fakemachine.Machine) {
	for path, text := range map[string]string{
		"1/stat": "1 (init) S 0 1 1 0 -1 4194560 1", "1/cmdline": "/sbin/init\x00",
		"2/stat":  "2 (kthreadd) S 0 0 0 0 -1 2129984 0",
		"30/stat": "30 (provium-agent) S 1 1 1 0 -1 4194560 1",
		"31/stat": "31 (kworker) D 2 0 0 0 -1 69238880 0", "31/stack": "[<0>] io_schedule+0x46/0x80\n",
		"40/stat": "40 (a )( b) S 30 1 1 0 -1 4194304 1", "40/cmdline": "hang\x00now\x1b\x00", "40/wchan": "pipe_read",
		"40/stack": "[<0>] pipe_read+0x1/0x2\n[<0>] vfs_read+0x3/0x4\n", "50/stat": "nonsense",
		"60/stat": "60 (provium-agent) S 30 1 1 0 -1 4194560 1", "60/cmdline": "@provium-executor\x00",
		"60/wchan": "futex_wait_queue", "60/task/60/x": "", "60/task/61/x": "",
		"61/syscall": "202 0x7f 0x0\n", "61/wchan": "futex_wait", "61/stack": "[<0>] futex_wait+0x1/0x2\n",
	} {
		m.Files.MkdirAll("/proc/" + filepath.Dir(path))
		m.Files.Write("/proc/"+path, []byte(text))
	}
}

// TestWhatIsStuck has a test that was over its limit show what its command had printed, and
// what the guest did.
func TestWhatIsStuck(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host"):boot()
test("hangs", {timeout = "300ms"}, function(t) vm:run("hang") end)
test("loops", {timeout = "50ms"}, function(t) while true do end end)
test("polls", {timeout = "300ms"}, function(t)
  wait_until(function() return vm:run("cat /nonexist"):ok() end, {timeout = "60s", interval = "20ms"})
end)
test("guest that is gone", {timeout = "100ms"}, function(t)
  vm:shutdown()
  wait_until(function() return false end, {timeout = "60s"})
end)`, addHang, nil)
	e := o.failed(t, "hangs", `timed out after 0.3s in vm:run("hang") at tests/x.test.lua:3`+"\n", `
stdout so far of vm:run("hang") at tests/x.test.lua:3 (8 bytes):
  | working
`, "\nin vm `n1` when the time was up:\n"+`    PID  PPID S WAITS IN               COMMAND
     31     2 D -                      [kworker]
     40    30 S pipe_read              hang now\x1b
     61    60 ? futex_wait             syscall_async(202)
     60    30 S futex_wait_queue       @provium-executor
      1     0 S -                      /sbin/init
     30     1 S -                      [provium-agent]
  kernel stack of 31 (kworker):
    [<0>] io_schedule+0x46/0x80
  kernel stack of 40 (a )( b):
    [<0>] pipe_read+0x1/0x2
    [<0>] vfs_read+0x3/0x4
  kernel stack of 61 (syscall_async):
    [<0>] futex_wait+0x1/0x2`)
	if strings.Contains(e.Reason, "kthreadd") ||
		strings.Count(e.Reason, "3  (failed)\n") != 1 {
		t.Error(e.Reason)
	}
	o.failed(t, "polls", "timed out after 0.3s in ", `vm:run("cat /nonexist")  tests/x.test.lua:6  ×`,
		"in vm `n1` when the time was up:\n")
	for _, name := range []string{"loops", "guest that is gone"} {
		if e := o.failed(t, name, "timed out after"); strings.Contains(e.Reason, "when the time was up") {
			t.Error(e.Reason)
		}
	}
}

// TestWhatWorkersAndBatchesHadPrinted has tests at their limits show the output so far also of a
// command of a worker and of one in a batch, and system calls that nobody has awaited.
func TestWhatWorkersAndBatchesHadPrinted(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("n1", "host"):boot()
local w = vm:spawn_worker()
test("worker", {timeout = "300ms"}, function(t) w:run("hang") end)
test("batch", {timeout = "300ms"}, function(t)
  vm:batch(function(b) b:run("echo before") b:run("hang") b:run("echo after") end)
end)
test("calls", function(t)
  w:syscall_async(7)
  vm:syscall_async(202, 1)
  vm:syscall_async(39):await()
  t:fail("here")
end)`, func(m *fakemachine.Machine) {
		addHang(m)
		for _, nr := range []int64{unix.SYS_POLL, unix.SYS_FUTEX} {
			m.OnSyscall(nr, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
				<-ctx.Done()
				return -1, uint32(unix.EINTR)
			})
		}
	}, nil)
	o.failed(t, "worker", `
stdout so far of worker:run("hang") at tests/x.test.lua:4 (8 bytes):
  | working
`)
	e := o.failed(t, "batch", `
stdout so far of operation 2 of vm:batch(`, ` at tests/x.test.lua:6 (8 bytes):
  | working
`)
	if strings.Contains(e.Reason, "| before") {
		t.Error(e.Reason)
	}
	e = o.failed(t, "calls", `
system calls in the background:
  [n1] syscall_async(7) of worker(`, `): not awaited
  [n1] syscall_async(202): not awaited`)
	if strings.Contains(e.Reason, "(39): not") {
		t.Error(e.Reason)
	}
}

// TestReportsOfKernelsOnce has the title and the report of a panic once in a reason.
func TestReportsOfKernelsOnce(t *testing.T) {
	o := runOn(t, `
test("panic", function(t) provium:vm("a", "host"):boot():run("panic") end)
test("oops", function(t)
  provium:vm("b", "host"):boot():run("oops")
  t:fail("here")
end)`, addFaults, nil)
	for name, texts := range map[string][2]string{
		"panic": {"Kernel panic - not syncing: Fatal exception", "Kernel panic - not syncing: Fatal exception"},
		"oops":  {"BUG: unable to handle kernel paging request", "BUG: unable to handle page fault"},
	} {
		title, printed := texts[0], texts[1]
		e := o.failed(t, name, "guest failure on vm `", title)
		lines := strings.Split(e.Reason, "\n")
		titled, stamped := 0, 0
		for _, line := range lines {
			switch {
			case strings.HasPrefix(line, "[") && strings.Contains(line, "] "+printed):
				stamped++
			case strings.Contains(line, "guest failure on vm `") && strings.Contains(line, title):
				titled++
			}
		}
		if titled != 1 || stamped != 1 {
			t.Errorf("%s: %d titles, %d reports\n%s", name, titled, stamped, e.Reason)
		}
	}
}

// TestFixtureOfAPanic shows the report of the kernel of a fixture's guest.
func TestFixtureOfAPanic(t *testing.T) {
	host, machines := fakeHost(t)
	machines.Prepare(addFaults)
	project := write(t, map[string]string{
		"tests/bad.fixture.lua": `
local vm = provium:vm("inner", "host"):boot()
vm:run("panic")
return vm:snapshot()`,
		testPath: `test("uses it", function(t) provium:vm_fixture("bad") end)`,
	})
	o := runFile(t, context.Background(), project, func(c *Config) {
		c.Host, c.Roots = host, []string{filepath.Join(project, "tests")}
		c.Fixtures = &fixture.Cache{Dir: t.TempDir()}
	})
	o.failed(t, "uses it", "Kernel panic - not syncing: Fatal exception", "] Kernel panic - not syncing: Fatal",
		"tests/bad.fixture.lua:3")
}

// TestPrintsAreEvents has what tests print in events alone, and what a person prints shown.
func TestPrintsAreEvents(t *testing.T) {
	a := &asked{sources: []string{`print("typed")`}}
	o := runOn(t, `
print("loading")
test("prints", function(t) print("one", 2) t:pause() print("three") end)`, nil, func(c *Config) {
		c.Capture, c.Pauses = true, a
	})
	var printed []string
	for _, e := range o.events {
		if out, ok := e.(event.TestOutput); ok {
			printed = append(printed, out.Name+": "+out.Text)
		}
	}
	want := []string{": loading\n", "prints: one\t2\n", "prints: typed\n", "prints: three\n"}
	if !slices.Equal(printed, want) || o.stdout != "typed\n" {
		t.Errorf("%q, stdout %q", printed, o.stdout)
	}
}

func TestAttach(t *testing.T) {
	source := `
test("attaches", function(t)
  t:attach("bytes", "a\0b")
  t:attach("file", "data.bin")
  t:attach("named", {path = "data.bin"})
  t:attach("not the file", {bytes = "data.bin"})
  t:attach("no file", "data.gone")
  t:attach("empty", "")
  t:attach("a line", "/etc" .. "/passwd\n")
  t:attach("big", ("x"):rep(9 << 20))
end)
test("bad", function(t)
  for _, c in ipairs({
    {{"x"}, "argument 2 %(what%) must be a string or a table, got nil"}, {{"", "x"}, "must have 1 to 200 bytes, got 0"},
    {{"x", {}}, "exactly one of path, bytes"}, {{"x", {path = "a", bytes = "b"}}, "exactly one of path, bytes"},
    {{"x", {pth = "a"}}, "pth"}, {{"x", {path = "gone"}}, "no such file"}, {{"x", {path = "."}}, "not a regular file"},
    {{"x", "y", "z"}, "t:attach%(name"},
    -- Not written out, as what a guest has printed.
    {{"x", "other" .. ".bin"}, 'other%.bin" is also the path of a file of the host: say {path = '},
    {{"x", "./" .. "data.bin"}, "is also the path"}, {{"x", "/etc" .. "/passwd"}, "is also the path"},
  }) do
    t:assert_error_matches(function() t:attach(table.unpack(c[1])) end, c[2])
  end
end)
test("many", function(t) for i = 1, 101 do t:attach("x", "y") end end)`
	project := write(t, map[string]string{testPath: source, "tests/data.bin": "data",
		"tests/other.bin": "data"})
	o := runFile(t, context.Background(), project, nil)
	var got []string
	for _, e := range o.events {
		if a, ok := e.(event.TestAttachment); ok && a.Name == "attaches" {
			rel := ""
			if a.Source != "" {
				rel, _ = filepath.Rel(project, a.Source) // else the list shows it
			}
			got = append(got, fmt.Sprintf("%s %s %d %d %.4q", a.Attachment, rel, a.Size, len(a.Data), a.Data))
		}
	}
	want := []string{`bytes  3 3 "a\x00b"`, `file tests/data.bin 4 4 "data"`, `named tests/data.bin 4 4 "data"`,
		`not the file  8 8 "data"`, `no file  9 9 "data"`, `empty  0 0 ""`, `a line  12 12 "/etc"`,
		`big  9437184 8388608 "xxxx"`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if log := o.passed(t, "attaches").Log; len(log) != 8 || log[0] != "attached bytes (3 bytes)" {
		t.Errorf("%q", log)
	}
	o.passed(t, "bad")
	o.failed(t, "many", "a test can have 100 attachments")
}
