package export

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	parser "github.com/joshdk/go-junit"

	"provium/internal/report"
)

var update = flag.Bool("update", false, "rewrite golden files")

// explained reads the text of a failure with all its parts.
func explained(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../testdata/failures/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// results has every status of files and tests, and texts that formats could trip over.
func results(t *testing.T) Run {
	command, limit := explained(t, "command"), explained(t, "limit")
	const passed, failed = report.FilePassed, report.TestFailed
	return Run{
		Started: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Elapsed: 12340 * time.Millisecond, Host: "builder",
		Facts: []Fact{{"seed", "7"}, {"accelerator", "tcg"}},
		Files: []report.FileResult{
			{Path: "tests/boot.test.lua", Duration: 2 * time.Second, Status: passed, Tests: []report.TestResult{
				{Name: "boots", Status: report.TestPassed, Duration: 1500 * time.Millisecond},
				{Name: "at last", Status: report.TestPassed, Retries: []string{"tests/boot.test.lua:9: no", "why"}},
				{Name: `hash # and \ back`, Status: report.TestSkipped, Message: "skipped: # not here"},
			}, Warnings: []string{"closing vm `a`: late"}},
			{Path: "tests/net.test.lua", Status: report.FileFailed, Duration: time.Second, Tests: []report.TestResult{
				{Name: "a name\nof two lines", Status: failed, Duration: time.Millisecond,
					Message: "tests/net.test.lua:31: no leader: nil ~= \"n1\"\n" +
						"  traceback:\n    tests/net.test.lua:31: in function",
					Log:            []string{"one", "two\nlines"},
					ConsoleExcerpt: "[    1.0] \x1b[1mBUG\x1b[0m ]]> <&> \ufffe"},
				{Name: "plain", Status: failed, Message: "  indented: 50%, yes", Output: "printed\x1b[2J\n",
					Attachments: []report.Attachment{{Name: "core", File: "out-attachments/2-2-1-core"},
						{Name: "lost"}}},
			}},
			{Path: "tests/broken.test.lua", Status: report.FileFailed,
				ChunkError: "tests/broken.test.lua:3: attempt to index a nil value"},
			{Path: "tests/crash.test.lua", Status: report.FileCrashed, ChunkError: "runner died: signal: killed",
				Tests: []report.TestResult{
					{Name: "calls", Status: failed, Message: "failed-due-to-poisoned-state"}}},
			{Path: "tests/soak.test.lua", Status: report.FileTimedOut, Duration: 5 * time.Minute,
				Tests: []report.TestResult{{Name: "soaks", Status: failed, Message: "timed out after 300s"}}},
			{Path: "tests/late.test.lua", Status: report.FileInterrupted},
			{Path: "tests/empty.test.lua", Status: passed},
			{Path: "tests/why.test.lua", Status: report.FileFailed, Tests: []report.TestResult{
				{Name: "command", Status: failed, Message: command, Output: "about to build\n",
					ConsoleExcerpt: "[ 1.0] before\n[ 2.0] BUG: x\n[ 2.0] call trace:\n[ 2.0]  f+0x1/0x2\n"},
				{Name: "limit", Status: failed, Message: limit, Retries: []string{command}},
				{Name: "flaky", Status: report.TestPassed, Retries: []string{limit, "tests/why.test.lua:20: no"}},
				{Name: "blank first", Status: failed, Message: "\n  indented: {yes}\nSubtest: it is none\n\ttab\n"},
			}},
		},
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		file  string
		write func(io.Writer, Run) error
	}{
		{"junit.xml", JUnit}, {"tap.txt", TAP}, {"ktap.txt", KTAP},
		{"github.txt", func(w io.Writer, r Run) error { return Annotations(w, r, "sub/project") }},
	} {
		t.Run(c.file, func(t *testing.T) {
			var b bytes.Buffer
			if err := c.write(&b, results(t)); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.file)
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", b.Bytes(), want)
			}
		})
	}
}

// TestJUnitIsRead has another program's reader look at it.
func TestJUnitIsRead(t *testing.T) {
	var b bytes.Buffer
	if err := JUnit(&b, results(t)); err != nil {
		t.Fatal(err)
	}
	suites, err := parser.Ingest(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) != 8 {
		t.Fatalf("%d suites", len(suites))
	}
	var all parser.Totals
	for _, s := range suites {
		all.Tests += s.Totals.Tests
		all.Passed += s.Totals.Passed
		all.Failed += s.Totals.Failed
		all.Error += s.Totals.Error
		all.Skipped += s.Totals.Skipped
	}
	if all.Tests != 15 || all.Passed != 3 || all.Skipped != 1 || all.Failed != 7 || all.Error != 4 {
		t.Errorf("%+v", all)
	}
	failed := suites[1].Tests[0]
	if failed.Name != "a name of two lines" || failed.Message != `no leader: nil ~= "n1"` ||
		!strings.HasPrefix(failed.Error.Error(), "tests/net.test.lua:31: no leader") ||
		!strings.Contains(failed.SystemOut, `[    1.0] \x1b[1mBUG\x1b[0m ]]> <&>`) {
		t.Errorf("%+v", failed)
	}
	if p := suites[1].Properties; p["seed"] != "7" || p["status"] != "failed" {
		t.Errorf("%v", p)
	}
}

// TestTAPIsRead has Perl's harness count.
func TestTAPIsRead(t *testing.T) {
	prove, err := exec.LookPath("prove")
	if err != nil {
		t.Skip("Perl's prove is not installed")
	}
	dir := t.TempDir()
	var b bytes.Buffer
	if err := TAP(&b, results(t)); err != nil {
		t.Fatal(err)
	}
	// Older ones refuse the number, and take the rest.
	old := bytes.Replace(b.Bytes(), []byte("version 14"), []byte("version 13"), 1)
	if err := os.WriteFile(filepath.Join(dir, "run.tap"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(prove, "--source", "File", "--ext", ".tap", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(text), "Failed 6/8 subtests") ||
		strings.Contains(string(text), "Parse errors") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestPosition(t *testing.T) {
	for message, want := range map[string]string{
		"timed out after 3s in f at a.lua:3\nx": "a.lua 3 timed out after 3s in f at a.lua:3\nx",
		"timed out after 3s\nx at a.lua:3":      " 0 timed out after 3s\nx at a.lua:3",
		"a/b.test.lua:12: text: 3":              "a/b.test.lua 12 text: 3",
		"text":                                  " 0 text", "a.lua:x: t": " 0 a.lua:x: t",
		"a.lua:99999999999999999999: t": " 0 a.lua:99999999999999999999: t",
	} {
		file, line, text := position(message)
		if got := fmt.Sprint(file, " ", line, " ", text); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
}
