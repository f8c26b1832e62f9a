package api_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/apitest"
)

// newHost returns a host of fake machines with the profile `host`.
func newHost(t testing.TB) (*lab.Host, *fakemachine.Machines) {
	machines := fakemachine.New(t)
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines, Seed: 7,
	}, machines
}

func host(t testing.TB) *lab.Host {
	h, _ := newHost(t)
	return h
}

// booted declares and boots the VM that most cases use, and defines helpers.
const booted = `
local vm = provium:vm("n1", "host"):boot()
local function eq(got, want)
	if got ~= want then error(("got %s, want %s"):format(tostring(got), tostring(want)), 2) end
end
local function refused(want, fn, ...)
	local ok, err = pcall(fn, ...)
	if ok then error("not refused", 2) end
	if not tostring(err):find(want, 1, true) then error(("got %s, want %s"):format(tostring(err), want), 2) end
end
`

func TestGuestFiles(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`vm:write_file("/tmp/x", "a\0b") eq(vm:read_file("/tmp/x"), "a\0b")`: "",
		`vm:read_file("/no")`: "No such file or directory (ENOENT, os error 2) [errno 2]",

		`vm:mkdir("/tmp/d/e", {parents = true, perm = 448}) eq(vm:stat("/tmp/d/e").perm, 448)
			eq(vm:stat("/tmp/d/e").entry_type, "directory")`: "",

		`vm:write_file("/tmp/x", "12345") local s = vm:stat("/tmp/x") eq(s.size, 5) eq(math.type(s.mtime), "float")
			eq(s.mtime_ns > 0, true)`: "",

		`vm:mkdir("/tmp/l") vm:write_file("/tmp/l/f", "") local l = vm:listdir("/tmp/l") eq(#l, 1) eq(l[1].name, "f")
			eq(l[1].entry_type, "file")`: "",

		`vm:write_file("/tmp/a", "1") vm:rename("/tmp/a", "/tmp/b") eq(vm:read_file("/tmp/b"), "1")
			vm:unlink("/tmp/b") vm:stat("/tmp/b")`: "ENOENT",

		`vm:pull_file("/no", "/x/y")`: "pull_file /no -> /x/y: No such file or directory (ENOENT",
		`vm:write_file("/tmp/x", "") vm:pull_file("/tmp/x", "/x/y")`: "pull_file /tmp/x -> /x/y: host file " +
			"/x/y: no such file or directory",
	})
}

func TestPushAndPull(t *testing.T) {
	s := apitest.New(t, host(t))
	dir := filepath.Join(s.Dir, "tests")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(booted + `
		vm:push_file("in", "/tmp/in")
		eq(vm:read_file("/tmp/in"), "text") eq(vm:stat("/tmp/in").perm, 416)
		vm:push_file("in", "/tmp/in", {perm = 384, auto_dep = false}) eq(vm:stat("/tmp/in").perm, 384)
		vm:pull_file("/tmp/in", "out")
		refused("/tests/gone: no such file or directory", vm.push_file, vm, "gone", "/tmp/x")
		provium:depends_on_file("in") provium:depends_on_file("gone") -- nothing outside of fixtures
	`); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "out")); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRun(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local r = vm:run("echo hi") eq(r.stdout, "hi\n") eq(r.stderr, "") eq(r.exit_code, 0) eq(r.status, "exited")
			eq(r:ok(), true) eq(r:assert_ok(), r)`: "",

		`local r = vm:run("exit 3") eq(r.exit_code, 3) eq(r:ok(), false) eq(r.signal, nil) eq(r.timed_out, false)
			eq(r.truncated, false) r:assert_ok()`: "command failed: status=exited code=3",

		`eq(vm:run("echo", {"a b", 1, 2.5}).stdout, "a b 1 2.5\n")`: "",

		`eq(vm:run("cat", {args = {}, stdin = "in", env = {A = "1"}, env_clear = true, cwd = "/tmp", user = "root",
			timeout = "10s"}).stdout, "in")`: "",

		`eq(vm:run("cat", {args = {}, stdin = "in", user = 0, timeout_ms = 10000}).stdout, "in")`: "",

		`local r = vm:run("sleep 60", {timeout = "50ms"}) eq(r.timed_out, true) eq(r.status, "timed_out")
			eq(r.exit_code, -2)`: "",

		`eq(tostring(vm:run("echo hi")), "RunResult{ status=exited, stdout=<3 bytes>, stderr=<0 bytes> }")`: "",

		`return vm:run("true").no_such`:              "no_such",
		`vm:run("x", {timeout = 1, timeout_ms = 1})`: "opts.timeout and opts.timeout_ms are the same limit (give one)",
		`vm:run("x", {user = ""})`:                   "opts.user is no user name",
		`vm:run("x", {env = 7})`:                     "opts.env must be a table of strings",
		`vm:run("x", {args = {"a\0b"}})`:             "entry 1 holds a NUL byte",
		`vm:run("x", {cwd = "a\0b"})`:                "opts.cwd is no path",
	})
}

func TestBatch(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local out = vm:batch(function(b)
			b:mkdir("/tmp/d") b:write_file("/tmp/d/x", "1") b:read_file("/tmp/d/x") b:stat("/tmp/d/x")
			b:listdir("/tmp/d")
			b:rename("/tmp/d/x", "/tmp/d/y") b:run("echo hi") b:unlink("/tmp/d/y") b:unlink("/tmp/d/y")
		end)
		eq(#out, 9) eq(out[3].ok, "1") eq(out[4].ok.size, 1) eq(out[5].ok[1].name, "x") eq(out[7].ok.stdout, "hi\n")
		eq(out[8].ok, nil) eq(out[8].err, nil) eq(out[9].err:find("ENOENT") ~= nil, true)`: "",
		`vm:batch(function(b) b:syscall(1, {}) end)`: "the table form is not possible in a batch",

		`vm:batch(function(b) b:write_file("/x") end)`: "batch:write_file: argument 2 (data) must be a string, got nil",

		`vm:batch(function(b) b:rename("/x") end)`:         "batch:rename: argument 2 (to)",
		`vm:batch(function(b) b:mkdir("/x", {q = 1}) end)`: "batch:mkdir: unknown option `q`",
	})
}

