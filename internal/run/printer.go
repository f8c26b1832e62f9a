package run

import (
	"fmt"
	"time"

	"provium/internal/report"
)

// printer shows results as they come, for people or as JSON lines.
type printer struct {
	o      *Options
	text   *report.Terminal // nil with --json
	json   *report.JSON     // nil without
	counts report.Counts
	err    error // the first one of writing
}

func newPrinter(o *Options) *printer {
	if o.JSON {
		return &printer{o: o, json: report.NewJSON(o.Stdout)}
	}
	cfg := report.TerminalConfig{Out: o.Stdout, Err: o.Stderr, Verbosity: o.Verbosity, Color: o.Color}
	return &printer{o: o, text: report.NewTerminal(cfg)}
}

func (p *printer) file(r *report.FileResult) {
	p.counts.Add(*r)
	if p.json != nil {
		p.keepError(p.json.File(*r))
		return
	}
	p.keepError(p.text.File(*r))
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
