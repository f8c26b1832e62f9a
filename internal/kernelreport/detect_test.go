package kernelreport

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

func feedAll(rules Rules, chunks ...[]byte) []Finding {
	d := NewDetector(rules)
	var all []Finding
	for _, c := range chunks {
		all = append(all, d.Feed(c)...)
	}
	return append(all, d.Flush()...)
}

func describe(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		lines := strings.Split(strings.TrimSuffix(f.Excerpt, "\n"), "\n")
		fmt.Fprintf(&b, "%s | %s\n\tpanic %v, %d lines, to %q\n", f.Kind, f.Title, f.Panic, len(lines),
			lines[len(lines)-1])
	}
	if len(findings) == 0 {
		return "nothing\n"
	}
	return b.String()
}

func titles(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s | %s | %v\n", f.Kind, f.Title, f.Panic)
	}
	return b.String()
}

func logs(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.log")
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d logs, err %v", len(paths), err)
	}
	m := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimSuffix(filepath.Base(p), ".log")] = b
	}
	return m
}

func TestLogs(t *testing.T) {
	for name, log := range logs(t) {
		t.Run(name, func(t *testing.T) {
			want := feedAll(Rules{}, log)
			path := filepath.Join("testdata", name+".want")
			if *update {
				if err := os.WriteFile(path, []byte(describe(want)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(want); got != string(golden) {
				t.Errorf("got\n%swant\n%s", got, golden)
			}
			if innocent := strings.HasPrefix(name, "ok-"); innocent != (len(want) == 0) {
				t.Errorf("%d findings", len(want))
			}

			bytewise := make([][]byte, len(log))
			for i := range log {
				bytewise[i] = log[i : i+1]
			}
			if got := feedAll(Rules{}, bytewise...); !reflect.DeepEqual(got, want) {
				t.Errorf("byte by byte:\n%s", describe(got))
			}
			rng := rand.New(rand.NewPCG(1, uint64(len(log))))
			for range 20 {
				var chunks [][]byte
				for rest := log; len(rest) > 0; {
					n := 1 + rng.IntN(min(len(rest), 200))
					chunks, rest = append(chunks, rest[:n]), rest[n:]
				}
				if got := feedAll(Rules{}, chunks...); !reflect.DeepEqual(got, want) {
					t.Fatalf("in chunks:\n%s", describe(got))
				}
			}

			// What lies between the kernel and us changes bytes, not findings.
			crlf := strings.ReplaceAll(string(log), "\n", "\r\r\n")
			if got := feedAll(Rules{}, []byte(crlf)); !reflect.DeepEqual(got, want) {
				t.Errorf("with CRs:\n%s", describe(got))
			}
			ansi := "\x1b[2J\x1b[1;31m" + strings.ReplaceAll(string(log), "\n", "\x1b[0m\n\x1b]0;title\a\x1b[33m")
			ansi = strings.ReplaceAll(ansi, "] ", "]\x1b[1m ")
			if got := feedAll(Rules{}, []byte(ansi)); titles(got) != titles(want) {
				t.Errorf("with escapes:\n%s", describe(got))
			}
			if !strings.HasPrefix(string(log), "[") {
				return
			}
			if got := feedAll(Rules{}, []byte(wrap(string(log), 60))); titles(got) != titles(want) {
				t.Errorf("wrapped:\n%swant\n%s", describe(got), describe(want))
			}
			if alone := withCaller(log); alone != nil && !strings.Contains(string(log), "Linux version") {
				want := titles(feedAll(Rules{}, alone))
				if got := titles(feedAll(Rules{}, withNoise(alone))); got != want {
					t.Errorf("interleaved:\n%swant\n%s", got, want)
				}
			}
			var twice strings.Builder
			for line := range strings.Lines(string(log)) {
				twice.WriteString(line + line)
			}
			if got := feedAll(Rules{}, []byte(twice.String())); stamped(string(log)) && titles(got) != titles(want) {
				t.Errorf("on two consoles:\n%swant\n%s", describe(got), describe(want))
			}
			if got := feedAll(Rules{}, log, log); stamped(string(log)) && titles(got) != titles(want) {
				t.Errorf("printed again:\n%swant\n%s", describe(got), describe(want))
			}
		})
	}
}

// A line break in an expression, as of an editor that wraps long lines, would match nothing.
func TestFormsHaveNoLineBreaks(t *testing.T) {
	for _, list := range [][]form{reports, warnings, bugs} {
		for _, f := range list {
			if strings.ContainsAny(f.line.String(), "\n\t") {
				t.Errorf("%q", f.line)
			}
		}
	}
}

// withCaller says on each line of a log who prints it, as CONFIG_PRINTK_CALLER does. It returns
// nil for a log that says so.
func withCaller(log []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(log)) {
		m := parse([]byte(line))
		if len(m.stamp) == 0 || len(m.caller) > 0 {
			return nil
		}
		fmt.Fprintf(&b, "[%12s][    T7] %s", m.stamp, m.text)
	}
	return []byte(b.String())
}

// withNoise has another task print a line before each line of a log.
func withNoise(log []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(log)) {
		fmt.Fprintf(&b, "[    7.000000][    T9] demo: goes on\n%s", line)
	}
	return []byte(b.String())
}

func stamped(log string) bool {
	for line := range strings.Lines(log) {
		if len(parse([]byte(line)).stamp) == 0 {
			return false
		}
	}
	return true
}

func wrap(log string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		for len(line) > width+1 {
			b.WriteString(line[:width] + "\r\n")
			line = line[width:]
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestRules(t *testing.T) {
	re := func(s ...string) []*regexp.Regexp {
		var l []*regexp.Regexp
		for _, x := range s {
			l = append(l, regexp.MustCompile(x))
		}
		return l
	}
	oops := "[    1.000000] BUG: unable to handle page fault for address: 0\n" +
		"[    1.000001] Oops: 0000 [#1] SMP\n[    1.000002] ---[ end trace 0 ]---\n"
	warning := "[    0.999999] ------------[ cut here ]------------\n[    0.999999] refcount_t: underflow\n" +
		"[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/a.c:1 frob+0x1/0x2\n[    1.000001] ---[ end trace 0 ]---\n"
	for _, tc := range []struct {
		name, log string
		rules     Rules
		want      string
	}{
		{"extra", "[    1.000000] demo: ring corrupt\n", Rules{Extra: re("ring corrupt")},
			"pattern | demo: ring corrupt | false\n"},
		{"extra anchored behind the stamp", "[    1.000000] demo: ring corrupt\n", Rules{Extra: re("^demo: ")},
			"pattern | demo: ring corrupt | false\n"},
		{"extra anchored before the stamp", "[    1.000000] demo: ring corrupt\n",
			Rules{Extra: re(`^\[ +1\.0+\] demo`)}, "pattern | demo: ring corrupt | false\n"},
		{"extra keeps the kind of known ones", oops, Rules{Extra: re("BUG")},
			"BUG | BUG: unable to handle kernel paging request | false\n"},
		{"pattern of a program's line", "[    1.000000] x\nMYDRV: y\n", Rules{Extra: re("^MYDRV: ")},
			"pattern | MYDRV: y | false\n"},
		{"stamps known beforehand", "BUG: y\nKernel panic - not syncing: y\n", Rules{Stamps: HasStamps}, ""},
		{"no stamps", "[    1.000000] x\nBUG: y\n", Rules{Stamps: HasNoStamps}, "BUG | BUG: y | false\n"},
		{"warning", warning, Rules{}, "WARNING | WARNING in frob | false\n"},
		{"warning ignored by its message", warning, Rules{Ignore: re("^refcount_t: underflow")}, ""},
		{"warning made a failure of its own", warning,
			Rules{Extra: re("^WARNING: CPU")}, "pattern | WARNING: CPU: 0 PID: 1 at kernel/a.c:1 frob | false\n"},
		{"ignored with its report", oops, Rules{Ignore: re("page fault for address: 0$")}, ""},
		{"ignored, then another", oops + "[    2.000000] BUG: unable to handle page fault for address: 1\n",
			Rules{Ignore: re("address: 0$")}, "BUG | BUG: unable to handle kernel paging request | false\n"},
		{"ignored panic", "[    1.000000] Kernel panic - not syncing: x\n", Rules{Ignore: re("^Kernel panic")}, ""},
		{"ignore beats extra", "demo: x\n", Rules{Extra: re("demo"), Ignore: re("x$")}, ""},
	} {
		if got := titles(feedAll(tc.rules, []byte(tc.log))); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestStampsOf(t *testing.T) {
	for cmdline, want := range map[string]Stamps{
		"":                                   StampsUnknown,
		"quiet printk.time=1":                HasStamps,
		"printk.time=1 quiet printk.time=0":  HasNoStamps,
		"printk.time=n printk.time":          HasStamps,
		"printk.time=1 -- printk.time=0":     HasStamps,
		"printk.time=off \"printk.time=on\"": HasStamps,
		"printk.time=maybe":                  StampsUnknown,
	} {
		if got := StampsOf(cmdline); got != want {
			t.Errorf("%q: %v, want %v", cmdline, got, want)
		}
	}
}

func TestPendingUntilItsEnd(t *testing.T) {
	d := NewDetector(Rules{})
	if got := d.Feed([]byte("[    1.000000] Kernel panic - not syncing: x\n[    1.000001] CPU: 0\n")); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if !d.IsPending() {
		t.Error("not pending")
	}
	if got := d.Feed([]byte("[    1.000002] ---[ end Kernel panic - not syncing: x ]---\n")); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if d.IsPending() {
		t.Error("still pending")
	}
}

func TestFlushInsideALine(t *testing.T) {
	d := NewDetector(Rules{})
	d.Feed([]byte("[    1.000000] Kernel panic - not syn"))
	got := d.Flush()
	if len(got) != 1 || !got[0].Panic {
		t.Fatalf("%v", got)
	}
	if got := append(d.Feed([]byte("cing: x\nnext\n")), d.Flush()...); len(got) != 0 {
		t.Errorf("found again: %v", got)
	}
	if got := append(d.Feed([]byte("[    1.100000] BUG: y\n")), d.Flush()...); len(got) != 1 {
		t.Errorf("the line after: %v", got)
	}
}

func TestBounds(t *testing.T) {
	d := NewDetector(Rules{})
	n := 0
	check := func(fs []Finding) {
		for _, f := range fs {
			n++
			if len(f.Title) > maxTitle || len(f.Excerpt) > maxExcerpt {
				t.Fatalf("title %d, excerpt %d bytes", len(f.Title), len(f.Excerpt))
			}
		}
	}
	check(d.Feed([]byte("BUG: " + strings.Repeat("ü", 1<<20) + "\n")))
	check(d.Feed([]byte("BUG: " + strings.Repeat("many words ", 1000) + "\n")))
	for range 10000 {
		check(d.Feed([]byte("still talking about it\n")))
	}
	if n != 2 {
		t.Errorf("%d findings, want 2: a report does not grow without end", n)
	}
	check(d.Feed([]byte(strings.Repeat("x", 1<<20))))
	if cap(d.partial) > 2*MaxLine || cap(d.wrapped) > 2*MaxLine || cap(d.clean) > 2*MaxLine {
		t.Errorf("buffers of %d, %d and %d bytes", cap(d.partial), cap(d.wrapped), cap(d.clean))
	}
}

func FuzzDetector(f *testing.F) {
	for _, log := range logs(f) {
		f.Add(log, uint16(7))
	}
	f.Add([]byte("\x1b[31\x1b]\x1b"), uint16(1))
	f.Add([]byte("<4>[    1.000000][ T1] general protection fault"), uint16(3))
	f.Fuzz(func(t *testing.T, log []byte, size uint16) {
		whole := feedAll(Rules{}, log)
		var chunks [][]byte
		for rest := log; len(rest) > 0; {
			n := min(len(rest), 1+int(size%997))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		parts := feedAll(Rules{}, chunks...)
		if !reflect.DeepEqual(whole, parts) {
			t.Fatalf("whole:\n%sin parts:\n%s", describe(whole), describe(parts))
		}
		for _, f := range whole {
			if f.Title == "" || strings.ContainsAny(f.Title, "\n\x1b") || len(f.Title) > maxTitle ||
				len(f.Excerpt) > maxExcerpt || f.Kind == "" {
				t.Fatalf("%+v", f)
			}
		}
	})
}

// FuzzInterleaved has two tasks print at once: the titles of what one reports do not depend on
// the other.
func FuzzInterleaved(f *testing.F) {
	for _, log := range logs(f) {
		f.Add(log)
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		var b strings.Builder
		for line := range strings.Lines(string(log)) {
			text := strings.TrimLeft(string(parse([]byte(strings.TrimRight(line, "\r\n"))).text), " ")
			fmt.Fprintf(&b, "[   12.345678][    T7] %s\n", strings.ReplaceAll(text, "[", "("))
		}
		alone := []byte(b.String())
		want := titles(feedAll(Rules{}, alone))
		if got := titles(feedAll(Rules{}, withNoise(alone))); got != want {
			t.Fatalf("interleaved:\n%salone:\n%s", got, want)
		}
	})
}

// TestQuietConsole has a console that shows the first lines of a report, and then the kernel's
// log, with all of them and what came before.
func TestQuietConsole(t *testing.T) {
	log, err := os.ReadFile("testdata/hung-task-mutex.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(log), "\n")
	d := NewDetector(Rules{})
	got := d.Feed([]byte(lines[0] + lines[2]))
	got = append(got, d.Feed([]byte("[    3.000000] WARNING: words\n[    3.100000]  old_function+0x1/0x2\n"))...)
	got = append(append(got, d.Feed(log)...), d.Flush()...)
	if len(got) != 1 || got[0].Title != "INFO: task hung in demo_store" {
		t.Fatalf("%+v", got)
	}
	if n := strings.Count(got[0].Excerpt, "blocked for more than"); n != 1 || strings.Contains(got[0].Excerpt, "old_") {
		t.Errorf("%d titles:\n%s", n, got[0].Excerpt)
	}
	if got := append(d.Feed(log), d.Flush()...); len(got) != 0 {
		t.Errorf("found again: %+v", got)
	}
}

func TestTaint(t *testing.T) {
	for text, want := range map[string]string{
		"CPU: 1 PID: 7 Comm: sh Tainted: G    B D W  O       6.6.30 #1": "GBDWO",
		"Tainted: [W]=WARN, [O]=OOT_MODULE":                             "WO",
		"CPU: 1 PID: 7 Comm: sh Not tainted 6.6.30 #1":                  "",
	} {
		if got := taintOf([]string{"first", text}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func BenchmarkDetectorInnocent(b *testing.B) {
	all := logs(b)
	var text []byte
	for len(text) < 1<<20 {
		text = append(text, all["ok-boot"]...)
		text = append(text, all["ok-systemd"]...)
		text = append(text, all["ok-innocent-text"]...)
	}
	for name, log := range map[string][]byte{
		"mixed": text,
		"stack": []byte(strings.Repeat("[   48.002000]  dump_stack_lvl+0x44/0x5c\n", 20000)),
		"blob":  []byte(strings.Repeat("no newline at all ", 60000)),
		"colour": []byte(strings.Repeat("[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mdemo.service\x1b[0m - Demo.\r\n",
			12000)),
	} {
		b.Run(name, func(b *testing.B) {
			d := NewDetector(Rules{})
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := log; len(rest) > 0; {
					n := min(len(rest), 4096)
					if len(d.Feed(rest[:n])) > 0 {
						b.Fatal("finding in innocent text")
					}
					rest = rest[n:]
				}
			}
		})
	}
}

// TestBegin judges lines without an end.
func TestBegin(t *testing.T) {
	var d Detector
	if d.Begin([]byte("[    1.000000] kernel BU")) {
		t.Error("a report began with half a title")
	}
	got := append(d.Feed([]byte("[    1.000000] kernel BUG at fs/x.c:1!\n")), d.Flush()...)
	if len(got) != 1 {
		t.Errorf("%+v", got)
	}
	if !d.Begin([]byte("[    2.000000] Kernel panic - not syncing: x")) {
		t.Error("a panic without an end was not seen")
	}
	if got := d.Flush(); len(got) != 1 || !got[0].Panic {
		t.Errorf("%+v", got)
	}
}
