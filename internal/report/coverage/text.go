package coverage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"provium/internal/terminal"
)

// JSON writes a report as one JSON object.
func JSON(w io.Writer, r *Report) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("coverage encode: %w", err)
	}
	return put(w, terminal.EscapeJSON(b.Bytes()))
}

func put(w io.Writer, text []byte) error {
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("coverage write: %w", err)
	}
	return nil
}

// maxListed is how many tests without a spec the text has.
const maxListed = 50

// Text writes a report for people. Values that no passing test covers come first and, with
// color, in red.
func Text(w io.Writer, r *Report, color bool) error {
	t := &text{color: color}
	t.totals(&r.Totals)
	t.spec(&r.Spec)
	t.timed("slowest files", r.SlowestFiles)
	t.timed("slowest tests", r.SlowestTests)
	t.fixtures(r.Fixtures)
	t.load(r)
	t.notes(r.Notes)
	return put(w, t.Bytes())
}

// TextBy writes groupings for people, a line for each value.
func TextBy(w io.Writer, groups []Grouping, color bool) error {
	t := &text{color: color}
	for i := range groups {
		t.grouping(&groups[i])
	}
	return put(w, t.Bytes())
}

type text struct {
	bytes.Buffer
	color bool
}

// line writes a line whose texts are escaped already.
func (t *text) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (t *text) head(format string, args ...any) {
	if t.Len() > 0 {
		t.WriteByte('\n')
	}
	t.line(format, args...)
}

func (t *text) paint(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// show makes one line of a text that can be shown.
func show(s string) string { return strings.ReplaceAll(terminal.Escape(s), "\n", " ") }

func (t *text) totals(r *Totals) {
	t.head("coverage: %s, %s, %.2fs", count(r.Files.All+r.NotStarted, "file"), count(r.Tests.All, "test"), r.Seconds)
	if r.Iterations > 1 {
		t.line("    iterations  %d", r.Iterations)
	}
	files := r.Files.String()
	if r.NotStarted > 0 {
		files += fmt.Sprintf(", %d not started", r.NotStarted)
	}
	t.line("    files       %s", files)
	t.line("    tests       %s", r.Tests)
	if g := r.Guests; g.All > 0 || g.Failed > 0 {
		t.line("    guests      %d: %d booted, %d from the boot cache, %d from snapshots; %s", g.All,
			g.Boots, g.Cached, g.Restored, count(g.Failed, "failed boot"))
	}
}

// String is the counts as a text, those that are 0 left out.
func (c Counts) String() string {
	parts := []string{fmt.Sprintf("%d passed", c.Passed)}
	for _, x := range []struct {
		n    int
		what string
	}{{c.Failed, "failed"}, {c.Skipped, "skipped"}, {c.Flaky, "flaky"}, {c.Unfinished, "unfinished"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(parts, ", ")
}

func (t *text) spec(g *Grouping) {
	if len(g.Values) == 0 {
		t.head("spec: no test has meta.spec")
		return
	}
	t.head("spec: %s", g.String())
	for _, v := range g.sorted() {
		word, code := "PASS   ", "32"
		if !v.Covered {
			word, code = "NO PASS", "31"
		}
		t.line("    %s %s (%s)", t.paint(code, word), show(v.Value), v.Counts)
		for _, test := range v.Tests {
			t.test("            ", test)
		}
	}
	if len(g.Without) == 0 {
		return
	}
	t.head("tests without spec: %d", len(g.Without))
	for _, test := range g.Without[:min(len(g.Without), maxListed)] {
		t.test("    ", test)
	}
	if more := len(g.Without) - maxListed; more > 0 {
		t.line("    and %d more (HTML and JSON have all)", more)
	}
}

func (t *text) test(indent string, r Test) {
	word, code := "PASS", "32"
	switch r.Status {
	case Failed:
		word, code = "FAIL", "31"
	case Skipped:
		word, code = "SKIP", "33"
	case Flaky:
		word, code = "FLAKY", "33"
	case Unfinished:
		word, code = "NO RESULT", "33"
	}
	t.line("%s%s %s: %s", indent, t.paint(code, word), show(r.Path), show(r.Name))
}

func (t *text) timed(what string, list []Timed) {
	if len(list) == 0 {
		return
	}
	t.head("%s:", what)
	for _, x := range list {
		name := show(x.Path)
		if x.Name != "" {
			name += "  " + show(x.Name)
		}
		t.line("%9.2fs  %s", x.Seconds, name)
	}
}

func (t *text) fixtures(list []Fixture) {
	if len(list) == 0 {
		return
	}
	t.head("fixtures:")
	for _, f := range list {
		builds := fmt.Sprintf("%s (%.2fs, %s)", count(f.Builds, "build"), f.Seconds, size(f.Bytes))
		if f.Failed > 0 {
			builds += t.paint("31", fmt.Sprintf(", %d failed", f.Failed))
		}
		t.line("    %s: %s, %s, %s", show(f.Name), builds, count(f.Hits, "hit"), count(f.Waits, "wait"))
	}
}

func (t *text) load(r *Report) {
	if r.Parallel.Most > 0 {
		t.head("files in parallel: at most %d, %.2f on average", r.Parallel.Most, r.Parallel.Average)
		for n, s := range r.Parallel.Seconds {
			if s > 0 {
				t.line("%9.2fs  %d", s, n)
			}
		}
	}
	if len(r.Waits) > 0 {
		t.head("waits:")
		for _, w := range r.Waits {
			t.line("%9.2fs  %s: %s, at most %.2fs (%s)", w.Seconds, show(w.Reason), count(w.Count, "time"), w.Longest,
				show(w.Path))
		}
	}
	if p := r.Pool; p != nil {
		t.head("pool:")
		t.line("    memory  at most %s, %s on average, of %s", size(p.MostMemory), size(p.AverageMemory),
			size(p.Memory))
		t.line("    CPUs    at most %d, %.2f on average, of %d", p.MostCPUs, p.AverageCPUs, p.CPUs)
	}
}

func (t *text) notes(list []string) {
	for _, n := range list {
		t.head("%s %s", t.paint("33", "note:"), show(n))
	}
}

func (t *text) grouping(g *Grouping) {
	all := len(g.Without)
	t.head("by %s: %s", show(g.Key), g.String())
	var b bytes.Buffer
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(columns, "tests\tpassed\tfailed\tskipped\ttime\t\n")
	row := func(c Counts, took float64) {
		fmt.Fprintf(columns, "%d\t%d\t%d\t%d\t%.2fs\t\n", c.All, c.Passed, c.Failed, c.Skipped, took)
	}
	names := []string{""}
	for _, v := range g.Values {
		row(v.Counts, v.Seconds)
		name := show(v.Value)
		if !v.Covered {
			name = t.paint("31", name+" (no test passed)")
		}
		names = append(names, name)
	}
	if all > 0 {
		var c Counts
		var took float64
		for _, test := range g.Without {
			c.add(test.Status)
			took += test.Seconds
		}
		row(c, took)
		names = append(names, "without "+show(g.Key))
	}
	_ = columns.Flush() // a buffer takes everything
	rows := strings.Split(b.String(), "\n")
	for i, name := range names {
		t.line("%s", strings.TrimRight("    "+rows[i]+"  "+name, " "))
	}
}

// count is a number of things.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// String says how many of the values are covered.
func (g *Grouping) String() string {
	if len(g.Values) == 1 {
		return fmt.Sprintf("%d of 1 value has a test that passed", g.Covered())
	}
	return fmt.Sprintf("%d of %d values have a test that passed", g.Covered(), len(g.Values))
}

// size is a number of bytes for people.
func size(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
