package report

import (
	"slices"
	"strings"

	"provium/internal/terminal"
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
func (t TestResult) Console() string { return terminal.WithoutRepeated(t.ConsoleExcerpt, t.Message) }

// evidence is what the tests of a file have left behind that have no result yet.
type evidence struct {
	output      map[string]string // by test, "" for the file
	attachments map[string][]Attachment
	kept        int // bytes of all attachments
	reports     []string
}

// maxReports is how many titles of a test are kept.
const maxReports = 100

// report records that a kernel has reported something.
func (v *evidence) report(title string) {
	if len(v.reports) < maxReports && !slices.Contains(v.reports, title) {
		v.reports = append(v.reports, title)
	}
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
	t.Reports, v.reports = v.reports, nil
	delete(v.output, t.Name)
	delete(v.attachments, t.Name)
}
