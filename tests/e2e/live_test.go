package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// waitingFiles are two files which go on when there is a file `go`.
func waitingFiles(p *project) {
	const wait = "while not io.open('go') do os.execute('sleep 0.2') end"
	p.write("tests/a.test.lua", `
test("passes", function() end)
test("fails", function(t) t:fail("as wished") end)
test("waits", function() `+wait+` end)
`)
	p.write("tests/b.test.lua", `
io.write("loaded\n") io.flush()
test("waits, too", function() `+wait+` end)
`)
}

// seconds stands for a duration in a status area.
var seconds = regexp.MustCompile(` +[0-9:]+s?$`)

// TestLive watches a run as a person does.
func TestLive(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	s := p.inTmux(90, 24, "stty intr '^C'; "+p.bin+" --vmm local; echo code $?; stty -a | tr ' ;' '\\n\\n' | "+
		"grep -x -e '-\\?icanon' -e '-\\?echo'")
	// A failure is shown when it happens, above what runs.
	s.awaitText("FAIL tests/a.test.lua: fails (", "tests/a.test.lua:3: as wished", "\nloaded\n",
		"\n0 of 2 files, 0 failed | 2 running, 0 left", "\n  tests/a.test.lua > waits ",
		"\n  tests/b.test.lua > waits, too ")
	s.do("send-keys", "C-t")
	s.awaitText("provium: 0 of 2 files, 0 failed, 2 running, 0 left, ",
		"  tests/a.test.lua: 1 passed, 1 failed, 0 skipped, 0 guests, ", "    test `waits` (tests/a.test.lua:4), ",
		"    test `waits, too` (tests/b.test.lua:3), ")

	for _, size := range []struct{ cols, rows string }{{"44", "24"}, {"44", "8"}, {"100", "30"}, {"18", "5"},
		{"90", "24"}} {
		s.do("resize-window", "-x", size.cols, "-y", size.rows)
		s.await("one status area at "+size.cols+"x"+size.rows, func(screen string) bool {
			lines := last(screen, 3)
			if size.rows == "5" { // only the counts, as far as there is room for them
				lines = last(screen, 1)
				return lines[0] == "0 of 2 files, 0 f"
			}
			if strings.HasPrefix(lines[2], "pool ") {
				lines = last(screen, 4)
			}
			rest := seconds.ReplaceAllString(lines[1], "") + seconds.ReplaceAllString(lines[2], "")
			return strings.HasPrefix(lines[0], "0 of 2 files, 0 failed") && strings.Contains(rest,
				"  tests/a.test.lua > waits") && strings.Contains(rest, "  tests/b.test.lua > waits, too") &&
				strings.Count(screen, "0 of 2 files, 0 failed |") == 1
		})
	}
	p.write("go", "")
	screen := s.awaitText("code 1\nicanon\necho")
	for _, text := range []string{"FAIL tests/a.test.lua (2 passed, 1 failed, 0 skipped)",
		"failed:\n    tests/a.test.lua: fails\n",
		"1 of 2 files failed (1 test failed)\n2 file(s); 3 passed, 1 failed, 0 skipped; "} {
		if !strings.Contains(screen, text) {
			t.Errorf("the last screen lacks %q\n%s", text, screen)
		}
	}
	if strings.Contains(screen, " running, ") && !strings.Contains(screen, "provium: 0 of 2") ||
		strings.Contains(screen, "\n  tests/") && strings.Contains(last(screen, 6)[0], " > ") {
		t.Errorf("the status area is left\n%s", screen)
	}
}

// TestNarrowerThanKnown draws on a terminal that is narrower than the program knows, as it is
// for a moment after each change of its size.
func TestNarrowerThanKnown(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	s := p.inTmux(44, 24, "stty cols 90; "+p.bin+" --vmm local")
	s.awaitText("\n  tests/a.test.lua > waits ", "\n  tests/b.test.lua > waits, too ")
	s.do("send-keys", "C-t")
	s.awaitText("    test `waits, too` (tests/b.test.lua:3),")
	s.await("one status area", func(screen string) bool {
		return strings.Count(screen, "0 of 2 files, 0 failed |") == 1
	})
	p.write("go", "")
	s.awaitText("2 file(s); ")
}

