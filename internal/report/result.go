package report

import (
	"fmt"
	"strings"
	"time"
)

// FileStatus says how a test file ended.
type FileStatus string

// The statuses of a file.
const (
	FilePassed   FileStatus = "passed"
	FileFailed   FileStatus = "failed"
	FileTimedOut FileStatus = "timed_out"
	FileCrashed  FileStatus = "crashed"
	// FileInterrupted is a file that was torn down while it ran.
	FileInterrupted FileStatus = "interrupted"
)

// TestStatus says how a test ended.
type TestStatus string

// The statuses of a test.
const (
	TestPassed  TestStatus = "passed"
	TestFailed  TestStatus = "failed"
	TestSkipped TestStatus = "skipped"
)

// TestResult is the result of one test.
type TestResult struct {
	Name   string
	Status TestStatus
	// Message is why a test failed or was skipped: position and message first,
	// then difference, traceback and last operations, in lines.
	Message string
	// Log is what the test logged, entry by entry.
	Log      []string
	Duration time.Duration
	// Retries are why the runs of the test before the last one failed (--retries).
	Retries []string
	// ConsoleExcerpt is the end of the consoles of the test's guests.
	ConsoleExcerpt string
	// Output is the end of what the test has printed.
	Output      string
	Attachments []Attachment
	// Artifacts is the folder with the evidence of a failure, "" if nothing was kept, and Evidence are the
	// paths of its files, where a report names them.
	Artifacts string
	Evidence  []string
	// Reports are the titles of what the kernels of its guests have reported, each once.
	Reports []string
}

// FileResult is the result of one test file. It can be encoded as it is, to
// be passed on between processes.
type FileResult struct {
	// Path is relative to the project.
	Path   string
	Status FileStatus
	// ChunkError is what kept the file as such from running to its end: an
	// error at file scope, or how its process crashed. Empty if nothing did.
	ChunkError string
	Tests      []TestResult
	Duration   time.Duration
	// Output is the end of what the file has printed outside of tests.
	Output string
	// Artifacts and Evidence are as in [TestResult], of ChunkError.
	Artifacts string
	Evidence  []string
	// Warnings do not count as failures, like an error in closing a resource.
	Warnings []string
}

// Counts adds results up.
type Counts struct {
	// Files is how many files have a result.
	Files int
	// Passed, Failed and Skipped count tests.
	Passed, Failed, Skipped int
	// Flaky counts those of the passed tests that had failed before (--retries).
	Flaky int
	// FilesFailed counts files of every status but passed.
	FilesFailed int
	// FilesCrashed counts those of them whose process ended without a report.
	FilesCrashed int
	// FilesTimedOut counts those of them that were over their limit.
	FilesTimedOut int
	// FilesInterrupted counts those of them that were torn down.
	FilesInterrupted int
	// FilesBroken counts the others that have a chunk error.
	FilesBroken int
	// NotStarted counts selected files that were never dispatched; the caller
	// sets it.
	NotStarted int
}

// Add counts one result.
func (c *Counts) Add(r FileResult) {
	c.Files++
	if r.Status != FilePassed {
		c.FilesFailed++
	}
	switch {
	case r.Status == FileCrashed:
		c.FilesCrashed++
	case r.Status == FileTimedOut:
		c.FilesTimedOut++
	case r.Status == FileInterrupted:
		c.FilesInterrupted++
	case r.ChunkError != "":
		c.FilesBroken++
	}
	p, f, s := r.count()
	c.Passed += p
	c.Failed += f
	c.Skipped += s
	c.Flaky += r.flaky()
}

// IsFlaky reports whether a test has passed after it had failed.
func (t TestResult) IsFlaky() bool { return t.Status == TestPassed && len(t.Retries) > 0 }

// flaky counts the flaky tests.
func (r FileResult) flaky() (n int) {
	for _, t := range r.Tests {
		if t.IsFlaky() {
			n++
		}
	}
	return n
}

// flakyCount is the count of flaky tests behind other counts, "" for none.
func flakyCount(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d flaky", n)
}

// OK reports whether no file failed.
func (c Counts) OK() bool { return c.FilesFailed == 0 }

func (r FileResult) count() (passed, failed, skipped int) {
	for _, t := range r.Tests {
		switch t.Status {
		case TestPassed:
			passed++
		case TestFailed:
			failed++
		case TestSkipped:
			skipped++
		}
	}
	return passed, failed, skipped
}

// Verdict says how many files failed and why, without a newline; "" if all have run and none
// failed.
func (c Counts) Verdict() string {
	if c.OK() && c.NotStarted == 0 {
		return ""
	}
	var why []string
	for _, kind := range []struct {
		count     int
		one, many string
	}{
		{c.Failed, "test failed", "tests failed"},
		{c.FilesBroken, "did not load", ""},
		{c.FilesCrashed, "crashed", ""},
		{c.FilesTimedOut, "timed out", ""},
		{c.FilesInterrupted, "interrupted", ""},
		{c.NotStarted, "not started", ""},
	} {
		if kind.many == "" || kind.count == 1 {
			kind.many = kind.one
		}
		if kind.count > 0 {
			why = append(why, fmt.Sprintf("%d %s", kind.count, kind.many))
		}
	}
	all, files := c.Files+c.NotStarted, "files"
	if all == 1 {
		files = "file"
	}
	text := fmt.Sprintf("%d of %d %s failed", c.FilesFailed, all, files)
	if len(why) > 0 {
		text += " (" + strings.Join(why, ", ") + ")"
	}
	return text
}

// Summary is the end of a run: the verdict, if there is one, and the counts of all tests on a
// line of their own, without a newline behind it.
func Summary(c Counts, elapsed time.Duration) string {
	s := fmt.Sprintf("%d file(s); %d passed, %d failed, %d skipped%s; %.2fs",
		c.Files, c.Passed, c.Failed, c.Skipped, flakyCount(c.Flaky), elapsed.Seconds())
	if verdict := c.Verdict(); verdict != "" {
		s = verdict + "\n" + s
	}
	return s
}

// Header is what a run says about itself before anything starts.
type Header struct {
	// Files is how many files are selected.
	Files int
	// Accelerator is what guests run on, "kvm" or "tcg", and Why the reason. "" is a run
	// without guests.
	Accelerator string
	Why         string
	// Notes are further facts, like a seed that was drawn.
	Notes []string
}

// String is the header as one line, without a newline.
func (h Header) String() string {
	s := fmt.Sprintf("provium: %d file(s), ", h.Files)
	if h.Accelerator == "" {
		s += "no guests (--vmm local)"
	} else {
		s += "accelerator " + h.Accelerator
	}
	if h.Why != "" {
		s += " (" + h.Why + ")"
	}
	for _, n := range h.Notes {
		s += ", " + n
	}
	return s
}
