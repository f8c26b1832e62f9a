package report

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/terminal"
)

var update = flag.Bool("update", false, "rewrite golden files")

func samples() []FileResult {
	return []FileResult{
		{Path: "tests/boot.test.lua", Status: FilePassed, Duration: 2 * time.Second, Tests: []TestResult{
			{Name: "boots", Status: TestPassed, Duration: 1234567 * time.Microsecond, Log: []string{"kernel 6.1.0", "",
				"two\nlines"}},
			{Name: "runs commands", Status: TestPassed},
		}},
		{Path: "tests/net/split.test.lua", Status: FileFailed, Warnings: []string{"close vm `n2`: no answer"},
			Tests: []TestResult{
				{Name: "cluster forms", Status: TestPassed},
				{Name: "cluster heals", Status: TestFailed, Message: "no leader: nil ~= n1"},
			}},
		{Path: "tests/soak.test.lua", Status: FileTimedOut, Tests: []TestResult{
			{Name: "starts", Status: TestPassed},
			{Name: "soaks", Status: TestFailed,
				Message: "timed out after 300s in vm:run(\"sleep 1000\") at tests/soak.test.lua:12"},
		}},
		{Path: "tests/rich.test.lua", Status: FileFailed, Tests: []TestResult{
			{Name: "shows\nall of a failure \x1b[31mred\u202e", Status: TestFailed, Log: []string{"before"},
				Message: "tests/rich.test.lua:31: assert_eq failed: a ~= b\n\n  - one\n  + two\n    " +
					"three\n\ntraceback:\n  tests/rich.test.lua:31: in function <tests/rich.test.lua:20>\n\nlast " +
					"operations:\n  0.012s vm:run(\"make\")\n",
				ConsoleExcerpt: strings.Repeat("[    1.000000] noise\r\n", 25) +
					"[    2.000000] \x1b[1mBUG\x1b[0m: x\xff\n\x1b]0;title\x07\x1b]2;t\x1b\\end\x1b[2J\x07\x1b"},
			{Name: "explains itself", Status: TestFailed, Output: "one\ntwo \x1b[2J\n",
				Attachments: []Attachment{{Name: "core\n1", Size: 70}}, Message: explained,
				ConsoleExcerpt: "[ 1.0] before\n[ 2.0] BUG: x\n[ 2.0] call trace:\n[ 2.0]  f+0x1/0x2\n[ 3.0] after\n"},
			{Name: "prints", Status: TestPassed, Output: "to be seen\n",
				Attachments: []Attachment{{Name: "trace", Size: 7}}},
			{Name: "is skipped", Status: TestSkipped, Message: "filtered: slow tests skipped (pass --include-slow)"},
			{Name: "is todo", Status: TestSkipped, Message: "todo"},
		}},
		{Path: "tests/broken.test.lua", Status: FileFailed,
			ChunkError: "tests/broken.test.lua:3: attempt to index a nil value (global 'vmm')\ntraceback:\n  " +
				"tests/broken.test.lua:3: in main chunk"},
		{Path: "tests/crash.test.lua", Status: FileCrashed, ChunkError: "runner died: signal: segmentation fault",
			Tests: []TestResult{
				{Name: "calls C", Status: TestFailed, Message: "failed-due-to-poisoned-state"},
			}},
		{Path: "tests/late.test.lua", Status: FileInterrupted, Tests: []TestResult{
			{Name: "runs long", Status: TestFailed, Message: "interrupted"},
		}},
		{Path: "tests/empty.test.lua", Status: FilePassed},
	}
}

// explained is the text of a failure with most of its parts.
const explained = `tests/rich.test.lua:31: assert_same failed: 2 ~= 5 at list[2]
difference (- first, + second):
  {
    list = {
      1,
-     2,
+     5,
- old
- older
+ new
     },
-   "grün",
+   "grau",
  }
     30 |
>    31 |   t:assert_same(a, b)
     32 | end)
stdout (6 bytes, 2 lines):
  | - x
  | + y
stack traceback:
	tests/rich.test.lua:31: in function <tests/rich.test.lua:20>
last operations:
    +0.000s   12.0ms  [n1] vm:run("make")  tests/rich.test.lua:30  ×19, last: exit 2, "no rule"
guest failure on vm ` + "`n1`" + `: BUG: x
[ 2.0] BUG: x
[ 2.0] call trace:
[ 2.0]  f+0x1/0x2
repeat with: provium 'tests/rich.test.lua::explains itself' --seed 7`

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func render(t *testing.T, cfg TerminalConfig, results []FileResult) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cfg.Out, cfg.Err, cfg.Output = &o, &e, true
	term := NewTerminal(cfg)
	var c Counts
	for _, r := range results {
		if err := term.File(r); err != nil {
			t.Fatal(err)
		}
		c.Add(r)
	}
	if err := term.End(Summary(c, 9800*time.Millisecond), true); err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String()
}

