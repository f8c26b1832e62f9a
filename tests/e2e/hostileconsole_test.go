package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostileConsole prints what no terminal, and no reader of a report, should get, and then what looks like a report of
// the kernel with such bytes in its title. Then it fails.
const hostileConsole = `
test("fails beside a hostile console", function(t)
  local vm = provium:vm("a", "host", {memory = "128M"}):boot()
  local every = {}
  for i = 0, 255 do every[#every + 1] = string.char(i) end
  vm:write_file("/tmp/bytes", table.concat(every) .. "\xc3\xed\xa0\x80\xf8\0\n" ..
    "\27[2Jcleared\27]0;title\7\27P q\27\\ </script><script>alert(1)</script> ]]> &amp; \u{202e}backwards\u{2028}\n" ..
    "\xc2\x9b2Jcleared too\n" ..
    "[ 9999.000000] BUG: \27[31mKASAN\27[m: use-after-free in \0\xff</script>]]>_bad+0x1/0x2\n" ..
    "[ 9999.000001] Kernel panic - not syncing: \27[2J\0\xff</script>]]>\n")
  vm:run("{ stty raw; cat /tmp/bytes >&0; echo behind >&0; } <> /dev/hvc0")
  vm:console():expect("behind")
  t:log(vm:console():read_log():sub(-600))
  t:attach("bytes.txt", vm:console():read_log())
  error(vm:console():read_log():sub(-600))
end)
`

// TestHostileConsole has a console's bytes in every kind of output: all are well-formed, and nothing of them drives a
// terminal or ends a piece of a page.
func TestHostileConsole(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", hostileConsole)
	kept, junit := filepath.Join(p.dir, "kept"), filepath.Join(p.dir, "junit.xml")
	page, events := filepath.Join(p.dir, "page.html"), filepath.Join(p.dir, "events.jsonl")

	screen, terminal := openTerminal(t)
	started := p.startOn(terminal, "-v", "--artifacts", kept, "--junit", junit, "--report", page,
		"--save-events", events, "--events-format", "jsonl")
	terminal.Close()
	shown, _ := io.ReadAll(screen) // ends with EIO
	_ = started.cmd.Wait()
	if started.cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("exit code %d\n%q", started.cmd.ProcessState.ExitCode(), shown)
	}
	wantHarmless(t, "the terminal", string(shown), "cleared")

	r := p.run("--json", "--artifacts", "off")
	r.expect(1, "cleared")
	wantHarmless(t, "standard error", r.stderr.String(), "")
	for _, stream := range []string{r.stdout.String(), readText(t, events)} {
		for line := range strings.Lines(stream) {
			if !json.Valid([]byte(line)) || !utf8.ValidString(line) {
				t.Errorf("no JSON: %q", line)
			}
		}
	}
	wantXML(t, readText(t, junit))
	text := readText(t, page)
	wantHarmless(t, "the page", text, "")
	if n := strings.Count(text, "alert(1)</script>"); n > 0 {
		t.Errorf("%d scripts of the guest are in the page", n)
	}
	// What is for programs has the bytes as they were.
	found := false
	err := filepath.WalkDir(kept, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "console") {
			found = found || strings.Contains(readText(t, path), "\x1b[2Jcleared\x1b]0;title\a")
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("the console is not kept as it was: %v", err)
	}
}

// ownSequence is what the program itself sends to a terminal: colors, and those of its status area.
var ownSequence = regexp.MustCompile(`\x1b\[([0-9;]*m|\?7[lh]|[0-9]*A|J)`)

// wantHarmless checks that a text has what is wanted, is valid, and holds no control characters but those of lines and
// colors.
func wantHarmless(t *testing.T, what, text, want string) {
	t.Helper()
	if !utf8.ValidString(text) || !strings.Contains(text, want) {
		t.Errorf("%s is not UTF-8, or lacks %q: %q", what, want, text)
	}
	rest := ownSequence.ReplaceAllString(text, "")
	if at := strings.IndexFunc(rest, func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r >= 0x7f && r < 0xa0
	}); at >= 0 {
		t.Errorf("%s has a control character: %q", what, rest[max(0, at-100):min(len(rest), at+20)])
	}
}

func wantXML(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("%v in %q", err, text)
			return
		}
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
