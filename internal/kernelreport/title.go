package kernelreport

import (
	"regexp"
	"strings"
)

// titleOf returns what a report is called, and the function to blame. head is where in texts
// the first line is; what stands before it leads in.
func titleOf(kind Kind, line string, texts []string, head int) (title, function string) {
	body := texts[min(head, len(texts)):]
	f, m := formOf(kind, line)
	switch {
	case f != nil:
	case kind == KindPanic || kind == KindPattern:
		return bounded(addresses.ReplaceAllString(line, "N")), ""
	default:
		return bounded(scrub(line)), ""
	}
	what := string(f.line.ExpandString(nil, f.what, line, m))
	what += f.more(body)
	if kind == KindFilesystem {
		what = scrub(what)
	}
	if f.where != nil {
		t := &trace{line: line, texts: body, skip: f.skip}
		if function = f.where(t); function == "" && !f.bare {
			function = t.counter()
		}
		function = canonical(function)
	}
	if function == "" || f.bare {
		return bounded(what), function
	}
	return bounded(what + " in " + function), function
}

// formOf returns the form of a report's first line and what that captures of it, or nil.
func formOf(kind Kind, line string) (f *form, captured []int) {
	list := reports
	switch kind {
	case KindWarning:
		list = warnings
	case KindBug:
		list = bugs
	}
	for i := range list {
		if f := &list[i]; f.kind == kind {
			if m := f.line.FindStringSubmatchIndex(line); m != nil {
				return f, m
			}
		}
	}
	return nil, nil
}

var offset = regexp.MustCompile(`\+0x[0-9a-f]+(/0x[0-9a-f]+)?`)

func bounded(t string) string {
	return cut(strings.TrimRight(offset.ReplaceAllString(t, ""), " :,"), maxTitle)
}

// varying is what differs between two reports of one cause: addresses, numbers of processes
// and CPUs, sizes, devices.
var varying = regexp.MustCompile(`\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8,16}\b|\b[0-9]+\b|\bCPU#[0-9]+`)

// addresses is what differs between two panics of one cause: their numbers are codes.
var addresses = regexp.MustCompile(`\b0x[0-9a-fA-F]{9,}\b|\b[0-9a-f]{16}\b|\bCPU ?#?[0-9]+`)

// scrub replaces in a line what varies.
func scrub(line string) string {
	return varying.ReplaceAllString(offset.ReplaceAllString(line, ""), "N")
}

// trace is what functions are looked for in.
type trace struct {
	line  string   // the first line
	texts []string // the report, with its first line
	skip  []string // parts of names, or after ^ beginnings, of functions that are not to blame either
}

// skips reports whether a function is not to blame.
func (t *trace) skips(name string) bool {
	if isHelper(name) {
		return true
	}
	for _, s := range t.skip {
		if start, ok := strings.CutPrefix(s, "^"); ok && strings.HasPrefix(name, start) || strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// isSecondary reports whether a line begins a stack of another time or another task.
func isSecondary(text string) bool {
	text = strings.TrimLeft(text, " ")
	for _, p := range []string{
		"Allocated by task", "Freed by task", "Allocated:", "Freed:", "Uninit was", "Last potentially related work",
		"Second to last potentially", "page last ", "allocated by task", "freed by task", "Reported by Kernel",
		"Memory state around", "INFO: Allocated in", "INFO: Freed in", "the existing dependency chain",
		"Showing all locks held",
	} {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

// first returns the first frame from a line on that may be to blame: the program counter, or
// one of a stack.
func (t *trace) first(from int) string {
	var buf [4]string
	for i := from; i < len(t.texts); i++ {
		if i > from && isSecondary(t.texts[i]) {
			break
		}
		if strings.HasSuffix(t.texts[i-min(i, 1)], "disabled at:") {
			continue // who has turned preemption off
		}
		frames, _ := framesOf(buf[:0], t.texts[i])
		for _, name := range frames {
			if !t.skips(name) {
				return name
			}
		}
	}
	return ""
}

// counter returns the function of the program counter, whatever that is.
func (t *trace) counter() string {
	for _, text := range t.texts {
		if frames, counter := framesOf(nil, text); counter && len(frames) > 0 {
			return frames[0]
		}
	}
	return ""
}

// inTrace returns the first frame to blame below the first line.
func inTrace(t *trace) string { return t.first(1) }

var named = regexp.MustCompile(` (?:in|at)(?: [\w./-]+:[0-9]+)? ([A-Za-z0-9_.$]+)\+0x[0-9a-f]+`)

// inLine returns the function that the first line names, or else the first frame to blame.
func inLine(t *trace) string {
	if m := named.FindStringSubmatch(t.line); m != nil {
		if name := plainName(m[1]); name != "" && !t.skips(name) {
			return name
		}
	}
	return t.first(1)
}

// after returns a strategy that takes the first frame to blame behind the first line that has
// one of the words.
func after(words ...string) func(*trace) string {
	return func(t *trace) string {
		for i, text := range t.texts {
			for _, w := range words {
				if strings.Contains(text, w) {
					return t.first(i + 1)
				}
			}
		}
		return t.first(1)
	}
}

var lockAt = regexp.MustCompile(` at: (?:\[<?(?:0x)?[0-9a-f]+>?\] *)?([A-Za-z0-9_.$]+)(?:\+0x|$)`)

// lockIn returns a strategy for lockdep: the function that takes the lock, which is behind
// the first line with the word. If the first places name only helpers, it is in the stack.
func lockIn(word string, places int) func(*trace) string {
	return func(t *trace) string {
		left := places
		for i := t.begin(word) - 1; i < len(t.texts) && left > 0; i++ {
			text := strings.TrimRight(t.texts[i], " ")
			if strings.HasSuffix(text, " at:") {
				return t.first(i + 1)
			}
			m := lockAt.FindStringSubmatch(text)
			if m == nil {
				continue
			}
			left--
			if name := plainName(m[1]); name != "" && !t.skips(name) {
				return name
			}
		}
		name := after("stack backtrace:", "Call Trace:", "Call trace:", "Backtrace:")(t)
		if name == "worker_thread" {
			// A work queue that is waited for is itself the lock: who waits is in the chain.
			return after("the existing dependency chain")(t)
		}
		return name
	}
}
