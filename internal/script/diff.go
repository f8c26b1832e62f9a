package script

import (
	"fmt"
	"strings"
)

const (
	diffMaxLines   = 2000 // per side; the table of the algorithm grows with the product
	diffContext    = 3    // equal lines kept around a difference
	diffMaxOutput  = 200  // lines
	longString     = 60   // bytes from which on a string on one line deserves a diff
	excerptAround  = 30   // bytes shown on each side of the first difference
	lineClip       = 400  // bytes of one line of a diff
	messageValue   = 1024 // bytes of a value within a message
	messageContain = 4096
)

// diffStrings shows where two strings part: line by line when one has several lines, else
// around the first byte that differs. It is empty for strings that are short enough to
// compare by eye.
func diffStrings(a, b string) string {
	if strings.Contains(a, "\n") || strings.Contains(b, "\n") {
		return diffLines(a, b)
	}
	if len(a) <= longString && len(b) <= longString {
		return ""
	}
	return diffBytes(a, b)
}

// diffBytes points at the first difference of two long strings.
func diffBytes(a, b string) string {
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	window := func(s string) string {
		from, to := max(0, at-excerptAround), min(len(s), at+excerptAround)
		text := quote(s[from:to])
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

// edit is one line of a diff: kept (' '), only in a ('-') or only in b ('+').
type edit struct {
	op   byte
	text string
}

// diffLines is a unified diff without headers; "-" is the first value, "+" the second.
func diffLines(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	prefix := 0
	for prefix < len(left) && prefix < len(right) && left[prefix] == right[prefix] {
		prefix++
	}
	suffix := 0
	for suffix < len(left)-prefix && suffix < len(right)-prefix &&
		left[len(left)-1-suffix] == right[len(right)-1-suffix] {
		suffix++
	}
	var edits []edit
	for _, line := range left[:prefix] {
		edits = append(edits, edit{' ', line})
	}
	edits = append(edits, editScript(left[prefix:len(left)-suffix], right[prefix:len(right)-suffix])...)
	for _, line := range left[len(left)-suffix:] {
		edits = append(edits, edit{' ', line})
	}
	return renderEdits(edits)
}

// editScript finds a shortest script by the longest common subsequence. Sides too long for
// its table are shown as replaced whole.
func editScript(a, b []string) []edit {
	var out []edit
	if len(a) > diffMaxLines || len(b) > diffMaxLines {
		for _, line := range a {
			out = append(out, edit{'-', line})
		}
		for _, line := range b {
			out = append(out, edit{'+', line})
		}
		return out
	}
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	width := len(b) + 1
	common := make([]uint16, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i*width+j] = common[(i+1)*width+j+1] + 1
			} else {
				common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, edit{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[(i+1)*width+j] >= common[i*width+j+1]:
			out = append(out, edit{'-', a[i]})
			i++
		default:
			out = append(out, edit{'+', b[j]})
			j++
		}
	}
	return out
}

// renderEdits prints changes with a little context and counts what it leaves out.
func renderEdits(edits []edit) string {
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.op == ' ' {
			continue
		}
		for k := max(0, i-diffContext); k < min(len(edits), i+diffContext+1); k++ {
			near[k] = true
		}
	}
	var out []string
	for i := 0; i < len(edits); i++ {
		if len(out) >= diffMaxOutput {
			out = append(out, fmt.Sprintf("  ... (%d more lines)", len(edits)-i))
			break
		}
		if near[i] {
			out = append(out, string(edits[i].op)+" "+printable(clip(edits[i].text, lineClip)))
			continue
		}
		from := i
		for i+1 < len(edits) && !near[i+1] {
			i++
		}
		out = append(out, fmt.Sprintf("  ... (%d equal lines)", i-from+1))
	}
	return strings.Join(out, "\n")
}
