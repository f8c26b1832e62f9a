package report

import (
	"fmt"
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
	// ConsoleExcerpt is the end of the consoles of the test's guests.
	ConsoleExcerpt string
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
	// Warnings do not count as failures, like an error in closing a resource.
	Warnings []string
}

// Counts adds results up.
type Counts struct {
	// Files is how many files have a result.
	Files int
	// Passed, Failed and Skipped count tests.
	Passed, Failed, Skipped int
	// FilesFailed counts files of every status but passed.
	FilesFailed int
	// FilesCrashed counts those of them whose process ended without a report.
	FilesCrashed int
	// FilesBroken counts those of them that failed by a chunk error.
	FilesBroken int
	// FilesInterrupted counts those of them that were torn down.
	FilesInterrupted int
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
	case r.Status == FileInterrupted:
		c.FilesInterrupted++
	case r.ChunkError != "":
		c.FilesBroken++
	}
	p, f, s := r.count()
	c.Passed += p
	c.Failed += f
	c.Skipped += s
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

// Summary is the last line of a run, without a newline.
func Summary(c Counts, elapsed time.Duration) string {
	s := fmt.Sprintf("%d file(s); %d passed, %d failed, %d skipped; %.2fs",
		c.Files, c.Passed, c.Failed, c.Skipped, elapsed.Seconds())
	if c.FilesBroken > 0 {
		s += fmt.Sprintf("; %d file(s) with a chunk error", c.FilesBroken)
	}
	if c.FilesCrashed > 0 {
		s += fmt.Sprintf("; %d file(s) crashed", c.FilesCrashed)
	}
	if c.NotStarted > 0 {
		s += fmt.Sprintf("; %d file(s) not started", c.NotStarted)
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
