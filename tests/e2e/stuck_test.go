package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// TestStuckFiles has files that end in every way but a good one: each is ended
// and reported, and none disturbs the others.
func TestStuckFiles(t *testing.T) {
	p := newProject(t, hostProfile)
	p.write("tests/popen.test.lua", `
test("before", function() end)
test("popen", function() io.popen("sleep 86399"):read("a") end)
test("after", function() end)
`)
	p.write("tests/find.test.lua", `
test("find", function() string.find(("a"):rep(40), ("a*"):rep(30) .. "b") end)
`)
	p.write("tests/loop.test.lua", `
test("loop", function() while true do pcall(function() while true do end end) end end)
`)
	p.write("tests/chunk.test.lua", "test('x', function() end)\nwhile true do end\n")
	p.write("tests/crash.test.lua", `
test("first", function() end)
test("second", function()
  io.popen("kill -SEGV $PPID"):close()
  while true do end
end)
test("third", function() end)
`)
	p.write("tests/limited.test.lua", `
test("short", {timeout = 0.1}, function()
  while true do end
end)
test("next", function() end)
`)
	p.write("tests/fine.test.lua", "test('fine', function() end)\n")
	r := p.run("--timeout", "2", "--json")
	r.expect(1, "7 file(s)", "popen"+givenUp)
	files := r.files()
	// What is expected of each test: its status and a part of its message.
	type result struct{ status, message string }
	const limit, cutOff = "the file's limit of 2s (--timeout) has passed", "not run: the file's limit"
	for path, want := range map[string]struct {
		timeout string
		tests   map[string]result
	}{
		"tests/popen.test.lua": {"timed_out", map[string]result{"before": {"passed", ""}, "popen": {"failed", limit},
			"after": {"skipped", cutOff}}},
		"tests/find.test.lua":  {"timed_out", map[string]result{"find": {"failed", limit}}},
		"tests/loop.test.lua":  {"timed_out", map[string]result{"loop": {"failed", limit}}},
		"tests/chunk.test.lua": {"timed_out", nil},
		"tests/crash.test.lua": {"in_time", map[string]result{"first": {"passed", ""},
			"second": {"failed", "runner ended"}, "third": {"failed", "failed-due-to-poisoned-state"}}},
		"tests/limited.test.lua": {"in_time", map[string]result{
			"short": {"failed", "timed out after 0.1s"}, "next": {"passed", ""}}},
		"tests/fine.test.lua": {"in_time", map[string]result{"fine": {"passed", ""}}},
	} {
		f, ok := files[path]
		if !ok {
			t.Errorf("%s was not reported", path)
			continue
		}
		if f.Timeout != want.timeout || len(f.Tests) != len(want.tests) && want.tests != nil ||
			f.Passed != (path == "tests/fine.test.lua") {
			t.Errorf("%s: %+v", path, f)
		}
		for _, got := range f.Tests {
			w := want.tests[got.Name]
			message := ""
			if got.Message != nil {
				message = *got.Message
			}
			if want.tests != nil && (got.Status != w.status || !strings.Contains(message, w.message)) {
				t.Errorf("%s: test %q is %s: %q, want %+v", path, got.Name, got.Status, message, w)
			}
		}
	}
}

// TestInterruptTwice gives up on a file that does not end when asked to, before the run does so by itself.
func TestInterruptTwice(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `test("stuck", function() os.execute("echo ready; exec sleep 86399") end)`)
	r := p.start()
	r.await("ready")
	r.signal(syscall.SIGINT)
	r.awaitNote("once more kills it")
	r.signal(syscall.SIGINT)
	r.wait().expect(1)
	if strings.Contains(r.stdout.String(), "1 file(s)") {
		t.Errorf("the summary was printed\n%s", r.report())
	}
	if strings.Contains(r.stderr.String(), givenUp) {
		t.Errorf("the second signal has killed nothing\n%s", r.report())
	}
}

// givenUp is what a run says of a file that it kills since it does not end as asked.
const givenUp = ".test.lua: it does not end as asked, and is killed"

func TestInterruptedBuild(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile+`
[profiles.slow]
build = "echo begun >begun.new; mv begun.new begun; sleep 86399"
`)
	p.write("tests/a.test.lua", "print('ran')\n")
	r := p.start()
	p.awaitFile("begun")
	r.signal(syscall.SIGINT)
	r.wait().expect(1, "interrupted")
	if strings.Contains(r.stdout.String(), "ran") {
		t.Errorf("a file ran\n%s", r.report())
	}
}

// TestLimitsEndCommandsOfTheHost has tests wait for commands of the host: each fails at its limit, the command with
// what it has started is gone, another one goes on until the file ends, and the next test runs.
func TestLimitsEndCommandsOfTheHost(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
other = io.popen("echo other; sleep 86391; echo never", "r")
local function limited(name, fn)
  test(name, {timeout = 1}, fn)
  test("behind " .. name, function(t)
    t:assert(not os.execute("pgrep -f 'sleep 8639[2-9]' -s $(ps -o sess= -p $PPID) >/dev/null"))
  end)
end
limited("execute", function() os.execute("sleep 86392; true") end)
limited("again and again", function() while true do pcall(os.execute, "sleep 86393") end end)
limited("popen", function() io.popen("(sleep 86394; true) | cat"):read("a") end)
limited("new ones", function() while true do pcall(function() io.popen("sleep 86396"):read("a") end) end end)
limited("close", function() local f <close> = io.popen("sleep 86395", "w") while true do end end)
test("the other one goes on", function(t) t:assert_eq(other:read(), "other") end)
`)
	r := p.run("--json")
	r.expect(1, "tests/a.test.lua", "`sleep 86392; true` is killed, since what waits for it has to end")
	for _, f := range r.files() {
		for _, got := range f.Tests {
			wants := "passed"
			switch got.Name {
			case "execute", "again and again", "popen", "new ones", "close":
				wants = "failed"
			}
			if got.Status != wants || wants == "failed" && !strings.Contains(*got.Message, "timed out after 1s") {
				t.Errorf("%s: %s\n%s", got.Name, got.Status, r.report())
			}
		}
	}
}
