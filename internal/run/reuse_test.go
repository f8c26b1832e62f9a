package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/run/workers"
)

// pidLine is Lua that writes the process id of the runner to a file of the test's name.
const pidLine = `
local function note(dir, name)
  local pid = io.open("/proc/self/stat"):read("n")
  local f = assert(io.open(dir .. "/" .. name, "w"))
  f:write(string.format("%d", pid))
  f:close()
end
`

// TestProcessesRunSeveralFiles runs files one after the other. A process that something is left of, or whose file did
// not end in good order, runs no other file.
func TestProcessesRunSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, more string) string {
		return pidLine + fmt.Sprintf("note(%q, %q)\n", dir, name) + more
	}
	l := newLocalRun(t, "", map[string]string{
		"a": file("a", `print("this is a"); io.write("no end"); test("x", function() os.setlocale("C.UTF-8") end)`),
		"b": file("b", `assert(os.setlocale(nil, "all") == "C"); test("x", function() error("it fails") end)`),
		"c": file("c", `os.execute("(setsid sleep 1000 & echo $! > `+dir+`/left) >/dev/null 2>&1")
			test("x", function() end)`),
		"d": file("d", `test("x", function() os.execute("kill -KILL $PPID") end)`),
		"e": file("e", `test("x", function() end)`),
		"f": file("f", `error("nothing here")`),
		"g": file("g", `test("x", function() end)`),
	})
	l.o.Jobs = 1
	if code, err := l.run(); code != ExitFailed || err != nil {
		t.Fatal(code, err, l.stderr)
	}
	pid := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "left"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pid[name] = strings.TrimSpace(string(text))
	}
	for pair, same := range map[string]bool{"ab": true, "bc": true, "cd": false, "de": false, "ef": true, "fg": true} {
		if (pid[pair[:1]] == pid[pair[1:]]) != same {
			t.Errorf("%s and %s of %v: want the same process: %t", pair[:1], pair[1:], pid, same)
		}
	}
	if _, err := os.Stat("/proc/" + pid["left"]); err == nil {
		t.Error("what a file has left still runs")
	}
	for _, e := range l.events {
		if e, ok := e.(event.TestFailed); ok && strings.Contains(e.Reason, "no end") {
			t.Errorf("%s has the output of another file: %s", e.Path, e.Reason)
		}
	}
	if at := strings.Index(l.stderr, "this is a\nno end"); at < 0 {
		t.Errorf("what a file prints is lost: %s", l.stderr)
	}
}

// TestFileThatEndsItsProcessRunsOnce has a file kill a process that has run another file before it has said anything.
func TestFileThatEndsItsProcessRunsOnce(t *testing.T) {
	dir := t.TempDir()
	l := newLocalRun(t, "", map[string]string{
		"a": `test("x", function() end)`,
		"b": pidLine + fmt.Sprintf(`
if io.open(%[1]q) then note(%[2]q, "twice") end
io.open(%[1]q, "w"):close()
os.execute("kill -KILL $PPID")`, filepath.Join(dir, "once"), dir),
	})
	l.o.Jobs = 1
	if code, err := l.run(); code != ExitFailed || err != nil {
		t.Fatal(code, err, l.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "once")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "twice")); err == nil {
		t.Error("the file has run twice")
	}
}

// TestWorkerThatHasEnded has a process end while it waits for another file: the file gets another process.
func TestWorkerThatHasEnded(t *testing.T) {
	idle := &workers.Kept{}
	defer idle.Close()
	for _, behaviour := range []string{"leaves", "pass"} {
		r := newFakeRun(t, behaviour)
		r.idle = idle
		got := describeResult(r.run(nil, nil, nil))
		if got != "passed; a passed ; b passed " {
			t.Errorf("%s: %s", behaviour, got)
		}
		checkPairs(t, r.events)
	}
}

// TestStopOfAFileThatIsOver has a stop come while a process says that it may run another file: it is not kept.
func TestStopOfAFileThatIsOver(t *testing.T) {
	idle := &workers.Kept{}
	defer idle.Close()
	stop := make(chan struct{})
	close(stop)
	r := newFakeRun(t, "stays")
	r.idle = idle
	got := r.run(stop, nil, &stopNow{Reason: "interrupted", Status: string(report.FileInterrupted)})
	if got.Status != report.FileInterrupted || idle.Take(nil) != nil {
		t.Errorf("%+v", got)
	}
}
