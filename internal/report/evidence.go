package report

import (
	"fmt"
	"slices"
	"strings"
)

// Attachment is a file that a test has added to its report.
type Attachment struct {
	Name string
	Size uint64 // of the whole file, in bytes
	Data []byte // nil where the report does not have it, or the beginning of a long one
	// File is where it was saved, "" if it was not.
	File string
}

const (
	maxOutput      = 64 << 10 // bytes of what a test has printed that are kept: the end
	maxAttachments = 32 << 20 // bytes of all attachments of a file that are kept
	minRepeated    = 3        // lines that must be in a reason to be left out of a console
)

// addOutput adds to what a test has printed.
func addOutput(kept, text string) string {
	const cut = "[...]\n"
	kept += text
	if len(kept) <= maxOutput+len(cut) {
		return kept
	}
	kept = kept[len(kept)-maxOutput:]
	if at := strings.IndexByte(kept, '\n'); at >= 0 && at < len(kept)-1 {
		kept = kept[at+1:]
	}
	return cut + kept
}

// Console is the end of the consoles without what the message shows of them already: the
// report of a kernel is long enough once.
func (t TestResult) Console() string { return WithoutRepeated(t.ConsoleExcerpt, t.Message) }

// WithoutRepeated returns a console excerpt without lines that follow each other in a message,
// too. What stands in their place says how many they are.
func WithoutRepeated(excerpt, message string) string {
	shown := strings.Split(strings.TrimRight(message, "\n"), "\n")
	lines := strings.SplitAfter(excerpt, "\n")
	var b strings.Builder
	for i := 0; i < len(lines); {
		n := 0
		for at := range shown {
			n = max(n, common(lines[i:], shown[at:]))
		}
		if n < minRepeated {
			b.WriteString(lines[i])
			i++
			continue
		}
		fmt.Fprintf(&b, "[%d lines of the report above]\n", n)
		i += n
	}
	return b.String()
}

// common returns how many lines two texts have in common at their beginnings.
func common(a, b []string) (n int) {
	for n < len(a) && n < len(b) && a[n] != "" && strings.TrimRight(a[n], "\r\n") == strings.TrimRight(b[n], "\r") {
		n++
	}
	return n
}

// evidence is what the tests of a file have left behind that have no result yet.
type evidence struct {
	output      map[string]string // by test, "" for the file
	attachments map[string][]Attachment
	kept        int // bytes of all attachments
}

func (v *evidence) print(test, text string) {
	if v.output == nil {
		v.output = map[string]string{}
	}
	v.output[test] = addOutput(v.output[test], text)
}

func (v *evidence) attach(test string, a Attachment) {
	if v.kept+len(a.Data) > maxAttachments {
		a.Data = nil
	}
	v.kept += len(a.Data)
	if v.attachments == nil {
		v.attachments = map[string][]Attachment{}
	}
	v.attachments[test] = append(v.attachments[test], a)
}

// take moves what a test has left behind to its result.
func (v *evidence) take(t *TestResult) {
	t.Output, t.Attachments = v.output[t.Name], slices.Clip(v.attachments[t.Name])
	delete(v.output, t.Name)
	delete(v.attachments, t.Name)
}