func TestProcesses(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local p = vm:run_async("echo hi") local r = p:wait() eq(r.stdout, "hi\n") eq(p:status(), "exited")
			eq(math.type(p:handle()), "integer") p:close()`: "",

		`local p = vm:run_async("cat", {}) eq(p:status(), "running") eq(p:pid() > 0, true) eq(p:stdin_write("text"),
			4) p:close_stdin() eq(p:wait("10s").stdout, "text")`: "",

		`local p = vm:run_async("sleep 60") p:kill("kill") local r = p:wait() eq(r.status, "signalled") eq(r.signal,
			9)`: "",

		`local p = vm:run_async("sleep 60") p:kill() eq(p:wait().signal, 15)`: "",

		`local p = vm:run_async("sleep 60") p:signal("SIGUSR1") eq(p:wait().signal, 10)`: "",

		`local p = vm:run_async("sleep 60") p:signal("12") eq(p:wait().signal, 12)`: "",

		`local p = vm:run_async("echo hi") eq(p:stdout_stream():read_until("i"), "hi")
			eq(p:stderr_stream():next("10s"), nil)`: "",

		`vm:run_async("x", {timeout = 1})`:    "opts.timeout is not possible here",
		`vm:run_async("x", {timeout_ms = 1})`: "opts.timeout_ms is not possible here",
		`vm:run_async()`:                      "expects at least a command string",

		`vm:run_async("sleep 1"):wait(0)`: "timeout=0 would SIGKILL the process at once",

		`vm:run_async("sleep 1"):wait("x")`: "proc:wait: argument 1 (timeout): duration: cannot parse `x`",

		`vm:run_async("sleep 1"):signal()`: "proc:signal: signal must be int or string, got nil",

		`vm:run_async("sleep 1"):signal({})`:   "signal must be int or string, got table",
		`vm:run_async("sleep 1"):signal(1.5)`:  "signal must be int or string, got 1.5",
		`vm:run_async("sleep 1"):signal("no")`: "unknown signal name `no`",
		`vm:run_async("sleep 1"):kill(65)`:     "signal must be between 1 and 64, got 65",

		`vm:run_async("sleep 1"):stdin_write(7)`: "proc:stdin_write: argument 1 (data) must be a string",

		`local p = vm:run_async("true") p:close() p:wait()`:               "closed",
		`eq(tostring(vm:run_async("true")):find("process") ~= nil, true)`: "",
	})
}

func TestStreams(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`vm:write_file("/tmp/log", "one\ntwo\n") local s = vm:tail_file("/tmp/log", {start = "beginning"})
		 eq(s:read_until("\n"), "one\n") s:expect("two") eq(s:eof(), false) s:close()`: "",

		`vm:write_file("/tmp/log", "12345") local s = vm:tail_file("/tmp/log", {start = 2}) eq(s:next(), "345")`: "",

		`vm:write_file("/tmp/log", "12345") local s = vm:tail_file("/tmp/log", {start = -2}) eq(s:next(), "45")`: "",

		`vm:write_file("/tmp/log", "12345") local s = vm:tail_file("/tmp/log", {start = 1.0}) eq(s:drain(0.1)[1],
			"2345")`: "",

		`vm:write_file("/tmp/log", "x") eq(#vm:tail_file("/tmp/log"):drain("50ms"), 0)`: "",

		`vm:write_file("/tmp/log", "x") eq(vm:tail_file("/tmp/log"):next("50ms"), nil)`: "",

		`vm:write_file("/tmp/log", "x") local s = vm:tail_file("/tmp/log") local at = s:creation_site() eq(at.line >
			0, true) eq(at.file:match("[^/]+$"), "x.lua")`: "",

		`vm:write_file("/tmp/log", "x") eq(tostring(vm:tail_file("/tmp/log")):match("^stream"), "stream")`: "",

		`vm:tail_file("/tmp/log", {start = "middle"})`: "opts.start = `middle` is no place",

		`vm:tail_file("/tmp/log", {start = 0/0})`: "opts.start must be a finite number",

		`vm:tail_file("/tmp/log", {start = 1e300})`: "opts.start = 1e+300 is out of range",

		`vm:tail_file("/tmp/log", {start = {}})`: "opts.start must be \"beginning\", \"end\" or a byte offset",

		`vm:tail_file("/tmp/log", {begin = 1})`: "unknown option `begin`",

		`vm:tail_file()`: "argument 1 (path) must be a string",

		`vm:write_file("/tmp/log", "x")
			vm:tail_file("/tmp/log"):next("x")`: "stream:next: argument 1 (timeout): duration",

		`vm:write_file("/tmp/log", "x")
			vm:tail_file("/tmp/log"):read_until(7)`: "stream:read_until: argument 1 (pattern) must be a string",

		`vm:write_file("/tmp/log", "job 17 done\njob 18 done\n") local s = vm:tail_file("/tmp/log", {start = 0})
		 local all, text = s:read_until{pattern = "job (%d+)"} eq(all, "job 17") eq(text, "17")
		 eq(select("#", s:expect{pattern = "job %d+"}), 1) eq(s:expect({pattern = "()d(.)"}, "1s"), "do")
		 eq(select("#", s:expect("e")), 0) local all, at, c = s:read_until{pattern = "()(\n)"}
		 eq(all, "\n") eq(at, 1) eq(c, "\n") s:close()`: "",

		`vm:write_file("/tmp/log", "x") vm:tail_file("/tmp/log"):expect{pattern = "(x"}`: "pattern `(x`: " +
			"unfinished capture",
		`vm:write_file("/tmp/log", "x") vm:tail_file("/tmp/log"):expect{}`: "stream:expect: argument 1 has no Lua " +
			"pattern: {pattern=} is missing",
		`vm:write_file("/tmp/log", "x") vm:tail_file("/tmp/log"):expect{pattern = 7}`: "opts.pattern must be a string",
		`vm:write_file("/tmp/log", "x") vm:tail_file("/tmp/log"):expect{text = "x"}`: "unknown " +
			"option `text` (valid: pattern)",

		`vm:write_file("/tmp/log", "x") vm:tail_file("/tmp/log"):expect("y",
			"x")`: "stream:expect: argument 2 (timeout): duration",

		`vm:write_file("/tmp/log", "x")
			vm:tail_file("/tmp/log"):drain("x")`: "stream:drain: argument 1 (timeout): duration",
	})
}

