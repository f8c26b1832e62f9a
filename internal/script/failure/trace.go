package failure

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/script/journal"
	"provium/internal/script/value"
)

const (
	traceKeep = 12 // finished operations that a failure shows
	tracePoll = 4  // operations that a loop may repeat to be shown once
	traceLine = 60 // bytes of an output that a line shows
)

// Operation is a blocking call of a test.
type Operation struct {
	Text  string // vm:run("make")
	VM    string // name of the VM concerned, may be empty
	Where string // file:line of the call
}

// String is the operation with its place: `vm:run("make") at tests/build.test.lua:31`.
func (o Operation) String() string {
	if o.Where == "" {
		return o.Text
	}
	return o.Text + " at " + o.Where
}

// Trace records the blocking operations of one test body or chunk. It is safe for concurrent
// use: a timeout reads it from its own goroutine.
type Trace struct {
	now   func() time.Time
	start time.Time

	mu      sync.Mutex
	running []*Running // in order of start
	last    []*entry   // finished ones, in order of their ends
}

// Running is an operation that has begun.
type Running struct {
	Operation
	t     *Trace
	start time.Time
	entry *entry // once it has ended
}

// entry is an operation that has ended, or several that a loop has made.
type entry struct {
	Operation
	count      int
	start, end time.Time // of the first, of the last
	failed     bool      // the last one
	outcome    journal.Outcome
}

// NewTrace returns a Trace of what starts now.
func NewTrace(now func() time.Time) *Trace { return &Trace{now: now, start: now()} }

// Begin records that an operation starts. End must be called.
func (t *Trace) Begin(op Operation) *Running {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Running{Operation: op, t: t, start: t.now()}
	t.running = append(t.running, r)
	return r
}

// Forget takes an operation off those that run, and lists it no longer.
func (r *Running) Forget() {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	r.t.remove(r)
}

// End records that the wait for an operation is over. failed says that it has raised an error.
func (r *Running) End(failed bool) {
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(r)
	e := &entry{Operation: r.Operation, start: r.start}
	for i := len(t.last) - 1; i >= max(0, len(t.last)-tracePoll); i-- {
		if t.last[i].Operation == r.Operation {
			e = t.last[i]
			t.last = slices.Delete(t.last, i, i+1)
			break
		}
	}
	e.count, e.end, e.failed, e.outcome = e.count+1, t.now(), failed, journal.Outcome{}
	r.entry = e
	if len(t.last) == traceKeep {
		t.last = slices.Delete(t.last, 0, 1)
	}
	t.last = append(t.last, e)
}

// Returned records what the call has returned. It does nothing before End.
func (r *Running) Returned(o journal.Outcome) {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	if r.entry != nil {
		r.entry.outcome = o
	}
}

// remove takes an operation off those in flight. The caller must hold t.mu.
func (t *Trace) remove(r *Running) {
	if i := slices.Index(t.running, r); i >= 0 {
		t.running = slices.Delete(t.running, i, i+1)
	}
}

// InFlight describes the operations that run now, each with its place. It is empty when
// nothing runs.
func (t *Trace) InFlight() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, r := range t.running {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ", ")
}

// VMs returns the names of the VMs whose operations run now.
func (t *Trace) VMs() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.running {
		if r.VM != "" && !slices.Contains(names, r.VM) {
			names = append(names, r.VM)
		}
	}
	return names
}

// Report lists the last operations with what they returned, the oldest first, and those that
// still run. It is empty when there was none. A result that message has is not repeated.
func (t *Trace) Report(message string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last)+len(t.running) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("last operations:")
	for _, e := range t.last {
		t.row(&b, e.start, e.end.Sub(e.start), e.Operation, e.result(message))
	}
	for _, r := range t.running {
		t.row(&b, r.start, t.now().Sub(r.start), r.Operation, "still running")
	}
	return b.String()
}

// row writes a line: when it started, counted from the start of the test, how long it took,
// and what it was.
func (t *Trace) row(b *strings.Builder, start time.Time, took time.Duration, op Operation, result string) {
	fmt.Fprintf(b, "\n  %9s %8s  ", fmt.Sprintf("+%.3fs", start.Sub(t.start).Seconds()), shortDuration(took))
	if op.VM != "" {
		fmt.Fprintf(b, "[%s] ", op.VM)
	}
	b.WriteString(op.Text)
	if op.Where != "" {
		b.WriteString("  " + op.Where)
	}
	if result != "" {
		b.WriteString("  " + result)
	}
}

// result is what an operation returned, in short; of several the number and the last one.
func (e *entry) result(message string) string {
	text := ""
	switch o := e.outcome; {
	case e.failed && (o.Text == "" || strings.Contains(message, o.Text) ||
		message != "" && strings.Contains(o.Text, message)):
		text = "(failed)"
	case e.failed:
		why := strings.TrimPrefix(o.Text, "vm `"+e.VM+"`: ")
		text = "failed: " + value.Printable(value.Clip(why, 2*traceLine))
	default:
		text = o.Text
		if first := firstLine(o.Output); first != "" {
			text += ", " + value.Quote(value.Clip(first, traceLine))
		}
	}
	switch {
	case e.count < 2:
		return text
	case text == "":
		return fmt.Sprintf("×%d", e.count)
	}
	return fmt.Sprintf("×%d, last: %s", e.count, text)
}

// firstLine returns the first line of an output that is not blank.
func firstLine(output string) string {
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// shortDuration renders a measured time with three digits or so.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}
