package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watchedProject has three test files, of which one requires a helper, one restores a fixture,
// and one reads a file.
func watchedProject(t *testing.T) *project {
	p := newProject(t, hostProfile)
	p.write("tests/helper.lua", "return 1")
	p.write("tests/base.fixture.lua", "return provium:vm('box', 'host'):boot():snapshot()")
	p.write("data/list.lua", "return {1}")
	p.write("tests/a.test.lua", "local n = require('helper')\ntest('a', function(t) t:assert_eq(n, 1) end)\n")
	p.write("tests/b.test.lua", "test('b', function(t) provium:vm_fixture('base') end)\n")
	p.write("tests/c.test.lua", "local list = dofile('data/list.lua')\n"+
		"test('c', function(t) t:assert_eq(#list, 1) end)\n")
	return p
}

// iteration reads the results of one iteration and returns the paths of the files that ran.
func (r *run) iteration() string {
	r.p.t.Helper()
	var paths []string
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.p.t.Fatalf("no summary: %v\n%s", err, r.report())
		}
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, " file(s); "):
			return strings.Join(paths, " ")
		case len(fields) > 2 && !strings.HasPrefix(line, " ") && strings.HasPrefix(fields[1], "tests/") &&
			strings.HasPrefix(fields[2], "("):
			name := strings.TrimSuffix(strings.TrimPrefix(fields[1], "tests/"), ".test.lua")
			paths = append(paths, fields[0]+" "+name)
		}
	}
}

// awaitWaits waits until a run has waited for changes so often.
func (r *run) awaitWaits(n int) {
	r.p.t.Helper()
	for {
		have, more := r.stderr.next()
		if strings.Count(have, "provium: waiting for changes") >= n {
			return
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			r.p.t.Fatalf("it does not wait %d times\n%s", n, r.report())
		}
	}
}