func TestOpenFiles(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local f = vm:open_file("/tmp/f", {read = true, write = true, create = true, perm = 384})
		 eq(f:write("hello"), 5) eq(f:tell(), 5) eq(f:seek(1), 1) eq(f:read(2), "el") eq(f:seek(-1, "end"), 4)
		eq(f:seek(1, "cur"), 5)
		 f:seek(0, "set") eq(f:read_all(), "hello") eq(math.type(f:fd()), "integer") f:close()
		eq(tostring(f), "file(/tmp/f, closed)") eq(vm:open_file_count(), 0)
		 refused("closed", f.read, f, 1)`: "",

		`local f = vm:open_file("/tmp/f", {read = true})`: "ENOENT",

		`vm:open_file("/tmp/f")`: "argument 2 (mode) must be a table such as {read = true}",

		`vm:open_file("/tmp/f", {})`: "the mode needs at least one of read, write, append",

		`vm:open_file("/tmp/f", {red = true})`: "unknown option `red`",

		`vm:open_file("/tmp/f", {read = 1})`: "opts.read must be true or false",

		`vm:open_file("/tmp/f", {write = true, perm = -1})`: "opts.perm must be an integer between 0 and 4095",

		`vm:open_file(7)`: "argument 1 (path) must be a string",

		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			f:read("x")`: "argument 1 (n) must be an integer",

		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			f:read(-1)`: "argument 1 (n) must be between 0 and",

		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			f:write(1)`: "argument 1 (data) must be a string",

		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			f:seek("x")`: "argument 1 (offset) must be an integer",

		`local f = vm:open_file("/tmp/f", {write = true, create = true}) f:seek(0,
			"up")`: "whence must be set/cur/end, got `up`",

		`local f = vm:open_file("/tmp/f", {write = true, create = true}) f:seek(0,
			1)`: "whence must be set/cur/end, got `number`",

		`vm:write_file("/tmp/f", "text") local f = vm:open_file("/tmp/f", {read = true}) eq(f:tail_stream():next(),
			"text")`: "",

		`vm:write_file("/tmp/f", "text") local f = vm:open_file("/tmp/f", {read = true}) eq(vm:fd_stream(f):next(),
			"text")`: "",

		`vm:fd_stream("x")`: "argument 1 (fd_or_file) must be an integer or a file, got string",
		`vm:fd_stream(vm)`:  "argument 1 (fd_or_file) must be an integer or a file",
		`vm:fd_stream(-1)`:  "vm:fd_stream: unknown fd `-1`",
		`vm:fd_stream(0)`:   "vm:fd_stream: unknown fd `0`",
		`vm:fd_stream(1.5)`: "argument 1 (fd) must be a descriptor, got 1.5",

		`vm:fd_stream(9999)`: "vm `n1`: fd_stream: unknown fd `9999`: Bad file descriptor (EBADF",
		`vm:fd_stream(2^32)`: "vm:fd_stream: unknown fd `4294967296`",

		`local f = vm:open_file("/tmp/f", {write = true, create = true}) f:close() vm:fd_stream(f)`: "closed",
	})
}

func TestVMLifeCycle(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`eq(vm:name(), "n1") eq(vm:profile(), "host") eq(vm:state(), "booted") eq(math.type(vm:cid()), "integer")
			eq(vm:is_quiescent(), true) eq(vm:open_stream_count(), 0)`: "",

		`vm:pause() eq(vm:state(), "paused") vm:resume() vm:reset() vm:shutdown() eq(vm:state(), "shutdown")
			vm:close()`: "",

		`eq(vm:power_button(), true) eq(vm:state(), "shutdown")`: "",

		`vm:power_button("x")`: "argument 1 (timeout)",
		`vm:boot({cpus = 0})`:  "opts.cpus must be an integer of at least 1",
		`eq(tostring(vm):match("^vm%(n1 state=booted cid=%d+%)$") ~= nil, true)`: "",
		`local s = vm:snapshot() eq(s:path():match("%.snap$"), ".snap") eq(s:size() > 0, true) eq(tostring(s),
			"snapshot(" .. s:path() .. ")")
		 vm:write_file("/tmp/late", "") vm:shutdown() vm:restore(s) refused("ENOENT", vm.stat, vm, "/tmp/late")
		s:delete()`: "",
		`vm:snapshot("") `:                      "argument 1 (path) must not be empty",
		`vm:shutdown() vm:restore(7)`:           "vm:restore: expected snapshot|string, got number",
		`vm:shutdown() vm:restore(vm)`:          "vm:restore: expected snapshot|string, got vm",
		`vm:shutdown() vm:restore("gone.snap")`: "(tried `/",
		`vm:shutdown() vm:restore("")`:          "argument 1 (path) must not be empty",
		`local f = vm:fork() eq(f:state(), "booted") local l = vm:fork(2) eq(#l, 2) eq(l[1] ~= l[2], true)`: "",
		`vm:fork(0)`:   "argument 1 (n) must be 1 to 256, got 0",
		`vm:fork("x")`: "argument 1 (n) must be an integer, got string",
		`vm:nic("x")`:  "x",
	})
}

