package export

import (
	"fmt"
	"io"
	"strings"

	"provium/internal/report"
	"provium/internal/terminal"
)

// tap is a dialect of the Test Anything Protocol.
type tap struct {
	strings.Builder
	version string // the line that begins a document
	nested  bool   // a subtest begins with that line, too
	indent  string // of a subtest
	dash    string // between number and description
	escape  *strings.Replacer
	// diagnose writes why a test failed, or a file as such.
	diagnose func(t *tap, indent, kind, message string)
}

// TAP writes TAP version 14 (testanything.org), each file as a subtest, with YAML
// diagnostics.
func TAP(w io.Writer, r Run) error {
	t := &tap{version: "TAP version 14", indent: "    ", dash: "- ",
		escape: strings.NewReplacer(`\`, `\\`, "#", `\#`), diagnose: (*tap).yaml}
	return t.run(w, r)
}

// KTAP writes KTAP version 1, as the kernel's Documentation/dev-tools/ktap.rst has it,
// each file as a nested test, with diagnostic lines before the result.
func KTAP(w io.Writer, r Run) error {
	t := &tap{version: "KTAP version 1", nested: true, indent: "  ",
		escape: strings.NewReplacer("#", "_"), diagnose: (*tap).lines}
	return t.run(w, r)
}

func (t *tap) run(w io.Writer, r Run) error {
	fmt.Fprintf(t, "%s\n1..%d\n", t.version, len(r.Files))
	for i, f := range r.Files {
		t.file(i+1, f)
	}
	if _, err := io.WriteString(w, t.String()); err != nil {
		return fmt.Errorf("tap write: %w", err)
	}
	return nil
}

// file writes a file as a test with subtests.
func (t *tap) file(number int, f report.FileResult) {
	in, why := t.indent, failureOf(f)
	tests := len(f.Tests)
	if why != nil {
		tests++
	}
	if t.nested {
		fmt.Fprintf(t, "%s%s\n%s# Subtest: %s\n", in, t.version, in, name(f.Path))
	} else {
		fmt.Fprintf(t, "%s# Subtest: %s\n", "", name(f.Path))
	}
	fmt.Fprintf(t, "%s1..%d", in, tests)
	if tests == 0 && !t.nested {
		t.WriteString(" # no tests")
	}
	t.WriteByte('\n')
	for i, test := range f.Tests {
		t.test(i+1, test)
	}
	if why != nil {
		t.result(in, tests, fileCase, why.kind, why.message, "")
	}
	status := "ok"
	if f.Status != report.FilePassed {
		status = "not ok"
	}
	fmt.Fprintf(t, "%s %d %s%s\n", status, number, t.dash, t.text(f.Path))
}

func (t *tap) test(number int, r report.TestResult) {
	if t.nested {
		t.retries(r)
	}
	switch r.Status {
	case report.TestFailed:
		t.result(t.indent, number, r.Name, "failed", r.Message, "")
	case report.TestSkipped:
		t.result(t.indent, number, r.Name, "", "", " # SKIP "+t.text(firstLine(r.Message)))
	default:
		t.result(t.indent, number, r.Name, "", "", "")
	}
	if !t.nested {
		t.retries(r)
	}
}

// retries writes how a test had failed that ran again.
func (t *tap) retries(r report.TestResult) {
	if text := flaky(r); text != "" {
		t.lines(t.indent, "", text)
	}
	for i, reason := range r.Retries {
		t.lines(t.indent, "", fmt.Sprintf("run %d failed: %s", i+1, firstLine(reason)))
	}
}

// result writes the line of a test. kind is "" for one that did not fail.
func (t *tap) result(indent string, number int, test, kind, message, directive string) {
	status := "ok"
	if kind != "" {
		status = "not ok"
	}
	if kind != "" && t.nested {
		t.diagnose(t, indent, kind, message)
	}
	fmt.Fprintf(t, "%s%s %d %s%s%s\n", indent, status, number, t.dash, t.text(test), directive)
	if kind != "" && !t.nested {
		t.diagnose(t, indent, kind, message)
	}
}

// text is a description.
func (t *tap) text(s string) string { return t.escape.Replace(name(s)) }

// yaml writes a YAML block behind a result.
func (t *tap) yaml(indent, kind, message string) {
	in := indent + "  "
	fmt.Fprintf(t, "%s---\n%sseverity: fail\n%skind: %s\n", in, in, in, kind)
	if file, line, _ := position(message); file != "" {
		fmt.Fprintf(t, "%sat: %q\n", in, fmt.Sprintf("%s:%d", terminal.Escape(file), line))
	}
	text := terminal.Escape(message)
	if !strings.Contains(text, "\n") || strings.ContainsAny(text[:1], " \t\n") {
		fmt.Fprintf(t, "%smessage: %q\n", in, text)
	} else {
		fmt.Fprintf(t, "%smessage: |\n", in)
		for l := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(t, "%s  %s\n", in, l)
		}
	}
	fmt.Fprintf(t, "%s...\n", in)
}

// lines writes diagnostic lines. None of them looks like the head of a subtest.
func (t *tap) lines(indent, _, message string) {
	for l := range strings.SplitSeq(terminal.Escape(message), "\n") {
		if strings.HasPrefix(l, "Subtest:") {
			l = " " + l
		}
		fmt.Fprintf(t, "%s\n", strings.TrimRight(indent+"# "+l, " "))
	}
}
