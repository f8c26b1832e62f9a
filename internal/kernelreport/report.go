package kernelreport

import (
	"bytes"
	"hash/maphash"
	"strings"
	"unicode/utf8"
)

const (
	maxTitle        = 300      // bytes of a finding's title
	maxExcerpt      = 16 << 10 // bytes of a finding's excerpt
	maxExcerptLines = 256      // lines of a finding's excerpt
	maxText         = 64 << 10 // bytes of a report that its title is looked for in
	maxLines        = 1024     // lines of a report, then it is closed
)

// report is a finding whose lines are still coming.
type report struct {
	Finding
	caller  string // who prints it, where the kernel says that
	excerpt strings.Builder
	last    string // the last line
	seed    maphash.Seed
	seen    map[uint64]bool // the lines with a time stamp
	texts   []string        // the messages, with those that lead in
	head    int             // where in texts the title is
	size    int             // bytes of texts
	lines   int
	after   int // lines since it ended
	died    bool
	allCPUs bool // other processors print their part of it
	alone   bool // the kernel says no more than the title
	ended   bool // it has all its lines, and waits for a panic that it leads to
	ignored bool // an ignored report, or the copy of an earlier one
}

func newReport(k Kind, m message) *report {
	return &report{caller: string(m.caller), Finding: Finding{
		Kind: k, Line: oneLine(m.text), Panic: k == KindPanic, Stamped: len(m.stamp) > 0,
		Stamp: string(m.stamp),
	}}
}

// finding returns the report as far as it is known.
func (r *report) finding() Finding {
	f := r.Finding
	f.Excerpt = r.excerpt.String()
	f.Title, f.Function = titleOf(f.Kind, f.Line, r.texts, r.head)
	f.Taint = taintOf(r.texts)
	return f
}

// add adds a line, and its message if that has one.
func (r *report) add(line, text []byte) {
	r.lines++
	if r.isCopy(line) {
		return
	}
	if text != nil && r.size+len(text) <= maxText {
		r.size += len(text)
		r.texts = append(r.texts, string(text))
		r.allCPUs = r.allCPUs || has(text, "Sending NMI from CPU")
	}
	r.excerptLine(line)
}

// isCopy reports whether a line has come before: of a second console, or of the kernel's log.
func (r *report) isCopy(line []byte) bool {
	if r.last == string(line) {
		return true
	}
	r.last = string(line)
	if r.Stamp == "" {
		return false
	}
	if r.seen == nil {
		r.seed, r.seen = maphash.MakeSeed(), map[uint64]bool{}
	}
	hash := maphash.Bytes(r.seed, line)
	copied := r.seen[hash]
	r.seen[hash] = true
	return copied
}

// isAfter reports whether a time stamp is before the report.
func (r *report) isAfter(stamp []byte) bool {
	if r.Stamp == "" || len(stamp) == 0 {
		return false
	}
	return len(stamp) < len(r.Stamp) || len(stamp) == len(r.Stamp) && string(stamp) < r.Stamp
}

func (r *report) excerptLine(line []byte) {
	if r.lines > maxExcerptLines {
		return
	}
	if r.excerpt.Len()+len(line)+1 > maxExcerpt {
		line = line[:max(0, maxExcerpt-r.excerpt.Len()-1)]
		if len(line) == 0 {
			return
		}
	}
	r.excerpt.WriteString(strings.ToValidUTF8(string(line), "?"))
	r.excerpt.WriteByte('\n')
}

// UnexpectedReboot returns the report of a reboot that nobody has asked for. console is what the
// guest had printed last.
func UnexpectedReboot(console string) Finding {
	const line = "the guest was reset without a reboot call, sysrq or panic, as by a triple fault"
	excerpt := line + "\n"
	var clean []byte
	for text := range strings.Lines(console) {
		clean = Clean([]byte(strings.TrimRight(text, "\r\n")), clean)
		excerpt += strings.ToValidUTF8(string(clean), "?") + "\n"
	}
	return Finding{Kind: KindReboot, Title: string(KindReboot), Line: line, Excerpt: cut(excerpt, maxExcerpt)}
}

// survived is called when the guest has lived on after what only looked like a panic.
func (r *report) survived() {
	if r.Kind == KindPanic {
		r.ignored = true
	} else {
		r.Panic = false
	}
}

func (r *report) isFull() bool { return r.lines >= maxLines || r.size >= maxText-MaxLine }

// isOneLine reports whether the kernel says no more than the title.
func (r *report) isOneLine(text []byte) bool {
	switch r.Kind {
	case KindOOM, KindPattern:
		return r.Kind == KindOOM
	case KindLeak:
		return !containsAny(text, "BUG: memory leak", "unreferenced object")
	case KindFilesystem:
		return !bytes.Contains(text, []byte("XFS ("))
	}
	return false
}

// endsWith reports whether the text is the last line of the report.
func (r *report) endsWith(text []byte) bool {
	if r.Panic {
		return has(text, "---[ end Kernel panic") || has(text, "Rebooting in ")
	}
	if has(text, "---[ end ") {
		return true
	}
	switch r.Kind {
	case KindKASAN, KindKFENCE, KindKCSAN, KindUBSAN, KindKMSAN:
		return isRule(text)
	case KindOops, KindGPF, KindRCUStall, KindHardLockup, KindLeak:
		return false // several processors or objects may follow
	}
	return !r.died && has(text, "</TASK>")
}

// isConsequence reports whether a panic only follows from the report before it.
func isConsequence(text []byte) bool {
	return containsAny(text, "not syncing: Fatal exception", "panic_on_warn set", "hung_task: blocked tasks",
		"softlockup: hung tasks", "Hard LOCKUP", "RCU Stall", "Aiee, killing interrupt handler",
		"kmsan.panic set", "Attempted to kill init", "Oops: Fatal exception", "kfence.panic")
}

// leadsTo reports whether a panic repeats what the report is about.
func (r *report) leadsTo(text []byte) bool {
	_, words, ok := strings.Cut(string(text), "not syncing: ")
	return ok && len(words) > 8 && strings.Contains(r.Line, words)
}

// isGoodbye recognises what the kernel says when the guest reboots or powers off by
// itself.
func isGoodbye(text []byte) bool {
	return has(text, "reboot: Restarting system") || has(text, "reboot: Power down") ||
		has(text, "reboot: System halted")
}

// isRule recognises the line of equals signs around a report.
func isRule(text []byte) bool {
	return len(text) >= 20 && len(bytes.Trim(text, "=")) == 0
}

// taintOf returns the letters behind the first "Tainted: " of a report.
func taintOf(texts []string) string {
	for _, t := range texts {
		_, rest, ok := strings.Cut(t, "Tainted: ")
		if !ok {
			continue
		}
		var letters strings.Builder
		for _, word := range strings.Fields(rest) {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "["), "]")
			if len(name) == 0 || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
				break
			}
			letters.WriteString(name)
		}
		return letters.String()
	}
	return ""
}

// oneLine makes one line of a message: single spaces, no box, bounded.
func oneLine(text []byte) string {
	t := strings.Join(strings.Fields(strings.ToValidUTF8(string(text[:min(len(text), 2*maxTitle)]), "?")), " ")
	if strings.HasPrefix(t, "[ ") {
		t = strings.TrimSuffix(strings.TrimPrefix(t, "[ "), " ]")
	}
	return cut(t, maxTitle)
}

// cut returns at most n bytes of a text.
func cut(t string, n int) string {
	if len(t) <= n {
		return t
	}
	for !utf8.RuneStart(t[n]) {
		n--
	}
	return t[:n]
}

func isWord(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func has(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