func TestPowerButtonIgnored(t *testing.T) {
	h, machines := newHost(t)
	machines.Prepare(func(m *fakemachine.Machine) { m.IgnorePowerButton() })
	s := apitest.New(t, h)
	if err := s.Run(booted + `eq(vm:power_button("50ms"), false)`); err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) != 1 || s.Warnings[0] != "vm `n1` ignored the power button for 0.05s and was stopped hard" {
		t.Errorf("%q", s.Warnings)
	}
}

func TestConsoleAndClock(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local c = vm:console() eq(tostring(c), "console(n1)") eq(type(c:read_log()), "string") c:close()`: "",
		`vm:console():expect("never", "20ms")`:      "never",
		`vm:console():expect("x", "x")`:             "console:expect: argument 2 (timeout): duration",
		`vm:console():write(7)`:                     "console:write: argument 1 (data) must be a string",
		`vm:console():write("x", {timeout_ms = 1})`: "opts.timeout_ms is not supported",
		`vm:console():write("x", {timeout = "x"})`:  "opts.timeout: duration",
		`vm:console():write("x", {time = 1})`:       "unknown option `time`",
		`vm:console():write("x\n", {timeout = 5})`:  "",
		`vm:console():read():close()`:               "",
		`local c = vm:clock() eq(tostring(c), "clock(n1)") c:set(1000)
		 local now = c:get() eq(now >= 1000 and now < 1010, true)
		 c:set_ns(5000000000) eq(c:get_ns() // 1000000000, 5) c:advance("10s") eq(c:get() >= 15, true)
		 c:advance(-10) eq(c:get() < 15, true)
		 c:set(2.5) eq(c:get() >= 2.5, true) c:sleep(0) c:sleep("10ms") c:sync()`: "",
		`vm:clock():advance("1e9h")`: "duration",
		`vm:clock():warp("x")`:       "clock:warp: duration: cannot parse `x`",
		`vm:clock():warp("25h")`:     "vm `n1` is not deterministic, so its time passes as the host's does",
	})
}

func TestConsoleExpect(t *testing.T) {
	h, machines := newHost(t)
	s := apitest.New(t, h)
	if err := s.Run(`vm = provium:vm("n1", "host"):boot()`); err != nil {
		t.Fatal(err)
	}
	machines.Last().Print(false, "hello from the guest\n")
	if err := s.Run(`assert(vm:console():expect("from the") == "from the")`); err != nil {
		t.Error(err)
	}
	machines.Last().Print(false, "\x1b[1mtoken=beef\x1b[0m\r\nlogin: ")
	if err := s.Run(`local text, token = vm:console():expect({pattern = "token=(%x+)"}, "10s")
		assert(text == "token=beef" and token == "beef")
		local ok, err = pcall(vm.console(vm).expect, vm:console(), {pattern = "token=(%x+)"}, 0)
		assert(not ok and err:find("expect timed out waiting for ` + "`token=(%x+)`" + `", 1, true), err)
		vm:console():expect("login: ")
		local lines = vm:console():lines()
		assert(lines[#lines] == "token=beef" and lines[#lines - 1] == "hello from the guest", lines[#lines])`); err != nil {
		t.Error(err)
	}
}

func TestDmesg(t *testing.T) {
	log := `vm:write_file("/dev/kmsg", "<5>[    0.000000] Linux\n<3>[   11.500000] bad\n" ..
		"and more\n<30>[   12.000001] daemon\n")
		`
	apitest.Check(t, host, booted, map[string]string{
		log + `eq(vm:dmesg(), "[    0.000000] Linux\n[   11.500000] bad\nand more\n[   12.000001] daemon\n")`: "",
		log + `eq(vm:dmesg{level = "err"}, "[   11.500000] bad\nand more\n")`:                                 "",
		log + `eq(vm:dmesg{level = "info", since = 11.5000005}, "[   12.000001] daemon\n")`:                   "",
		log + `eq(vm:dmesg{level = "crit", since = "2s"}, "")`:                                                "",

		`vm:write_file("/dev/kmsg", "<5>Linux\n") eq(vm:dmesg(), "Linux\n")
			vm:dmesg{since = 1}`: "vm:dmesg: opts.since " +
			"cannot be applied: the lines of this kernel have no time stamps (printk.time=0)",

		`vm:dmesg()`:              "vm `n1`: dmesg: No such file or directory (ENOENT, os error 2) [errno 2]",
		`vm:dmesg{level = "bad"}`: "opts.level `bad` is unknown (valid: emerg, alert, crit, err, warn, notice, info, ",
		`vm:dmesg{since = -1}`:    "opts.since: duration",
		`vm:dmesg{lines = 5}`:     "unknown option `lines` (valid: level, since)",
	})
}

func TestWorkers(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`local w = vm:spawn_worker() eq(math.type(w:handle()), "integer") eq(w:run("echo hi").stdout, "hi\n")
			eq(tostring(w):find("worker") ~= nil, true) w:close()`: "",

		`local w = vm:spawn_worker() w:kill() w:join()`: "",
		`local w = vm:spawn_worker() w:kill("no")`:      "worker:kill: unknown signal name `no`",
		`vm:spawn_worker({thread = true})`:              "`thread=true` is not yet supported",
		`vm:spawn_worker({thread = 1})`:                 "opts.thread must be true or false",
		`vm:spawn_worker({threads = 1})`:                "unknown option `threads`",

		`local w = vm:spawn_worker() local f = w:open_file("/tmp/f", {write = true, create = true})
			vm:fd_stream(f)`: "belongs to another vm or worker",
	})
}