// TestWatch changes all kinds of files.
func TestWatch(t *testing.T) {
	t.Parallel()
	p := watchedProject(t)
	events := filepath.Join(p.dir, "events")
	r := p.start("--watch", "--vmm", "local", "-j", "1", "--rerun-failed", "--save-events", events)
	if got := r.iteration(); got != "PASS a PASS b PASS c" {
		t.Fatalf("first: %s", got)
	}
	n := 1
	for _, step := range []struct{ what, path, text, want string }{
		{"a helper", "tests/helper.lua", "return 2", "FAIL a"},
		{"a fixture", "tests/base.fixture.lua", "return provium:vm('other', 'host'):boot():snapshot()", "PASS b"},
		{"a file of the host", "data/list.lua", "return {1, 2}", "FAIL c"},
		{"a test", "tests/c.test.lua", "test('c', function() end)", "PASS c"},
		{"a new test", "tests/below/d.test.lua", "test('d', function() require('later') end)", "FAIL below/d"},
		{"a helper that was missing", "tests/later.lua", "return 1", "PASS below/d"},
		{"the configuration", "provium.toml", hostProfile + "# changed\n", "FAIL a PASS b PASS below/d PASS c"},
	} {
		r.awaitWaits(n)
		n++
		p.write(step.path, step.text)
		if got := r.iteration(); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	// Each iteration begins the file of events anew.
	r.awaitWaits(n)
	p.run("report", events).expect(0, "4 file(s); 3 passed, 1 failed, 0 skipped; ")
	// Neither a removed test nor a file that nobody uses is a reason.
	for _, path := range []string{"tests/below/d.test.lua", "tests/c.test.lua"} {
		if err := os.Remove(filepath.Join(p.dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	p.write("tests/notes.txt", "")
	p.write("tests/helper.lua", "return 1")
	if got := r.iteration(); got != "PASS a" {
		t.Errorf("a helper: %s", got)
	}
	r.awaitWaits(n + 1)
	p.write("provium.toml", "broken")
	r.awaitNote("provium: parse `")
	r.awaitWaits(n + 2)
	p.write("provium.toml", hostProfile)
	if got := r.iteration(); got != "PASS a PASS b" {
		t.Errorf("a configuration that was mended: %s", got)
	}
	r.awaitWaits(n + 3)
	r.signal(syscall.SIGINT)
	r.wait().expect(0)
}

// TestWatchEmptySelection waits for a first test. Its exit code is that of the last result.
func TestWatchEmptySelection(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	if err := os.Mkdir(filepath.Join(p.dir, "tests"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(p.temp, "socket")
	r := p.start("--watch", "--vmm", "local", "--events-socket", socket, "--events-format", "jsonl")
	r.awaitWaits(1)
	reader, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var got watched
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := reader.Read(buf)
			_, _ = got.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	for i := range 2 { // the socket stays
		p.write("tests/a.test.lua", fmt.Sprintf("test('a', function(t) t:fail('%d') end)", i))
		if got := r.iteration(); got != "FAIL a" {
			t.Errorf("%d: %s", i, got)
		}
		r.awaitWaits(i + 2)
	}
	for { // what was sent before the end is read
		text, more := got.next()
		if strings.Count(text, `"run_completed"`) == 2 {
			break
		}
		select {
		case <-more:
		case <-time.After(shownWithin):
			t.Fatalf("the reader got %s", text)
		}
	}
	r.signal(syscall.SIGINT)
	r.wait().expect(1)
}

// TestWatchWritesWhatItUses has a test write a file that it reads.
func TestWatchWritesWhatItUses(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("data.txt", "")
	p.write("tests/a.test.lua", `
test("writes", function(t)
  local f <close> = io.open("data.txt", "w")
  f:write(os.time(), math.random())
  f:close()
  for line in io.lines("data.txt") do t:assert(#line > 0) end
end)`)
	r := p.start("--watch", "--vmm", "local")
	r.awaitWaits(1) // after one more run
	p.write("data.txt", "of a person")
	r.awaitWaits(2)
	r.signal(syscall.SIGTERM)
	r.wait()
	want := 0
	if strings.Contains(r.stdout.String(), "INTR tests/a.test.lua") {
		want = 1 // it was in the middle of the one more run
	}
	if n := strings.Count(r.stdout.String(), " file(s); "); r.code != want || n > 4 {
		t.Errorf("exit code %d, want %d, %d runs\n%s", r.code, want, n, r.report())
	}
}

// TestWatchKeys types.
func TestWatchKeys(t *testing.T) {
	t.Parallel()
	p := watchedProject(t)
	p.write("tests/helper.lua", "return 2")
	s := p.inTmux(130, 40, "trap : INT; "+p.bin+" --watch --vmm local; echo code $?; stty -a | tr ' ;' '\\n\\n' | "+
		"grep -x -e '-\\?icanon' -e '-\\?echo'")
	const waiting = "provium: waiting for changes; keys: r runs all, f what has failed, / filters by path, q quits"
	step := func(summaries int, texts ...string) {
		t.Helper()
		s.await(fmt.Sprintf("%d summaries and %q", summaries, texts), func(screen string) bool {
			for _, text := range texts {
				if !strings.Contains(screen, text) {
					return false
				}
			}
			lines := last(screen, 1)
			return strings.Count(screen, " file(s); ") == summaries && strings.HasPrefix(lines[0], waiting)
		})
		s.do("clear-history")
	}
	step(1, "3 file(s); 2 passed, 1 failed")
	s.do("send-keys", "f")
	step(2, "1 file(s); 0 passed, 1 failed")
	s.do("send-keys", "/")
	s.awaitText("\nfilter:")
	s.do("send-keys", "b.test", "Enter")
	step(3, "1 file(s); 1 passed, 0 failed", "q quits (filter: b.test)")
	s.do("send-keys", "/")
	s.await("the filter again", func(screen string) bool { // the first one is shown, too
		return strings.HasPrefix(last(screen, 1)[0], "filter: b.test")
	})
	s.do("send-keys", "C-c")
	step(3)
	s.do("send-keys", "r")
	step(4)
	s.do("send-keys", "q")
	s.awaitText("code 0\nicanon\necho")

	s = p.inTmux(130, 40, "trap : INT; "+p.bin+" --watch --vmm local; echo code $?")
	step(1, "3 file(s); 2 passed, 1 failed")
	s.do("send-keys", "C-c")
	s.awaitText("code 1")
}

// TestWatchIsExclusive refuses flags that make no sense together.
func TestWatchIsExclusive(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	for _, flags := range [][]string{{"--repeat", "2"}, {"--until-fail"}, {"--pause-on-failure"}} {
		p.run(append(flags, "--watch")...).expect(2, "--watch and "+flags[0]+" exclude each other")
	}
	p.run("--watch", "missing").expect(2, "no such file or directory: `missing`")
}
