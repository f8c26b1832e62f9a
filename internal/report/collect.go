package report

import (
	"slices"
	"time"

	"provium/internal/event"
)

// Collector makes results from the events of a stream. It is an [event.Sink].
// Chunk errors and warnings are no events, so results made here have none. It
// is used from one goroutine at a time.
type Collector struct {
	done func(FileResult)
	open map[string]*openFile
}

// openFile is a file that has not completed.
type openFile struct {
	result  FileResult
	started int64
	order   int
	running string // name of the test that has started and not ended
	since   int64
}

// NewCollector returns a collector that calls done with every file that
// completes, in the order of the stream.
func NewCollector(done func(FileResult)) *Collector {
	return &Collector{done: done, open: map[string]*openFile{}}
}

// Put implements [event.Sink]. It never fails; events that no file_dispatched
// preceded are taken as they come.
func (c *Collector) Put(env event.Envelope) error {
	switch e := env.Event.(type) {
	case event.FileDispatched:
		c.file(e.Path, env.TS)
	case event.TestStarted:
		f := c.file(e.Path, env.TS)
		f.running, f.since = e.Name, env.TS
	case event.TestPassed:
		c.test(e.Path, env.TS, TestResult{Name: e.Name, Status: TestPassed, Log: e.Log, Duration: duration(e.DurationNS)})
	case event.TestFailed:
		c.test(e.Path, env.TS, TestResult{Name: e.Name, Status: TestFailed, Message: e.Reason, Log: e.Log,
			Duration: duration(e.DurationNS), ConsoleExcerpt: e.ConsoleExcerpt})
	case event.TestSkipped:
		c.test(e.Path, env.TS, TestResult{Name: e.Name, Status: TestSkipped, Message: e.Reason})
	case event.FileCompleted:
		f := c.file(e.Path, env.TS)
		delete(c.open, e.Path)
		f.result.Status = FileStatus(e.Status)
		f.result.Duration = duration(e.DurationNS)
		c.done(f.result)
	}
	return nil
}

// Unfinished returns the files that were dispatched and have not completed, as
// interrupted, in the order of their start. now ends their durations, in
// nanoseconds since 1970. A test that was running counts as failed.
func (c *Collector) Unfinished(now int64) []FileResult {
	var files []*openFile
	for _, f := range c.open {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *openFile) int { return a.order - b.order })
	var results []FileResult
	for _, f := range files {
		r := f.result
		r.Tests = slices.Clone(r.Tests)
		if f.running != "" {
			r.Tests = append(r.Tests, TestResult{Name: f.running, Status: TestFailed, Message: "interrupted", Duration: time.Duration(max(0, now-f.since))})
		}
		r.Status = FileInterrupted
		r.Duration = time.Duration(max(0, now-f.started))
		results = append(results, r)
	}
	return results
}

func (c *Collector) file(path string, ts int64) *openFile {
	f := c.open[path]
	if f == nil {
		f = &openFile{result: FileResult{Path: path}, started: ts}
		for _, o := range c.open {
			f.order = max(f.order, o.order+1)
		}
		c.open[path] = f
	}
	return f
}

func (c *Collector) test(path string, ts int64, r TestResult) {
	f := c.file(path, ts)
	f.running = ""
	f.result.Tests = append(f.result.Tests, r)
}

// duration converts without overflow: a stream is not to be trusted.
func duration(ns uint64) time.Duration {
	const most = 1<<63 - 1
	return time.Duration(min(ns, most))
}