func TestSyscalls(t *testing.T) {
	withCall := func(t testing.TB) *lab.Host {
		h, machines := newHost(t)
		machines.Prepare(func(m *fakemachine.Machine) {
			m.OnSyscall(39, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) { return 42, 0 })
			m.OnSyscall(2, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) { return -1, 2 })
		})
		return h
	}
	apitest.Check(t, withCall, booted, map[string]string{
		`local r = vm:syscall(39) eq(r.ret, 42) eq(r.result, 42) eq(r.errno, 0) eq(#r.out_bufs, 0)`: "",
		`eq(vm:syscall(39, 1, nil, 3.0).ret, 42)`:                                                   "",

		`local r = vm:syscall(2, {args = {1}, bufs = {"abc", ("x"):rep(8)}, ptrs = {0, 1}, nested = {{parent = 2,
			child = 1, offset = 0}}}) eq(r.errno, 2) eq(#r.out_bufs, 2)`: "",

		`local h = vm:syscall_async(39) eq(h:await().ret, 42)`:      "",
		`local h = vm:syscall_async(39) eq(h:await("10s").ret, 42)`: "",
		`vm:syscall_async(39):await("x")`:                           "handle:await: argument 1 (timeout): duration",
		`vm:syscall_async()`:                                        "vm:syscall_async: missing nr",
		`vm:syscall()`:                                              "vm:syscall: missing nr",
		`vm:syscall("x")`:                                           "nr must be integer, got string",
		`vm:syscall(1.5)`:                                           "nr must be integer, got 1.5",

		`vm:syscall(1, {}, 2)`: "nothing may follow the table form, got 3 arguments",

		`vm:syscall(1, 1, 2, 3, 4, 5, 6, 7)`: "at most 6 arguments are possible, got 7",
		`vm:syscall(1, "x")`:                 "argument 1 must be an integer, got string",
		`vm:syscall(1, {arg = {}})`:          "unknown option `arg`",
		`vm:syscall(1, {args = 1})`:          "opts.args must be an array of integers",

		`vm:syscall(1, {args = {[7] = 1}})`: "opts.args has the key 7: at most 6 arguments are possible",

		`vm:syscall(1, {args = {"x"}})`: "opts.args entry 1 must be an integer, got string",
		`vm:syscall(1, {bufs = 1})`:     "opts.bufs must be an array of strings",

		`vm:syscall(1, {bufs = {1}})`: "opts.bufs must be an array of strings, entry 1 is number",

		`local l = {} for i = 1, 257 do l[i] = "" end vm:syscall(1, {bufs = l})`: "at most 256 are possible",

		`vm:syscall(1, {bufs = {("x"):rep(2^20 + 1)}})`: "entry 1 has 1048577 bytes, at most 1048576 are possible",

		`vm:syscall(1, {ptrs = 1})`: "opts.ptrs must be an array of integers",

		`vm:syscall(1, {ptrs = {x = 1}})`: "opts.ptrs must be an array",

		`vm:syscall(1, {bufs = {"a"}, ptrs = {"x"}})`: "opts.ptrs entry 1 must be an integer, got string",

		`vm:syscall(1, {ptrs = {1}})`: "opts.ptrs entry 1 has no buffer (there are 0)",

		`vm:syscall(1, {bufs = {"a"}, ptrs = {6}})`: "opts.ptrs entry 1 must be a slot from 0 to 5, got 6",

		`vm:syscall(1, {nested = 1})`: "opts.nested must be an array of {parent=, child=, offset=}",

		`vm:syscall(1, {nested = {x = 1}})`: "opts.nested must be an array",

		`vm:syscall(1, {nested = {1}})`: "opts.nested entry 1 must be {parent=, child=, offset=}, got number",

		`vm:syscall(1, {bufs = {"a"}, nested = {{parent = 1}}})`: "entry 1: child must be an integer, got nil",

		`vm:syscall(1, {bufs = {"a"}, nested = {{parent = 2, child = 1, offset = 0}}})`: "buffer from 1 to 1, got 2",

		`vm:syscall(1, {bufs = {"a"}, nested = {{parent = 1, child = 1, offset = 0}}})`: "in buffer 1 of 1 bytes",

		`local l = {} for i = 1, 4097 do l[i] = {} end vm:syscall(1, {nested = l})`: "at most 4096 are possible",

		`vm:syscall(1, {bufs = {("a"):rep(8), "abc"}, nested = {{parent = 1, child = 2, offset = 0, child_offset = 3}}})
			vm:syscall(1, {bufs = {("a"):rep(8), "abc"},
				nested = {{parent = 1, child = 2, offset = 0, child_offset = 4}}})`: "opts.nested " +
			"entry 1: child_offset must be from 0 to 3, the size of buffer 2, got 4",
		`vm:syscall(1, {bufs = {("a"):rep(8)}, nested = {{parent = 1, child = 1, offset = 0,
			child_offset = "x"}}})`: "child_offset " +
			"must be an integer, got string",
		`vm:syscall(1, {bufs = {("a"):rep(8)}, nested = {{parent = 1, child = 1, offset = 0,
			child_ofset = 1}}})`: "opts.nested " +
			"entry 1: unknown option `child_ofset` (valid: parent, child, offset, child_offset)",

		`vm:write_mem("x", "")`:                "vm:write_mem: argument 1 (addr) must be an integer",
		`vm:write_mem(1, 2)`:                   "vm:write_mem: argument 2 (bytes) must be a string",
		`vm:write_mem(1, ("x"):rep(2^22 + 1))`: "argument 2 (bytes) has 4194305 bytes, at most 4194304 are possible",
		`local ok, errno = vm:write_mem(4096, "abc") eq(ok, nil) eq(errno, 38) -- of the fake machine
			local ok, errno = vm:spawn_worker():write_mem(4096, "abc") eq(ok, nil) eq(errno, 38)`: "",

		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			vm:ioctl(f, 1)`: "vm:ioctl: fd must be integer, " +
			"got a file: its descriptor is file:fd()",
		`local f = vm:open_file("/tmp/f", {write = true, create = true})
			vm:syscall(0, f)`: "argument 1 must be an integer, " +
			"got a file: its descriptor is file:fd()",

		`vm:read_mem("x", 1)`: "argument 1 (addr) must be an integer",

		`vm:read_mem(1, "x")`: "argument 2 (len) must be an integer",

		`vm:read_mem(1, -1)`: "argument 2 (len) must be between 0 and 4194304, got -1",

		`vm:ioctl()`:  "vm:ioctl: missing fd",
		`vm:ioctl(1)`: "vm:ioctl: missing cmd",

		`vm:ioctl("x", 1)`: "fd must be integer, got string",

		`vm:ioctl(1, 2, 3)`: "argument 3 (data) must be a string",

		`vm:ioctl(1, 2, ("x"):rep(2^20 + 1))`: "argument 3 (data) has 1048577 bytes",

		`vm:ioctl(1, 2, "x", {buf = 1})`: "unknown option `buf`",

		`vm:ioctl(1, 2, "x", {bufs = 1})`: "opts.bufs must be an array of strings",

		`vm:ioctl(1, 2, "x", {ptr_offsets = {1}})`: "opts.ptr_offsets entry 1 has no buffer (there are 0)",

		`vm:ioctl(1, 2, "x", {bufs = {"a"}, ptr_offsets = {0}})`: "0 leaves no room for 8 bytes in data of 1 bytes",

		`vm:ioctl(1, 2, "x", {bufs = {"a"}, ptr_offsets = {"x"}})`: "opts.ptr_offsets entry 1 must be an integer",

		`local l = {} for i = 1, 256 do l[i] = "" end vm:ioctl(1, 2, "x", {bufs = l})`: "are possible beside data",

		`local out = vm:batch(function(b) b:syscall(39) end) eq(out[1].ok.ret, 42)`: "",
	})
}

func TestIoctlAndMemory(t *testing.T) {
	h, machines := newHost(t)
	machines.Prepare(func(m *fakemachine.Machine) {
		for _, nr := range []int64{16, 310} { // ioctl, process_vm_readv
			m.OnSyscall(nr, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) { return 0, 0 })
		}
	})
	s := apitest.New(t, h)
	if err := s.Run(booted + `
		local r = vm:ioctl(1, 2, "12345678", {bufs = {"a"}, ptr_offsets = {0}})
		eq(r.ret, 0) eq(#r.out_data, 8) eq(#r.out_bufs, 1)
		eq(vm:ioctl(1, 2).out_data, "")
	`); err != nil {
		t.Error(err)
	}
}

func TestLabs(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(booted + `
		local sub = provium:lab("sub")
		eq(provium.sub, sub) eq(sub:name(), "sub") eq(tostring(sub), "lab(sub)") eq(tostring(provium), "lab(provium)")
		eq(provium:sub_lab_names()[1], "sub") eq(provium:vm_names()[1], "n1")
		sub:include(vm) sub:include{}
		local members = provium:members()
		eq(#members, 2) eq(members[1].kind, "vm") eq(members[1].name, "n1") eq(members[2].kind, "sub_lab")
		sub:remove(vm) eq(sub.n1, nil)
		sub:vm("x", "host") sub:boot() eq(sub.x:state(), "booted")
		sub:pause() eq(sub.x:state(), "paused") sub:resume() sub:shutdown() eq(sub.x:state(), "shutdown")
		sub:remove("x")
		eq(provium.no_such, nil) eq(provium[7], nil)
		local anon = provium:lab()
		eq(provium:claim{memory = "1G", cpus = 2}, nil) sub:claim{memory_bytes = 4096}
		sub:barrier("b", 3, "5s") eq(provium:barrier("b", 1), true)
		provium.timeout = 5 eq(provium.timeout, 5)
		refused("lab ` + "`sub`" + `: cannot assign ` + "`timeout`" + ` (settings are assigned on provium: timeout, reset_between_tests)",
			function() sub.timeout = 1 end)
		eq(provium.pack("<i2", 1), "\1\0") eq((provium:unpack("<i2", "\1\0")), 1) eq((sub:unpack("<i2", "\2\0")), 2)
	`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{strings.Join(s.Claims, "; "), "provium 1073741824 2; sub 4096 0"},
		{strings.Join(s.Barriers, "; "), "sub b 3 5s; provium b 1 1m0s"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if len(s.Touched) == 0 {
		t.Error("the operations of a lab concern its VMs")
	}
}

func TestLabArguments(t *testing.T) {
	apitest.Check(t, host, "", map[string]string{
		`provium:vm()`:                                  "argument 1 (name) must be a string, got nil",
		`provium:vm("x")`:                               "no vm named `x`",
		`provium:vm("x", nil, {})`:                      "argument 2 (profile) must be a string, got nil",
		`provium:vm("x", 7)`:                            "argument 2 (profile) must be a string, got number",
		`provium:vm("x", "host", {cpus = 0})`:           "opts.cpus must be an integer of at least 1",
		`provium:vm("a.b", "host")`:                     "not valid",
		`provium:lab("")`:                               "argument 1 (name) must not be empty",
		`provium:lab(1)`:                                "argument 1 (name) must be a string",
		`provium:lab("a b")`:                            "not valid",
		`provium:include()`:                             "expected a userdata (vm, bridge or lab), got nil",
		`provium:include({x = 1})`:                      "argument 1 must be an array, it has the key `x`",
		`provium:remove()`:                              "expected a name, a vm, a bridge or a lab, got nil",
		`provium:claim({})`:                             "nothing is claimed",
		`provium:claim(7)`:                              "argument 1 (opts) must be a table",
		`provium:claim({memory = 1, memory_bytes = 1})`: "opts.memory and opts.memory_bytes are the same",
		`provium:claim({memory_bytes = "1G"})`:          "memory_bytes must be an integer, got string",
		`provium:claim({memory = "x"})`:                 "memory: cannot parse size",
		`provium:claim({cpus = 0})`:                     "opts.cpus must be an integer of at least 1, got 0",
		`provium:claim({cpus = "x"})`:                   "opts.cpus must be an integer",
		`provium:barrier()`:                             "argument 1 (name) must be a string",
		`provium:barrier("b", 2, 0)`:                    "argument 3 (timeout) must be above 0",
		`provium:restore()`:                             "lab:restore: expected snapshot|string, got nil",
		`provium:restore(provium)`:                      "lab:restore: expected snapshot|string, got lab",
		`provium:restore("")`:                           "argument 1 (dir) must not be empty",
		`provium:restore("gone")`:                       "(tried `/",
		`provium:snapshot("")`:                          "argument 1 (dir) must not be empty",
		`provium.vm_fixture()`:                          "lab:vm_fixture: argument 1 (name) must be a string, got nil",
		`provium:lab_fixture("")`:                       "lab:lab_fixture: argument 1 (name) must not be empty",
		`provium.pack("y")`:                             "invalid format option 'y'",
		`provium.boot()`:                                "call it with ':'",
	})
}

func TestLabSnapshots(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(booted + `
		local s = provium:snapshot()
		eq(s:size() > 0, true) eq(tostring(s), "lab_snapshot(" .. s:path() .. ")")
		vm:write_file("/tmp/late", "") provium:restore(s) refused("ENOENT", vm.stat, vm, "/tmp/late") s:delete()
		local dir = "` + filepath.Join(t.TempDir(), "lab") + `"
		eq(provium:snapshot(dir), dir) provium:restore(dir)
		local sub = provium:lab("sub") sub:vm("x", "host"):boot()
		local fork = sub:fork() eq(fork ~= sub, true) eq(fork.x:state(), "booted")
	`); err != nil {
		t.Fatal(err)
	}
}

// The names that a fixture function gets, and the labs that it restores into.
func TestFixtures(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(booted + `
		vm:snapshot("` + filepath.Join(s.Dir, "one") + `")
		provium:snapshot("` + filepath.Join(s.Dir, "pair") + `")
		local a, b = provium:lab("a"), provium:lab("b")
		local f = a.vm_fixture
		local first = f(b, "one")
		eq(first:name(), "box") eq(b.box, first) eq(a.box, nil)
		eq(f("one"), a.box) eq(b:vm_names()[2], nil)
		eq(a:vm_fixture("one") ~= first, true)
		eq(provium:lab_fixture("pair").n1:state(), "booted")
		refused("box", provium.vm_fixture, provium, "pair")
		refused("gone", provium.lab_fixture, provium, "gone")
	`); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Fixtures, " "); !strings.HasPrefix(got, "one one one") {
		t.Error(got)
	}
}

