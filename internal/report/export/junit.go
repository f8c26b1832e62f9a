package export

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"provium/internal/report"
	"provium/internal/terminal"
)

// fileCase is the test case that stands for what went wrong with a file as such.
const fileCase = "(file)"

// JUnit writes one test suite per file, in the form that Jenkins' schema for JUnit 10 and
// its readers take. What a schema for all has no place for stands in texts: the position
// of a failure begins its text, and notes of the file are its suite's standard error.
func JUnit(w io.Writer, r Run) error {
	all := junit.Testsuites{Name: "provium", Time: seconds(r.Elapsed)}
	started := r.Started
	for i, f := range r.Files {
		all.AddSuite(suite(r, i, f, started))
	}
	all.Skipped = 0 // the schema has it for suites only
	if _, err := io.WriteString(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"); err != nil {
		return fmt.Errorf("junit write: %w", err)
	}
	if err := all.WriteXML(w); err != nil {
		return fmt.Errorf("junit write: %w", err)
	}
	return nil
}

func suite(r Run, number int, f report.FileResult, started time.Time) junit.Testsuite {
	s := junit.Testsuite{
		Name: name(f.Path), File: name(f.Path), ID: number, Hostname: name(r.Host), Time: seconds(f.Duration),
		Timestamp: started.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, fact := range r.Facts {
		s.AddProperty(name(fact.Name), name(fact.Value))
	}
	s.AddProperty("status", string(f.Status))
	for _, t := range f.Tests {
		if t.IsFlaky() {
			s.AddProperty("flaky", name(t.Name))
		}
	}
	for _, t := range f.Tests {
		s.AddTestcase(testcase(f.Path, t))
	}
	if why := failureOf(f); why != nil {
		c := junit.Testcase{Name: fileCase, Classname: name(f.Path), Time: seconds(0),
			Error: &junit.Result{Message: firstLine(why.message), Type: why.kind, Data: xmlText(why.message)}}
		if len(f.Evidence) > 0 {
			c.SystemOut = &junit.Output{Data: xmlText(attachments(f.Evidence))}
		}
		s.AddTestcase(c)
	}
	if len(f.Warnings) > 0 {
		var text string
		for _, warning := range f.Warnings {
			text += "warning: " + xmlText(warning) + "\n"
		}
		s.SystemErr = &junit.Output{Data: text}
	}
	return s
}

func testcase(path string, t report.TestResult) junit.Testcase {
	c := junit.Testcase{Name: name(t.Name), Classname: name(path), Time: seconds(t.Duration)}
	switch t.Status {
	case report.TestSkipped:
		c.Skipped = &junit.Result{Message: firstLine(t.Message)}
	case report.TestFailed:
		_, _, text := position(t.Message)
		c.Failure = &junit.Result{Message: firstLine(text), Type: "failed", Data: xmlText(t.Message)}
	}
	if text := evidence(t); text != "" {
		c.SystemOut = &junit.Output{Data: xmlText(text)}
	}
	return c
}

// xmlText is a text of a test or a guest without what XML cannot carry.
func xmlText(text string) string {
	return strings.Map(func(r rune) rune {
		if r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, terminal.Escape(text))
}

// seconds is a duration as JUnit has it.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