func TestTerminal(t *testing.T) {
	for name, cfg := range map[string]TerminalConfig{
		"normal.txt":  {},
		"verbose.txt": {Verbosity: Verbose},
		"quiet.txt":   {Verbosity: Quiet},
		"color.txt":   {Verbosity: Verbose, Color: true},
	} {
		out, errs := render(t, cfg, samples())
		golden(t, name, out)
		if errs != "provium: warning: tests/net/split.test.lua: close vm `n2`: no answer\n" {
			t.Errorf("%s: %q", name, errs)
		}
		if !cfg.Color && strings.ContainsFunc(strings.ReplaceAll(out, "\n", ""), terminal.IsControl) {
			t.Errorf("%s: control characters got through: %q", name, out)
		}
		for line := range strings.Lines(out) {
			if strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
				t.Errorf("%s: trailing spaces: %q", name, line)
			}
		}
	}
}

// The form of the documentation, to the letter.
func TestTerminalAsDocumented(t *testing.T) {
	out, _ := render(t, TerminalConfig{}, samples()[:3])
	const want = `PASS tests/boot.test.lua (2 passed, 0 failed, 0 skipped) 2.00s
FAIL tests/net/split.test.lua (1 passed, 1 failed, 0 skipped)
    FAIL cluster heals
        no leader: nil ~= n1
TIME tests/soak.test.lua (1 passed, 1 failed, 0 skipped)
    FAIL soaks
        timed out after 300s in vm:run("sleep 1000") at tests/soak.test.lua:12

failed:
    tests/net/split.test.lua: cluster heals
    tests/soak.test.lua (timed out)
    tests/soak.test.lua: soaks

2 of 3 files failed (2 tests failed, 1 timed out)
3 file(s); 4 passed, 2 failed, 0 skipped; 9.80s
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	out, _ = render(t, TerminalConfig{Verbosity: Quiet}, samples()[:1])
	if out != "1 file(s); 2 passed, 0 failed, 0 skipped; 9.80s\n" {
		t.Errorf("%q", out)
	}
}

// TestFailureIsShownAtOnce shows tests before their file, which then has their first lines.
func TestFailureIsShownAtOnce(t *testing.T) {
	for name, cfg := range map[string]TerminalConfig{"early.txt": {}, "early-verbose.txt": {Verbosity: Verbose}} {
		var out bytes.Buffer
		cfg.Out, cfg.Output = &out, true
		term := NewTerminal(cfg)
		for i, r := range samples()[1:4] {
			if failed := []int{1, -1, 0}[i]; failed >= 0 {
				if err := term.Failure(r.Path, r.Tests[failed]); err != nil {
					t.Fatal(err)
				}
			}
			if err := term.File(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := term.File(samples()[1]); err != nil { // of the next iteration
			t.Fatal(err)
		}
		golden(t, name, out.String())
	}
	broken := NewTerminal(TerminalConfig{Out: brokenWriter{}})
	if err := broken.Failure("a", samples()[1].Tests[1]); !errors.Is(err, errPipe) {
		t.Error(err)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b)
	for _, r := range samples() {
		if err := j.File(r); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "results.jsonl", b.String())
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}

func TestCounts(t *testing.T) {
	var c Counts
	for _, r := range samples() {
		c.Add(r)
	}
	c.NotStarted = 2
	want := Counts{Files: 8, Passed: 5, Failed: 6, Skipped: 2, FilesFailed: 6,
		FilesBroken: 1, FilesCrashed: 1, FilesTimedOut: 1, FilesInterrupted: 1,
		NotStarted: 2}
	if c != want || c.OK() {
		t.Errorf("%+v", c)
	}
	if got := Summary(c, 1234*time.Millisecond); got !=
		"6 of 10 files failed (6 tests failed, 1 did not load, 1 crashed, 1 timed out, 1 interrupted, 2 not started)\n"+
			"8 file(s); 5 passed, 6 failed, 2 skipped; 1.23s" {
		t.Error(got)
	}
	for want, c := range map[string]Counts{
		"": {Files: 3, Passed: 7, Skipped: 1},
		"3 of 5 files failed (1 test failed, 2 did not load, 1 interrupted)": {Files: 5, Failed: 1, FilesFailed: 3,
			FilesBroken: 2, FilesInterrupted: 1},
		"1 of 1 file failed (2 tests failed)":  {Files: 1, Failed: 2, FilesFailed: 1},
		"0 of 2 files failed (2 not started)":  {NotStarted: 2},
		"1 of 2 files failed (1 crashed)":      {Files: 2, FilesFailed: 1, FilesCrashed: 1},
		"1 of 2 files failed (1 timed out)":    {Files: 2, FilesFailed: 1, FilesTimedOut: 1},
		"1 of 2 files failed (1 did not load)": {Files: 2, FilesFailed: 1, FilesBroken: 1},
	} {
		if got := c.Verdict(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if !(Counts{Files: 1, Skipped: 3}).OK() {
		t.Error("all skipped is fine")
	}
}

func TestSlowest(t *testing.T) {
	var s Slowest
	for i, r := range samples() {
		for j := range r.Tests {
			r.Tests[j].Duration = time.Duration(i*10+j) * time.Second
		}
		s.Add(r)
	}
	for n, want := range map[int]string{
		2: "slowest 2 of 11 tests:\n    60.00s  tests/late.test.lua  runs long\n" +
			"    50.00s  tests/crash.test.lua  calls C\n",
		0: "slowest 11 of 11 tests:\n    60.00s  ", 99: "slowest 11 of 11 tests:\n    60.00s  ",
	} {
		var b bytes.Buffer
		if err := s.Write(&b, n); err != nil || !strings.HasPrefix(b.String(), want) {
			t.Errorf("%d: %s, %v", n, b.String(), err)
		}
	}
	if err := s.Write(brokenWriter{}, 1); !errors.Is(err, errPipe) {
		t.Error(err)
	}
}

func TestHeader(t *testing.T) {
	for want, h := range map[string]Header{
		"provium: 3 file(s), accelerator tcg (the CPU offers neither vmx nor svm), seed 7": {3, "tcg",
			"the CPU offers neither vmx nor svm", []string{"seed 7"}},
		"provium: 1 file(s), accelerator kvm": {Files: 1,
			Accelerator: "kvm"},
		"provium: 2 file(s), no guests (--vmm local), seed 0": {Files: 2, Notes: []string{"seed 0"}},
	} {
		if got := h.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

type brokenWriter struct{}

var errPipe = errors.New("broken pipe")

func (brokenWriter) Write([]byte) (int, error) { return 0, errPipe }

func TestWriteErrors(t *testing.T) {
	term := NewTerminal(TerminalConfig{Out: brokenWriter{}, Err: brokenWriter{}})
	for _, err := range []error{
		term.File(samples()[0]), term.File(samples()[1]), term.End(Summary(Counts{}, 0), true),
		NewJSON(brokenWriter{}).File(samples()[0]),
	} {
		if !errors.Is(err, errPipe) {
			t.Error(err)
		}
	}
}

func TestResultSurvivesEncoding(t *testing.T) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(samples()[3]); err != nil {
		t.Fatal(err)
	}
	var got FileResult
	if err := gob.NewDecoder(&b).Decode(&got); err != nil || !reflect.DeepEqual(got, samples()[3]) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCollector(t *testing.T) {
	c := NewCollector("a")
	c.Expect([]string{"one", "two", "three", "four", "five"})
	for _, e := range []event.Event{
		event.FileDispatched{Path: "a"},
		event.TestStarted{Path: "a", Name: "one"},
		event.VMSpawned{File: "a", VMName: "n1"},
		event.TestPassed{Path: "a", Name: "one", DurationNS: 1<<64 - 1, Log: []string{"x"}},
		event.TestStarted{Path: "a", Name: "three"},
		event.TestSkipped{Path: "a", Name: "three", Reason: "todo"},
		event.TestStarted{Path: "a", Name: "four"},
	} {
		c.Add(e)
	}
	if t4 := c.Running(); t4 == nil || t4.Name != "four" || c.Failed() || c.Tests() != 2 {
		t.Errorf("running %+v, failed %v, %d tests", t4, c.Failed(), c.Tests())
	}
	if got := c.Missing(); !reflect.DeepEqual(got, []string{"two", "four", "five"}) {
		t.Error(got)
	}
	c.Add(event.TestFailed{Path: "a", Name: "four", DurationNS: 9, Reason: "why", ConsoleExcerpt: "panic"})
	if c.Running() != nil || !c.Failed() {
		t.Error("the failure is missing")
	}
	want := FileResult{Path: "a", Status: FileFailed, ChunkError: "chunk", Duration: 7, Tests: []TestResult{
		{Name: "one", Status: TestPassed, Duration: 1<<63 - 1, Log: []string{"x"}},
		{Name: "three", Status: TestSkipped, Message: "todo"},
		{Name: "four", Status: TestFailed, Message: "why", ConsoleExcerpt: "panic", Duration: 9},
	}}
	if got := c.Result(FileFailed, "chunk", 7); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStatusesAreThoseOfEvents(t *testing.T) {
	for a, b := range map[FileStatus]event.FileStatus{
		FilePassed: event.FilePassed, FileFailed: event.FileFailed, FileTimedOut: event.FileTimedOut,
		FileCrashed: event.FileCrashed,
	} {
		if string(a) != string(b) {
			t.Errorf("%s and %s", a, b)
		}
	}
}
