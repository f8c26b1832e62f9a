// Package export writes the results of a run in the formats that other programs read:
// JUnit XML, TAP 14, KTAP, and the annotations of GitHub Actions. It shows nothing to
// people, which is package report.
//
// Control characters of guests are escaped in all of them, as on a terminal: XML cannot
// carry them, and the others end up on terminals.
package export

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"provium/internal/report"
	"provium/internal/terminal"
)

// Run is a whole run, after its end.
type Run struct {
	Started time.Time
	Elapsed time.Duration
	// Host is the name of this machine.
	Host string
	// Facts say under what conditions the run was made, like its seed.
	Facts []Fact
	// Files are the results in the order of the candidates. With several iterations a file
	// is there once for each.
	Files []report.FileResult
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// place is the position at the start of a failure's message: "tests/a.test.lua:12: ".
var (
	place = regexp.MustCompile(`^([^\n:]+\.lua):([0-9]+): `)
	// placeOfCall is where the operation was called that a test was in at its limit.
	placeOfCall = regexp.MustCompile(`^timed out .* at ([^\n: ]+\.lua):([0-9]+)(?:\n|$)`)
)

// position returns where a failure happened, and its message without what it begins with of
// that. The file is "" where the message does not say it.
func position(message string) (file string, line int, text string) {
	m := place.FindStringSubmatch(message)
	if m != nil {
		text = message[len(m[0]):]
	} else if m, text = placeOfCall.FindStringSubmatch(message), message; m == nil {
		return "", 0, message
	}
	line, err := strconv.Atoi(m[2])
	if err != nil {
		return "", 0, message
	}
	return m[1], line, text
}

// firstLine is the first line of a text that is not blank, with control characters escaped.
func firstLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(terminal.Escape(text), "\n"), "\n")
	return first
}

// name is a test's name on one line.
func name(text string) string { return strings.ReplaceAll(terminal.Escape(text), "\n", " ") }

// fileFailure is why a file counts as failed beside its tests.
type fileFailure struct {
	kind    string // "chunk_error", "crashed", "timed_out", "interrupted"
	message string
}

// failureOf returns nil for a file that failed by its tests alone, or passed.
func failureOf(f report.FileResult) *fileFailure {
	switch {
	case f.Status == report.FileCrashed:
		return &fileFailure{string(f.Status), cmp.Or(f.ChunkError, "the file's process crashed")}
	case f.Status == report.FileTimedOut:
		return &fileFailure{string(f.Status), cmp.Or(f.ChunkError, "the file ran into its time limit")}
	case f.Status == report.FileInterrupted:
		return &fileFailure{string(f.Status), cmp.Or(f.ChunkError, "the file was interrupted")}
	case f.ChunkError != "":
		return &fileFailure{"chunk_error", f.ChunkError}
	}
	return nil
}

// flaky says how often a test has failed before it passed, "" for a test that has not.
func flaky(t report.TestResult) string {
	if !t.IsFlaky() {
		return ""
	}
	return fmt.Sprintf("flaky: passed at run %d", len(t.Retries)+1)
}

// attachments names files as readers of JUnit look for them.
func attachments(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&b, "[[ATTACHMENT|%s]]\n", name(path))
	}
	return b.String()
}

// evidence is what a test has left behind: its failed runs, its log and the ends of its
// consoles.
func evidence(t report.TestResult) string {
	var b strings.Builder
	if text := flaky(t); text != "" {
		b.WriteString(text + "\n")
	}
	for i, reason := range t.Retries {
		fmt.Fprintf(&b, "run %d failed: %s\n", i+1, terminal.Escape(reason))
	}
	if t.Output != "" {
		b.WriteString("printed:\n" + strings.TrimRight(terminal.Escape(t.Output), "\n") + "\n")
	}
	for _, a := range t.Attachments {
		if a.File != "" {
			b.WriteString(attachments([]string{a.File}))
		}
	}
	b.WriteString(attachments(t.Evidence))
	for _, entry := range t.Log {
		b.WriteString(terminal.Escape(entry))
		b.WriteByte('\n')
	}
	if t.ConsoleExcerpt != "" {
		b.WriteString("console:\n")
		b.WriteString(terminal.Escape(t.Console()))
		b.WriteByte('\n')
	}
	return b.String()
}
