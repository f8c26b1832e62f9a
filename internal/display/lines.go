package display

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"provium/internal/event"
	"provium/internal/terminal"
)

const (
	mostLines   = 12 // of the area
	leastColumn = 20 // columns below which only counts are shown
)

// lines returns the status area for a terminal of a size, the top line first. No line is
// wider than the terminal. It is empty when nothing happens.
func (p *progress) lines(now time.Time, rows, cols int, color bool) []string {
	if p.complete || p.started.IsZero() && len(p.jobs) == 0 {
		return nil
	}
	width := cols - 1 // the last column makes some terminals wrap
	room := max(1, min(mostLines, rows/2))
	out := []string{ansi.Truncate(p.counts(now, width, color), width, "")}
	if cols < leastColumn {
		return out
	}
	var rest []string
	for _, j := range p.inOrder() {
		rest = append(rest, aligned(j.text(), short(now.Sub(j.since)), width))
	}
	for _, f := range p.files() {
		rest = append(rest, f.line(now, width))
	}
	uses := p.uses(width)
	if uses != "" && room >= 4 {
		room--
	} else {
		uses = ""
	}
	if len(rest) > room-1 {
		more := len(rest) - max(0, room-2)
		rest = append(rest[:max(0, room-2)], ansi.Truncate(fmt.Sprintf("  and %d more", more), width, ""))
		rest = rest[:min(len(rest), room-1)]
	}
	out = append(out, rest...)
	if uses != "" {
		out = append(out, uses)
	}
	return out
}

// counts is the top line: as many of its parts as there is room for.
func (p *progress) counts(now time.Time, width int, color bool) string {
	if p.started.IsZero() {
		return "preparing"
	}
	failed := fmt.Sprintf("%d failed", p.failed)
	if p.failed > 0 && color {
		failed = ansi.Style{}.Bold().ForegroundColor(ansi.Red).Styled(failed)
	}
	all := p.done + len(p.running) + len(p.waiting)
	parts := []string{fmt.Sprintf("%d of %s, %s", p.done, plural(all, "file"), failed),
		fmt.Sprintf("%d running, %d left", len(p.running), len(p.waiting)), short(now.Sub(p.started)), ""}
	if left, ok := p.left(now); ok {
		parts[3] = "about " + short(left) + " left"
	}
	return fitting(parts, width, 2, 3, 1)
}

// uses is the bottom line: guests, the pool, and why files wait. It may be empty.
func (p *progress) uses(width int) string {
	parts := []string{"", "", ""}
	if n := p.guests(); n > 0 {
		parts[0] = plural(n, "guest")
	}
	if p.used.MemoryBytes > 0 {
		parts[1] = fmt.Sprintf("pool %s of %s GiB, %d of %s", gib(p.used.MemoryBytes), gib(p.pool.MemoryBytes),
			p.used.CPUs, plural(int(p.pool.CPUs), "CPU"))
	}
	var waits []string
	for _, r := range p.reasons() {
		waits = append(waits, fmt.Sprintf("%d wait: %s", r.count, r.text))
	}
	parts[2] = strings.Join(waits, ", ")
	return ansi.Truncate(fitting(parts, width, 2, 0), width, "")
}

// fitting joins parts, without those that are missed least if there is no room.
func fitting(parts []string, width int, leastMissed ...int) string {
	for _, drop := range leastMissed {
		if text := joined(parts); ansi.StringWidth(text) <= width {
			return text
		}
		parts[drop] = ""
	}
	return joined(parts)
}

func joined(parts []string) string {
	var some []string
	for _, part := range parts {
		if part != "" {
			some = append(some, part)
		}
	}
	return strings.Join(some, " | ")
}

// line shows a file, its test and its operation in so many columns.
func (f *runningFile) line(now time.Time, width int) string {
	file, test := clean(f.path), clean(f.test)
	since := f.since
	if f.test == "" && f.passed+f.failed+f.skipped == 0 {
		since = f.started
	}
	what := f.activity(now)
	room := width - 2 - len(short(now.Sub(since))) - 1
	join := func() string {
		var parts []string
		for _, part := range []string{file, test, what} {
			if part != "" {
				parts = append(parts, part)
			}
		}
		return strings.Join(parts, " > ")
	}
	if ansi.StringWidth(join()) > room {
		file = path.Base(file)
	}
	if over := ansi.StringWidth(join()) - room; over > 0 && test != "" {
		test = ansi.Truncate(test, max(12, ansi.StringWidth(test)-over), "...")
	}
	return aligned(join(), short(now.Sub(since)), width)
}

// activity is what a file waits for.
func (f *runningFile) activity(now time.Time) string {
	var parts []string
	if boots := f.booting(); len(boots) > 0 {
		text := "vm " + boots[0].vm + " " + stageText(boots[0].stage)
		if len(boots) > 1 {
			text += fmt.Sprintf(" (and %d more)", len(boots)-1)
		}
		parts = append(parts, clean(text))
	} else if ops := f.operations(now); len(ops) > 0 {
		text := clean(ops[0].call)
		if len(ops) > 1 {
			text += fmt.Sprintf(" (and %d more)", len(ops)-1)
		}
		if took := now.Sub(ops[0].since); took >= time.Second && !ops[0].since.Equal(f.since) {
			text += " " + short(took)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// stageText says what a boot is at, by the last stage that it has reached.
func stageText(s event.BootStage) string {
	switch s {
	case event.StageAdmitted:
		return "gets its image"
	case event.StageImage:
		return "starts"
	case event.StageMachine:
		return "boots"
	case event.StageAgent:
		return "gets ready"
	}
	return "waits for room"
}

func (j *job) text() string {
	text := clean(j.what)
	if j.total > 0 {
		text += fmt.Sprintf(" (%d %% of %.1f MiB)", j.done*100/j.total, float64(j.total)/(1<<20))
	} else if j.done > 0 {
		text += fmt.Sprintf(" (%.1f MiB)", float64(j.done)/(1<<20))
	}
	return text
}

// aligned puts a duration at the right end of a line.
func aligned(text, duration string, width int) string {
	room := width - 2 - len(duration) - 1
	if room < 8 {
		return ansi.Truncate("  "+text, width, "...")
	}
	text = ansi.Truncate(text, room, "...")
	return "  " + text + strings.Repeat(" ", room-ansi.StringWidth(text)+1) + duration
}

// clean returns a text of a test or a guest as one line that a terminal obeys nowhere.
func clean(text string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(terminal.Escape(text))
}

// short is a duration in whole seconds: 7s, 1:05, 1:00:05.
func short(d time.Duration) string {
	s := int(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func gib(bytes uint64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<30)) }

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
