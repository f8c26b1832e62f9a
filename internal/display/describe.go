package display

import (
	"fmt"
	"strings"
	"time"
)

const (
	slowAfter = 15 * time.Second // when the first notice is due
	slowEvery = 30 * time.Second // from then on
)

// describe says what runs, and where each test stands.
func (p *progress) describe(now time.Time) string {
	var b strings.Builder
	if p.started.IsZero() {
		b.WriteString("provium: preparing\n")
	} else {
		all := p.done + len(p.running) + len(p.waiting)
		fmt.Fprintf(&b, "provium: %d of %s, %d failed, %d running, %d left, %s\n", p.done, plural(all, "file"),
			p.failed, len(p.running), len(p.waiting), short(now.Sub(p.started)))
	}
	for _, j := range p.inOrder() {
		fmt.Fprintf(&b, "  %s, %s\n", j.text(), short(now.Sub(j.since)))
	}
	for _, f := range p.files() {
		fmt.Fprintf(&b, "  %s: %d passed, %d failed, %d skipped, %s, %s\n", clean(f.path), f.passed, f.failed,
			f.skipped, plural(len(f.guests), "guest"), short(now.Sub(f.started)))
		fmt.Fprintf(&b, "    %s, %s\n", f.position(), short(now.Sub(f.since)))
		for _, boot := range f.booting() {
			fmt.Fprintf(&b, "      vm %s %s, %s\n", clean(boot.vm), stageText(boot.stage), short(now.Sub(boot.since)))
		}
		for _, op := range f.operations(now) {
			fmt.Fprintf(&b, "      %s\n", op.text(now))
		}
	}
	for _, r := range p.reasons() {
		fmt.Fprintf(&b, "  %s: %s\n", plural(r.count, "waiting file"), r.text)
	}
	return b.String()
}

// position names the test that runs.
func (f *runningFile) position() string {
	switch {
	case f.test != "" && f.where != "":
		return fmt.Sprintf("test `%s` (%s)", clean(f.test), clean(f.where))
	case f.test != "":
		return fmt.Sprintf("test `%s`", clean(f.test))
	case f.passed+f.failed+f.skipped > 0:
		return "between tests"
	}
	return "at file scope"
}

func (op *operation) text(now time.Time) string {
	text := clean(op.call)
	if op.vm != "" {
		text += " of " + clean(op.vm)
	}
	if op.where != "" {
		text += " at " + clean(op.where)
	}
	return text + ", " + short(now.Sub(op.since))
}

// slow returns the notices that are due, a line each.
func (p *progress) slow(now time.Time) []string {
	var out []string
	for _, j := range p.inOrder() {
		if took := now.Sub(j.since); due(took, &j.noticed) {
			out = append(out, fmt.Sprintf("provium: slow: %s, %s", j.text(), short(took)))
		}
	}
	for _, f := range p.files() {
		took := now.Sub(f.since)
		if !due(took, &f.noticed) {
			continue
		}
		text := fmt.Sprintf("provium: slow: %s: %s, %s", clean(f.path), f.position(), short(took))
		if boots := f.booting(); len(boots) > 0 {
			text += fmt.Sprintf(": vm %s %s", clean(boots[0].vm), stageText(boots[0].stage))
		} else if ops := f.operations(now); len(ops) > 0 {
			text += ": " + ops[0].text(now)
		}
		out = append(out, text)
	}
	return out
}

// due reports whether something that has lasted so long is to be noticed, and notes it.
func due(took time.Duration, noticed *time.Duration) bool {
	next := slowAfter
	if *noticed > 0 {
		next = *noticed + slowEvery
	}
	if took < next {
		return false
	}
	*noticed = slowAfter + (took-slowAfter)/slowEvery*slowEvery
	return true
}
