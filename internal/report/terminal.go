package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"provium/internal/terminal"
)

// Verbosity is how much a terminal shows.
type Verbosity int

// The levels, from least to most; the zero value is the default.
const (
	// Quiet shows failed files with their failed tests, and the summary.
	Quiet Verbosity = iota - 1
	// Normal shows all files, and failed tests.
	Normal
	// Verbose shows all files and tests, with reasons and logs.
	Verbose
)

// consoleLines is how much of a console excerpt is shown unless Verbose.
const consoleLines = 20

// TerminalConfig is how results are shown. Only Out is needed.
type TerminalConfig struct {
	Out io.Writer
	// Err takes warnings; nil drops them.
	Err       io.Writer
	Verbosity Verbosity
	// Color says that Out is a terminal that shows colours.
	Color bool
	// Output says to show what tests have printed, which has gone nowhere else.
	Output bool
}

// Terminal renders results for people. Control characters in names, messages
// and console output are shown as escapes, so that a guest cannot draw on the host's
// terminal. It is not safe for concurrent use.
type Terminal struct {
	cfg    TerminalConfig
	shown  bool
	failed []string            // "path: test" of what did not pass
	early  map[string][]string // names of the failed tests that Failure has shown, by path
	titles map[string]int      // failed tests in which a kernel has reported that
}

// NewTerminal returns a renderer.
func NewTerminal(cfg TerminalConfig) *Terminal {
	return &Terminal{cfg: cfg, early: map[string][]string{}, titles: map[string]int{}}
}

// Failure shows a failed test of a file that goes on. File then has only the first line of it.
func (t *Terminal) Failure(path string, r TestResult) error {
	var b block
	b.color = t.cfg.Color
	word, color := testWord(r.Status)
	b.line(0, "%s %s: %s%s", b.paint(color, word), terminal.Escape(path), oneLine(r.Name), took(" (%s)", r.Duration))
	t.details(&b, 1, r)
	t.early[path] = append(t.early[path], r.Name)
	t.shown = true
	if _, err := io.WriteString(t.cfg.Out, b.String()); err != nil {
		return fmt.Errorf("result write: %w", err)
	}
	return nil
}

// File shows one file, with a single write. The order of files is the caller's.
func (t *Terminal) File(r FileResult) error {
	if len(r.Warnings) > 0 && t.cfg.Err != nil {
		var w strings.Builder
		for _, text := range r.Warnings {
			fmt.Fprintf(&w, "provium: warning: %s: %s\n", terminal.Escape(r.Path), terminal.Escape(text))
		}
		if _, err := io.WriteString(t.cfg.Err, w.String()); err != nil {
			return fmt.Errorf("warning write: %w", err)
		}
	}
	flaky := r.flaky()
	if t.cfg.Verbosity <= Quiet && r.Status == FilePassed && flaky == 0 {
		return nil
	}
	var b block
	b.color = t.cfg.Color
	passed, failed, skipped := r.count()
	word, color := fileWord(r.Status)
	if r.Status == FilePassed && flaky > 0 {
		word, color = flakyWord, yellow
	}
	b.line(0, "%s %s (%d passed, %d failed, %d skipped%s)%s", b.paint(color, word), terminal.Escape(r.Path), passed,
		failed, skipped, flakyCount(flaky), took(" %s", r.Duration))
	t.failed = append(t.failed, r.failures()...)
	if r.ChunkError != "" {
		first, rest, _ := strings.Cut(terminal.Escape(r.ChunkError), "\n")
		head := "chunk error:"
		if r.Status == FileCrashed {
			head = "crashed:"
		}
		b.line(1, "%s %s", b.paint(red, head), first)
		b.text(2, rest)
	}
	t.printed(&b, 1, r.Output, r.Status != FilePassed)
	for _, test := range r.Tests {
		t.test(&b, test, slices.Contains(t.early[r.Path], test.Name))
		if test.Status == TestFailed {
			for _, title := range test.Reports {
				t.titles[title]++
			}
		}
	}
	delete(t.early, r.Path)
	t.shown = true
	if _, err := io.WriteString(t.cfg.Out, b.String()); err != nil {
		return fmt.Errorf("result write: %w", err)
	}
	return nil
}

// test shows a test of a file, of which early says that Failure has shown it.
func (t *Terminal) test(b *block, r TestResult, early bool) {
	printed := t.cfg.Output && r.Output != "" && t.cfg.Verbosity >= Normal
	if r.Status != TestFailed && t.cfg.Verbosity < Verbose && !r.IsFlaky() && !printed {
		return
	}
	word, color := testWord(r.Status)
	if r.IsFlaky() {
		word, color = flakyWord, yellow
	}
	b.line(1, "%s %s%s", b.paint(color, word), oneLine(r.Name), took(" (%s)", r.Duration))
	if early {
		first, _, _ := strings.Cut(terminal.Escape(r.Message), "\n")
		b.failure(2, first)
		return
	}
	t.details(b, 2, r)
}

