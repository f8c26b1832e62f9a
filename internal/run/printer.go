package run

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"provium/internal/report"
)

// printer shows results: for people as they come, as JSON lines in candidate order.
type printer struct {
	o *Options

	mu     sync.Mutex
	text   *report.Terminal           // nil with --json
	json   *report.JSON               // nil without
	counts report.Counts              // of the iteration
	early  map[int]*report.FileResult // those that are to be shown after others
	next   int                        // the first candidate that was not shown
	err    error                      // the first one of writing

	results []report.FileResult // of the iteration
	tally   *report.Tally       // of all iterations, nil for a run that is not repeated
	slowest report.Slowest
}

func newPrinter(o *Options, repeats bool) *printer {
	p := &printer{o: o, early: map[int]*report.FileResult{}}
	if repeats {
		p.tally = &report.Tally{}
	}
	if o.JSON {
		p.json = report.NewJSON(o.Stdout)
		return p
	}
	cfg := report.TerminalConfig{Out: o.Stdout, Err: o.Stderr, Verbosity: o.Verbosity, Color: o.Color,
		Output: true}
	if repeats && o.Verbosity < report.Verbose {
		cfg.Verbosity = report.Quiet // what passes again and again is no news
	}
	p.text = report.NewTerminal(cfg)
	return p
}

// failed takes a test of a file that goes on. It is safe for concurrent use with ended.
func (p *printer) failed(path string, t report.TestResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != nil {
		p.keepError(p.text.Failure(path, t))
	}
}

// ended takes the result of the candidate with that number, nil if it never started.
func (p *printer) ended(number int, r *report.FileResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r != nil {
		p.counts.Add(*r)
		p.slowest.Add(*r)
		if p.tally != nil {
			p.results = append(p.results, *r)
		}
	}
	if p.json == nil {
		if r != nil {
			p.keepError(p.text.File(*r))
		}
		return
	}
	p.early[number] = r
	for {
		r, ok := p.early[p.next]
		if !ok {
			return
		}
		delete(p.early, p.next)
		p.next++
		if r != nil {
			p.keepError(p.json.File(*r))
		}
	}
}

// iteration ends an iteration, and shows its summary if it is the only one.
func (p *printer) iteration(elapsed time.Duration, notStarted int, show bool) {
	p.counts.NotStarted, p.next = notStarted, 0
	if p.tally != nil {
		p.tally.Add(p.results, notStarted)
		p.counts, p.results = report.Counts{}, nil
		return
	}
	if show {
		p.end(report.Summary(p.counts, elapsed))
	}
}

// end shows the slowest tests, if they are wanted, and the last lines.
func (p *printer) end(text string) {
	if p.o.Durations != nil {
		var b strings.Builder
		_ = p.slowest.Write(&b, *p.o.Durations) // a builder takes everything
		text = b.String() + "\n" + text
	}
	if p.text != nil {
		p.keepError(p.text.End(text, p.tally == nil))
		return
	}
	fmt.Fprintln(p.o.Stderr, text)
}

// keepError keeps the first error. A reader that has gone away (a pager, head) is
// no reason to stop the tests.
func (p *printer) keepError(err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("output: %w", err)
	}
}
