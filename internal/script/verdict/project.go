package verdict

import (
	"context"
	"fmt"
)

// Project is what holds for the reports of all tests of a file. Its zero value knows nothing.
type Project struct {
	// Source puts lines of source behind the frames of a report of a profile's kernel. The text that
	// it returns is good also with an error. Nil leaves reports as they are.
	Source func(ctx context.Context, profile, report string) (string, error)
}

// named returns a report with lines of source, and a note on what is missing.
func (p *Project) named(vm VM, report string) (named, note string) {
	if p.Source == nil {
		return report, ""
	}
	named, err := p.Source(context.Background(), vm.Profile(), report)
	if err != nil {
		note = fmt.Sprintf("lines of source for the kernel of vm `%s`: %v", vm.Name(), err)
	}
	return named, note
}

// Name returns a text with lines of source behind its frames, and with a note on what is missing. It
// takes no longer than ctx allows. A nil Project returns the text as it is.
func (p *Project) Name(ctx context.Context, profile, text string) string {
	if p == nil || p.Source == nil {
		return text
	}
	named, err := p.Source(ctx, profile, text)
	switch {
	case err == nil:
		return named
	case ctx.Err() != nil:
		return named + "\n  (there was no time to look up all lines of source)"
	}
	return fmt.Sprintf("%s\n  (lines of source: %v)", named, err)
}