// details shows what is known of a test.
func (t *Terminal) details(b *block, depth int, r TestResult) {
	verbose := t.cfg.Verbosity >= Verbose
	if r.Status == TestFailed {
		b.failure(depth, terminal.Escape(r.Message))
	} else {
		b.text(depth, terminal.Escape(r.Message))
	}
	t.printed(b, depth, r.Output, r.Status == TestFailed)
	if r.Status == TestFailed || verbose {
		for _, a := range r.Attachments {
			b.line(depth, "%s %s (%d bytes)", b.paint(dim, "attached:"), oneLine(a.Name), a.Size)
		}
	}
	for i, reason := range r.Retries {
		b.line(depth, "%s", b.paint(dim, fmt.Sprintf("run %d of %d failed:", i+1, len(r.Retries)+1)))
		b.text(depth+1, terminal.Escape(reason))
	}
	if verbose && len(r.Log) > 0 {
		b.line(depth, "%s", b.paint(dim, "log:"))
		for _, entry := range r.Log {
			b.text(depth+1, orBlank(terminal.Escape(entry)))
		}
	}
	if r.Status == TestFailed && r.ConsoleExcerpt != "" {
		text, cut := terminal.Escape(r.Console()), 0
		if !verbose {
			text, cut = lastLines(text, consoleLines)
		}
		head := "console:"
		if cut > 0 {
			head = fmt.Sprintf("console (%d lines above are shown with -v):", cut)
		}
		b.line(depth, "%s", b.paint(dim, head))
		b.text(depth+1, text)
	}
}

// printed shows what a test or a file has printed; with Quiet only of what has failed.
func (t *Terminal) printed(b *block, depth int, text string, failed bool) {
	if text == "" || !t.cfg.Output || t.cfg.Verbosity <= Quiet && !failed {
		return
	}
	b.line(depth, "%s", b.paint(dim, "printed:"))
	b.text(depth+1, terminal.Escape(text))
}

// Summary shows what failed once more, sorted, and the end of a run.
func (t *Terminal) Summary(c Counts, elapsed time.Duration) error {
	return t.End(Summary(c, elapsed), true)
}

// End shows lines behind all files, apart from them. list says to show before them what failed
// once more, sorted.
func (t *Terminal) End(text string, list bool) error {
	var b block
	b.color = t.cfg.Color
	if list && len(t.failed) > 0 {
		slices.Sort(t.failed)
		b.line(0, "\n%s", b.paint(red, "failed:"))
		for _, f := range t.failed {
			b.line(1, "%s", f)
		}
		t.commonReports(&b)
	}
	if t.shown {
		b.WriteByte('\n')
	}
	s := b.String() + text + "\n"
	if _, err := io.WriteString(t.cfg.Out, s); err != nil {
		return fmt.Errorf("summary write: %w", err)
	}
	return nil
}

// commonReports shows what kernels have reported in several of the failed tests: these have one
// cause, probably.
func (t *Terminal) commonReports(b *block) {
	titles := slices.Collect(maps.Keys(t.titles))
	titles = slices.DeleteFunc(titles, func(title string) bool { return t.titles[title] < 2 })
	slices.SortFunc(titles, func(x, y string) int {
		return cmp.Or(cmp.Compare(t.titles[y], t.titles[x]), cmp.Compare(x, y))
	})
	if len(titles) == 0 {
		return
	}
	b.line(0, "%s", b.paint(red, "the kernel reported in several of them:"))
	for _, title := range titles {
		b.line(1, "%s (%d tests)", terminal.Escape(title), t.titles[title])
	}
}

// oneLine is the name of a test.
func oneLine(name string) string { return strings.ReplaceAll(terminal.Escape(name), "\n", " ") }

// took is a duration in a format; "" for what did not run.
func took(format string, d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(format, fmt.Sprintf("%.2fs", d.Seconds()))
}

func fileWord(s FileStatus) (string, ansi.Style) {
	switch s {
	case FilePassed:
		return "PASS", green
	case FileTimedOut:
		return "TIME", red
	case FileCrashed:
		return "CRASH", red
	case FileInterrupted:
		return "INTR", yellow
	}
	return "FAIL", red
}

// flakyWord stands for a test that has passed after it had failed, and for a file with one.
const flakyWord = "FLAKY"

func testWord(s TestStatus) (string, ansi.Style) {
	switch s {
	case TestPassed:
		return "PASS", green
	case TestSkipped:
		return "SKIP", yellow
	}
	return "FAIL", red
}

// block collects the indented lines of one file.
type block struct {
	strings.Builder
	color bool
}

func (b *block) paint(style ansi.Style, s string) string { return painter{b.color}.paint(style, s) }

func (b *block) line(depth int, format string, args ...any) {
	b.WriteString(strings.Repeat("    ", depth))
	fmt.Fprintf(b, format, args...)
	b.WriteByte('\n')
}

// text writes every line of s; blank lines get no trailing spaces.
func (b *block) text(depth int, s string) {
	if s == "" {
		return
	}
	for _, l := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		b.row(depth, l)
	}
}

func (b *block) row(depth int, l string) {
	if strings.TrimSpace(l) == "" {
		b.WriteByte('\n')
		return
	}
	b.line(depth, "%s", l)
}

// failure writes a failure's text: the message stands out, differences are
// coloured, and the rest is as it comes.
func (b *block) failure(depth int, s string) {
	if s == "" {
		return
	}
	for _, l := range (painter{b.color}).failure(strings.Split(strings.TrimRight(s, "\n"), "\n")) {
		b.row(depth, l)
	}
}

func orBlank(s string) string {
	if s == "" {
		return "\n"
	}
	return s
}

// lastLines returns the last n lines of s and how many it left out.
func lastLines(s string, n int) (string, int) {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	cut := max(0, len(lines)-n)
	return strings.Join(lines[cut:], "\n"), cut
}