// What belongs to a scope that has ended is refused, and so is what runs outside of tests.
func TestEndedAndIdle(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(`sub = provium:lab("sub") vm = provium:vm("n1", "host"):boot()`); err != nil {
		t.Fatal(err)
	}
	sub := s.State.Global("sub").(*lua.Userdata).Object()
	s.Gone[sub] = "test `it`"
	for source, want := range map[string]string{
		`sub:vm("x", "host")`: "lab:vm: lab `sub` belongs to test `it`, which has ended",
		`sub.vm_fixture("x")`: "lab:vm_fixture: lab `sub` belongs to test `it`, which has ended",
		`return sub:name()`:   "",
	} {
		err := s.Run(source)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", source, err)
		}
	}
	s.Idle = true
	if err := s.Run(`vm:pause()`); err == nil || !strings.Contains(err.Error(), "no test is running") {
		t.Error(err)
	}
}

func TestBootOptions(t *testing.T) {
	apitest.Check(t, host, "", map[string]string{
		`provium:vm("x", "host", {initial_time = "x"})`: "opts.initial_time: expected number",

		`provium:vm("x", "host", {initial_time = 1e300})`: "opts.initial_time: 1e+300 is out of range",

		`provium:vm("x", "host", {initial_time = 1/0})`: "opts.initial_time: NaN/inf not allowed",

		`provium:vm("x", "host", {agent_timeout = "x"})`: "opts.agent_timeout: expected a positive number of seconds",

		`provium:vm("x", "host", {rng_seed = "x"})`: "opts.rng_seed must be an integer",

		`provium:vm("x", "host", {memory = "x"})`: "opts.memory: cannot parse size",

		`provium:vm("x", "host", {cold = 1})`: "opts.cold must be true or false",

		`provium:vm("x", "host", {kernel_cmdline = "a\nb"})`: "opts.kernel_cmdline holds a NUL or a line break",

		`provium:vm("x", "host", {kernel_cmdline_append = 1})`: "opts.kernel_cmdline_append must be a string",

		`provium:vm("x", "host", {files = 1})`: "opts.files must be an array of {path=, content=}",

		`provium:vm("x", "host", {files = {x = 1}})`: "opts.files must be an array",

		`provium:vm("x", "host", {files = {1}})`: "opts.files[1] must be a table {path=, content=}, got number",

		`provium:vm("x", "host", {files = {{path = 1}}})`: "opts.files[1]: path must be a string",

		`provium:vm("x", "host", {files = {{path = "/a", content = 1}}})`: "opts.files[1]: content must be a string",

		`provium:vm("x", "host", {files = {{path = "/a", content = "", mode =
			"x"}}})`: "opts.files[1]: mode must be an integer",

		`provium:vm("x", "host", {files = {{path = "/a", content = "", p = 1}}})`: "opts.files[1]: unknown option `p`",

		`provium:vm("x", "host", {disks = 1})`: "opts.disks must be an array of tables",

		`provium:vm("x", "host", {memory = "512M", cpus = 2, rng_seed = 7, cold = true, kernel_cmdline =
			"quiet", kernel_cmdline_append = "a=1",
			initial_time = 1000, agent_timeout = "60s", files = {{path = "/etc/x", content = "1", mode =
			384}}}):boot()`: "",
	})
}
