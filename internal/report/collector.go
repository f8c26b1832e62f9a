package report

import (
	"slices"
	"time"

	"provium/internal/event"
)

// Collector makes the result of one test file from the file's events, as they
// come or from a saved stream. It is used from one goroutine at a time.
type Collector struct {
	path     string
	tests    []TestResult
	running  *event.TestStarted
	expected []string // tests without a result

	retries map[string][]string // reasons of failed runs of tests without a result
	left    evidence
}

// NewCollector returns a Collector for the file at path.
func NewCollector(path string) *Collector { return &Collector{path: path} }

// Expect sets the names of the tests that must have a result.
func (c *Collector) Expect(tests []string) { c.expected = slices.Clone(tests) }

// Add takes an event of the file. Those that are not about tests change nothing.
func (c *Collector) Add(e event.Event) {
	switch e := e.(type) {
	case event.TestStarted:
		c.running = &e
		c.left.reports = nil // of what came before
	case event.TestPassed:
		c.finished(TestResult{Name: e.Name, Status: TestPassed, Log: e.Log, Duration: duration(e.DurationNS)})
	case event.TestFailed:
		c.finished(TestResult{
			Name: e.Name, Status: TestFailed, Message: e.Reason, Log: e.Log,
			Duration: duration(e.DurationNS), ConsoleExcerpt: e.ConsoleExcerpt, Artifacts: e.Artifacts,
		})
	case event.TestSkipped:
		c.finished(TestResult{Name: e.Name, Status: TestSkipped, Message: e.Reason})
	case event.TestRetried:
		if c.retries == nil {
			c.retries = map[string][]string{}
		}
		c.retries[e.Name] = append(c.retries[e.Name], e.Reason)
	case event.KernelReport:
		c.left.report(e.Title)
	case event.TestOutput:
		c.left.print(e.Name, e.Text)
	case event.TestAttachment:
		c.left.attach(e.Name, Attachment{Name: e.Attachment, Size: e.Size, Data: e.Data})
	}
}

func (c *Collector) finished(t TestResult) {
	c.running = nil
	t.Retries = c.retries[t.Name]
	delete(c.retries, t.Name)
	c.left.take(&t)
	c.expected = slices.DeleteFunc(c.expected, func(name string) bool { return name == t.Name })
	c.tests = append(c.tests, t)
}

// Running returns the test that has started and not ended, or nil.
func (c *Collector) Running() *event.TestStarted { return c.running }

// Missing returns the names of the expected tests without a result, in order.
func (c *Collector) Missing() []string { return slices.Clone(c.expected) }

// Tests returns how many tests have a result.
func (c *Collector) Tests() int { return len(c.tests) }

// Test returns the latest result of the test of that name.
func (c *Collector) Test(name string) (TestResult, bool) {
	for _, t := range slices.Backward(c.tests) {
		if t.Name == name {
			return t, true
		}
	}
	return TestResult{}, false
}

// Failed reports whether a test has failed.
func (c *Collector) Failed() bool {
	return slices.ContainsFunc(c.tests, func(t TestResult) bool { return t.Status == TestFailed })
}

// Result returns the file's result. Status, chunk error and duration are not told
// by the events of its tests.
func (c *Collector) Result(status FileStatus, chunkError string, took time.Duration) FileResult {
	return FileResult{
		Path: c.path, Status: status, ChunkError: chunkError, Tests: slices.Clone(c.tests), Duration: took,
		Output: c.left.output[""],
	}
}

// duration converts without overflow: a stream is not to be trusted.
func duration(ns uint64) time.Duration {
	const most = 1<<63 - 1
	return time.Duration(min(ns, most))
}
