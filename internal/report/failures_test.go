package report

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

// explainedFile has tests with all that failures can say: of a command, at a limit, of runs that
// were repeated.
func explainedFile(t *testing.T) FileResult {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile("testdata/failures/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	command, limit := read("command"), read("limit")
	const console = "[ 1.0] before\n[ 2.0] BUG: x\n[ 2.0] call trace:\n[ 2.0]  f+0x1/0x2\n[ 3.0] after\n"
	return FileResult{Path: "tests/why.test.lua", Status: FileFailed, Duration: 9 * time.Second, Output: "loading\n",
		Tests: []TestResult{
			{Name: "command", Status: TestFailed, Duration: 300 * time.Millisecond, Message: command,
				Log: []string{"logged"}, Output: "about to build\n", ConsoleExcerpt: console,
				Attachments: []Attachment{{Name: "core", Size: 70}}},
			{Name: "limit", Status: TestFailed, Duration: 3 * time.Second, Message: limit, Retries: []string{command}},
			{Name: "flaky", Status: TestPassed, Retries: []string{limit, "tests/why.test.lua:20: no"}},
			{Name: "left out", Status: TestSkipped, Message: "filtered: not for this run"},
		}}
}

// TestFailureTexts shows failures with all their parts in every mode of the terminal, and as JSON.
func TestFailureTexts(t *testing.T) {
	r := explainedFile(t)
	for name, cfg := range map[string]TerminalConfig{
		"normal": {}, "verbose": {Verbosity: Verbose}, "quiet": {Verbosity: Quiet}, "color": {Color: true},
	} {
		out, _ := render(t, cfg, []FileResult{r})
		golden(t, "failures/shown-"+name+".txt", out)
	}
	var out bytes.Buffer
	early := NewTerminal(TerminalConfig{Out: &out, Output: true})
	for _, err := range []error{early.Failure(r.Path, r.Tests[1]), early.File(r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "failures/shown-early.txt", out.String())
	out.Reset()
	if err := NewJSON(&out).File(r); err != nil {
		t.Fatal(err)
	}
	golden(t, "failures/shown.jsonl", out.String())
}

// TestControlCharacters has them in every text that a guest could have had a hand in.
func TestControlCharacters(t *testing.T) {
	const draws = "\x1b[2Jx\x07"
	out, errs := render(t, TerminalConfig{Verbosity: Verbose}, []FileResult{
		{Path: draws, Status: FileFailed, ChunkError: draws, Output: draws, Warnings: []string{draws},
			Tests: []TestResult{
				{Name: draws, Status: TestFailed, Message: draws, Log: []string{draws}, Output: draws,
					ConsoleExcerpt: draws, Retries: []string{draws}, Attachments: []Attachment{{Name: draws}}},
				{Name: draws, Status: TestSkipped, Message: draws},
			}}})
	for _, text := range []string{out, errs} {
		if strings.ContainsAny(text, "\x1b\x07") || !strings.Contains(text, `\x1b[2Jx\x07`) {
			t.Errorf("%q", text)
		}
	}
	if n := strings.Count(out, `\x1b[2Jx`); n < 13 {
		t.Errorf("%d of the texts are shown\n%s", n, out)
	}
}
