package failure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/script/journal"
)

func TestParts(t *testing.T) {
	f := Failure{Message: "a:1: no\n", Step: "in step `s`", Source: "source", Diff: "diff", Output: "output",
		Stack: "stack", Operations: "operations"}
	if got := f.String(); got != "a:1: no\nin step `s`\ndiff\nsource\noutput\nstack\noperations" {
		t.Errorf("%q", got)
	}
	if got := (&Failure{Message: "a:1: no"}).String(); got != "a:1: no" {
		t.Errorf("%q", got)
	}
}

func TestBlock(t *testing.T) {
	var many strings.Builder
	for i := 1; i <= 100; i++ {
		fmt.Fprintf(&many, "line %d\n", i)
	}
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"x", "out (1 byte):\n  | x"},
		{"\n", "out (1 byte):\n  |"},
		{"a\tb\r\n\x1b[2J\\n", "out (11 bytes, 2 lines):\n  | a\tb\n  | \\x1b[2J\\n"},
		{strings.Repeat("y", 500), "out (500 bytes):\n  | " + strings.Repeat("y", 400) + "... (500 bytes)"},
	} {
		if got := Block("out", []byte(c.text)); got != c.want {
			t.Errorf("%q: got\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
	got := Block("out", []byte(many.String()))
	if !strings.HasPrefix(got, "out (792 bytes, 100 lines):\n  | line 1\n") ||
		!strings.Contains(got, "\n  | line 15\n  [60 lines left out]\n  | line 76\n") ||
		!strings.HasSuffix(got, "\n  | line 100") {
		t.Errorf("%s", got)
	}
	// However long the lines are, what is shown is bounded.
	for _, line := range []string{strings.Repeat("z", 5000) + "\n", "\n", strings.Repeat("\xff", 300) + "\n"} {
		if got := Block("out", []byte(strings.Repeat(line, 10_000))); len(got) > 40<<10 ||
			!strings.Contains(got, "lines left out]") {
			t.Errorf("%.3q: %d bytes", line, len(got))
		}
	}
}

func TestExcerpt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lua")
	if err := os.WriteFile(path, []byte("one\n\ttwo\n\nfour\x1b\nfive\nsix\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[int]string{
		1: ">     1 | one\n      2 | \ttwo\n      3 |",
		4: "      2 | \ttwo\n      3 |\n>     4 | four\\x1b\n      5 | five\n      6 | six",
		6: "      4 | four\\x1b\n      5 | five\n>     6 | six",
		7: "", 0: "", -3: "",
	} {
		if got := Excerpt(path, line); got != want {
			t.Errorf("line %d: got\n%s\nwant\n%s", line, got, want)
		}
	}
	for _, path := range []string{path + ".gone", filepath.Dir(path)} {
		if got := Excerpt(path, 1); got != "" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestStack(t *testing.T) {
	const at = "tests/a.test.lua:9"
	for _, c := range []struct{ text, want string }{
		{"stack traceback:\n\t[C]: in function 'error'\n\ttests/a.test.lua:9: in function <tests/a.test.lua:8>\n" +
			"\t[C]: in ?", ""},
		{"stack traceback:\n\t[C]: in ?", ""},
		{"", ""},
		{"stack traceback:\n\t[C]: in method 'assert_eq'\n\tlib/a.lua:3: in upvalue 'inner'\n" +
			"\tlib/a.lua:5: in upvalue 'middle'\n\t(...tail calls...)\n\tlib/a.lua:7: in function 'outer'\n" +
			"\tlib/b.lua:1: in function 'other'\n\toperators:1: in x\n" +
			"\ttests/a.test.lua:9: in function <tests/a.test.lua:8>\n\t[C]: in ?",
			"stack traceback:\n\tlib/a.lua:3: in upvalue 'inner'\n\t... 2 more in lib/a.lua\n" +
				"\tlib/b.lua:1: in function 'other'\n\ttests/a.test.lua:9: in function <tests/a.test.lua:8>"},
		{"stack traceback:\n\ttests/a.test.lua:5: in local 'f'\n\ttests/a.test.lua:9: in function <x>",
			"stack traceback:\n\ttests/a.test.lua:5: in local 'f'\n\ttests/a.test.lua:9: in function <x>"},
		{"stack traceback:\n\ttests/a.test.lua:9: in local 'f'\n\ttests/a.test.lua:9: in function <x>", ""},
		{"stack traceback:\n\tlib/a.lua:3: in x\n\tlib/a.lua:4: in y",
			"stack traceback:\n\tlib/a.lua:3: in x\n\t... 1 more in lib/a.lua"},
	} {
		if got := Stack(c.text, at, Hidden{"operators:"}); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

// clock is a time that moves when told to.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func TestTrace(t *testing.T) {
	c := &clock{time.Unix(100, 0)}
	trace := NewTrace(c.read)
	if got := trace.Report(""); got != "" {
		t.Errorf("%q", got)
	}
	do := func(op Operation, took time.Duration, o journal.Outcome) {
		r := trace.Begin(op)
		c.now = c.now.Add(took)
		r.End(o.Failed)
		r.Returned(o)
	}
	failed := func(text string) journal.Outcome { return journal.Outcome{Text: text, Failed: true} }
	do(Operation{"vm:boot()", "n1", "a.lua:3"}, 1500*time.Millisecond, journal.Outcome{})
	for range 19 {
		do(Operation{`vm:run("cat /x")`, "n1", "a.lua:5"}, 12*time.Millisecond,
			journal.Outcome{Text: "exit 1", Output: "\ncat: /x\n"})
		do(Operation{`vm:stat("/y")`, "n1", "a.lua:6"}, time.Millisecond, failed("No such file"))
	}
	do(Operation{Text: "provium:barrier()", VM: "n1"}, 50*time.Microsecond, failed("vm `n1`: bad\x1b"))
	left := trace.Begin(Operation{"vm:pause()", "n2", "a.lua:9"})
	forgotten := trace.Begin(Operation{Text: "wait_until()"})
	if got := trace.InFlight(); got != "vm:pause() at a.lua:9, wait_until()" {
		t.Errorf("%q", got)
	}
	if got := fmt.Sprint(trace.VMs()); got != "[n2]" {
		t.Error(got)
	}
	forgotten.Forget()
	c.now = c.now.Add(time.Second)
	want := `last operations:
    +0.000s    1.50s  [n1] vm:boot()  a.lua:3
    +1.500s  246.0ms  [n1] vm:run("cat /x")  a.lua:5  ×19, last: exit 1, "cat: /x"
    +1.512s  235.0ms  [n1] vm:stat("/y")  a.lua:6  ×19, last: (failed)
    +1.747s     50µs  [n1] provium:barrier()  failed: bad\x1b
    +1.747s    1.00s  [n2] vm:pause()  a.lua:9  still running`
	if got := trace.Report("a.lua:6: No such file"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	left.End(false)
	for i := range 30 {
		do(Operation{Text: fmt.Sprintf("op%d", i)}, 0, journal.Outcome{})
	}
	if got := trace.Report(""); strings.Count(got, "\n") != traceKeep || !strings.Contains(got, "op18") {
		t.Error(got)
	}
}