// TestPlainTerminals have no status area, or one without colours.
func TestPlainTerminals(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	s := p.onTerminal(24, 80, "--vmm", "local") // with NO_COLOR
	s.await(" > waits, too")
	p.write("go", "")
	s.end(1)
	if shown := s.shown.String(); regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(shown) {
		t.Errorf("colours: %q", shown)
	}
	p.env = append(p.env, "NO_COLOR=")
	s = p.onTerminal(24, 80, "--vmm", "local")
	s.end(1)
	if shown := s.shown.String(); !strings.Contains(shown, "\x1b[31mFAIL\x1b[m tests/a.test.lua") {
		t.Errorf("no colours: %q", shown)
	}
	for _, term := range []string{"dumb", ""} {
		p.term = term
		s = p.onTerminal(24, 80, "--vmm", "local")
		s.end(1)
		if shown := s.shown.String(); strings.Contains(shown, "\x1b") || strings.Contains(shown, "running, ") {
			t.Errorf("TERM=%s: %q", term, shown)
		}
	}
}

// TestAskedWithoutTerminal asks a run in the background what it does.
func TestAskedWithoutTerminal(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	r := p.start("--vmm", "local")
	r.await("loaded")
	for { // until both are at the tests that wait
		r.signal(syscall.SIGUSR1)
		r.awaitNote("provium: 0 of 2 files, ")
		if text := r.stderr.String(); strings.Contains(text, "    test `waits` (tests/a.test.lua:4), ") &&
			strings.Contains(text, "    test `waits, too` (tests/b.test.lua:3), ") {
			break
		}
	}
	p.write("go", "")
	r.wait().expect(1, "FAIL tests/a.test.lua: fails (", "2 file(s); 3 passed, 1 failed, 0 skipped; ")
}

// TestPauseBelowStatusArea types while other files run.
func TestPauseBelowStatusArea(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	s := p.inTmux(90, 24, "trap : INT; "+p.bin+" --vmm local --pause-on-failure; echo code $?")
	s.awaitText("test `fails` is paused", "as wished", "\nprovium>")
	s.do("send-keys", "40 + 2", "Enter")
	s.awaitText("\n42\nprovium>")
	s.do("send-keys", "exit", "Enter")
	s.awaitText("\n  tests/a.test.lua > waits ")
	s.do("send-keys", "C-t")
	s.awaitText("test `waits` (tests/a.test.lua:4), ")
	s.do("send-keys", "C-c")
	s.awaitText("provium: interrupt: closing what runs; once more kills it")
	s.awaitText("2 file(s); ", "code 1")
}

// TestStoppedRun is stopped, and goes on, as with Ctrl-Z and fg.
func TestStoppedRun(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	waitingFiles(p)
	// Job control needs an interactive shell.
	s := p.inTmux(90, 24, "PS1='prompt$ ' ENV= exec sh -i")
	s.awaitText("prompt$")
	s.do("send-keys", p.bin+" --vmm local", "Enter")
	s.awaitText("\n  tests/b.test.lua > waits, too ", "\n  tests/a.test.lua > waits ")
	s.do("send-keys", "C-z")
	s.await("the prompt", func(screen string) bool { return last(screen, 1)[0] == "prompt$" })
	s.do("send-keys", "echo ty''ped", "Enter")
	s.awaitText("\ntyped\n")
	s.do("send-keys", "bg", "Enter")
	s.awaitText("prompt$ bg\n")
	// The run in the background prints what it is asked for, and draws no status area.
	s.do("send-keys", "kill -USR1 %1", "Enter")
	s.awaitText("provium: 0 of 2 files, 0 failed, 2 running, 0 left, ")
	s.do("send-keys", "echo ag''ain", "Enter")
	screen := s.awaitText("\nagain\n")
	if strings.Contains(screen, " | 2 running, ") {
		t.Errorf("a status area in the background\n%s", screen)
	}
	s.do("send-keys", "fg", "Enter")
	s.awaitText("\nprompt$ fg\n")
	s.await("the status area", func(screen string) bool {
		return strings.Contains(strings.Join(last(screen, 3), "\n"), "  tests/b.test.lua > waits, too")
	})
	s.do("send-keys", "C-t")
	s.awaitText("test `waits` (tests/a.test.lua:4), ")
	p.write("go", "")
	s.awaitText("2 file(s); 3 passed, 1 failed, 0 skipped; ")
	s.do("send-keys", "exit", "Enter")
}
