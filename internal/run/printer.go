package run

import (
	"fmt"
	"time"

	"provium/internal/report"
)

// printer shows results: for people as they come, as JSON lines in candidate order.
type printer struct {
	o      *Options
	text   *report.Terminal // nil with --json
	json   *report.JSON     // nil without
	counts report.Counts
	early  map[int]*report.FileResult // those that are to be shown after others
	next   int                        // the first candidate that was not shown
	err    error                      // the first one of writing
}

func newPrinter(o *Options) *printer {
	if o.JSON {
		return &printer{o: o, json: report.NewJSON(o.Stdout), early: map[int]*report.FileResult{}}
	}
	cfg := report.TerminalConfig{Out: o.Stdout, Err: o.Stderr, Verbosity: o.Verbosity, Color: o.Color}
	return &printer{o: o, text: report.NewTerminal(cfg)}
}

// ended takes the result of the candidate with that number, nil if it never started.
func (p *printer) ended(number int, r *report.FileResult) {
	if r != nil {
		p.counts.Add(*r)
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

func (p *printer) summary(elapsed time.Duration, notStarted int) {
	p.counts.NotStarted = notStarted
	if p.text != nil {
		p.keepError(p.text.Summary(p.counts, elapsed))
		return
	}
	fmt.Fprintln(p.o.Stderr, report.Summary(p.counts, elapsed))
}

// keepError keeps the first error. A reader that has gone away (a pager, head) is
// no reason to stop the tests.
func (p *printer) keepError(err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("output: %w", err)
	}
}
