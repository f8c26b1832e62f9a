package textdiff

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"provium/internal/script/value"
)

const (
	maxOutput     = 200 // lines of a diff
	maxLine       = 400 // bytes of one line of a diff
	longString    = 60  // bytes from which on strings on one line deserve a diff
	excerptAround = 30  // bytes shown on each side of the first difference
)

// Strings returns a description of the differences of two strings: line by line when one of
// them has several lines, else around the first byte that differs. It returns "" for strings
// which are short enough to compare by eye, and for equal ones.
func Strings(a, b string) string {
	if strings.Contains(a, "\n") || strings.Contains(b, "\n") {
		return Lines(a, b)
	}
	if len(a) <= longString && len(b) <= longString {
		return ""
	}
	return firstByte(a, b)
}

// firstByte returns the surroundings of the first difference of two strings.
func firstByte(a, b string) string {
	if a == b {
		return ""
	}
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	window := func(s string) string {
		from, to := max(0, at-excerptAround), min(len(s), at+excerptAround)
		text := value.Quote(s[from:to])
		if from > 0 {
			text = "..." + text
		}
		if to < len(s) {
			text += "..."
		}
		return text
	}
	return fmt.Sprintf("first difference at byte %d (%d and %d bytes):\n- %s\n+ %s",
		at+1, len(a), len(b), window(a), window(b))
}

// Lines returns the differences of two texts with three lines of context, without headers.
// "-" marks a line of a, "+" a line of b. Long lines are cut, and after 200 lines of output
// the rest is only counted. It returns "" for equal texts.
func Lines(a, b string) string {
	hunks := compare(a, b)
	left := strings.Count(a, "\n") + 1 // lines of a which are not yet in out
	total := left                      // lines of a, and of b which are not in a
	for _, h := range hunks {
		total += h.added
	}
	var out []string
	shown := 0 // of total
	full := func() bool {
		if len(out) < maxOutput {
			return false
		}
		if shown < total {
			out = append(out, fmt.Sprintf("  ... (%d more lines)", total-shown))
		}
		return true
	}
	equal := func(n int) {
		if n > 0 {
			out = append(out, fmt.Sprintf("  ... (%d equal lines)", n))
			shown += n
		}
	}
	at := 0 // lines of a before the next hunk's
	for _, h := range hunks {
		if full() {
			return strings.Join(out, "\n")
		}
		equal(h.start - at)
		for _, e := range h.edits {
			if full() {
				return strings.Join(out, "\n")
			}
			out = append(out, string(e.op)+" "+value.Printable(value.Clip(e.text, maxLine)))
			shown++
		}
		at = h.start + len(h.edits) - h.added
	}
	if len(hunks) > 0 && !full() {
		equal(left - at)
	}
	return strings.Join(out, "\n")
}

// edit is one line of a diff: in both texts (' '), only in a ('-') or only in b ('+').
type edit struct {
	op   byte
	text string
}

// hunk is a run of differences with its context.
type hunk struct {
	start int // index of its first line in a
	added int // number of its lines that are only in b
	edits []edit
}

// compare returns the hunks of the anchored diff of two texts, which it parses from the
// unified format.
func compare(a, b string) []hunk {
	// A final newline makes the lines of the diff the parts between newlines.
	text := diff.Diff("a", []byte(a+"\n"), "b", []byte(b+"\n"))
	if text == nil {
		return nil
	}
	next := func() string {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		return string(line)
	}
	for range 3 { // "diff", "---", "+++"
		next()
	}
	var hunks []hunk
	for len(text) > 0 {
		line := next()
		if line[0] == '@' {
			var h hunk
			if _, err := fmt.Sscanf(line, "@@ -%d,", &h.start); err != nil {
				panic(fmt.Errorf("unified diff: header %q: %w", line, err))
			}
			h.start-- // counted from 1; a has at least one line
			hunks = append(hunks, h)
			continue
		}
		h := &hunks[len(hunks)-1]
		h.edits = append(h.edits, edit{line[0], line[1:]})
		if line[0] == '+' {
			h.added++
		}
	}
	return hunks
}
