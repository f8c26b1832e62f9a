package console

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	maxTitle        = 300      // bytes of a finding's title
	maxExcerpt      = 16 << 10 // bytes of a finding's excerpt
	maxExcerptLines = 256      // lines of a report, then it is closed
	dieWithin       = 12       // lines after its title in which a report may die()
	maxLead         = 8        // lines kept between "cut here" and the title of a warning
	maxRecent       = 16       // reports remembered, to know their copies
)

// Rules changes what a [Detector] reports. Both lists are matched against the
// whole line without escape sequences and against the message without its
// time stamp. The zero value is the built-in list as it is.
type Rules struct {
	// Extra are further lines that are a failure.
	Extra []*regexp.Regexp
	// Ignore are lines that are not failures, even if they match other rules. For a
	// warning of the kernel, the message before its title counts as well.
	Ignore []*regexp.Regexp
	// Stamps says whether the kernel stamps its lines. Where it does, a line without a
	// stamp is not the kernel's, and only Extra applies to it.
	Stamps Stamps
}

// Finding is one failure report of a guest's kernel.
type Finding struct {
	Kind Kind
	// Title is the report's first line, without time stamp and caller.
	Title string
	// Excerpt has the report's lines, each ended by a newline, at most 16 KiB.
	Excerpt string
	// Panic is set if the kernel says that it has stopped.
	Panic bool
	// Stamped is set if the title has a time stamp.
	Stamped bool
	// Expected is set by the caller for a panic that the test expects.
	Expected bool
}

// A Detector finds failure reports in console output. Its memory is bounded
// whatever it is fed. It is not safe for concurrent use.
type Detector struct {
	rules   Rules
	partial []byte   // a line without its end
	clean   []byte   // scratch of stripANSI
	joined  []byte   // scratch for wrapped lines
	wrapped []byte   // the line before, if it may go on in the next one
	titled  bool     // the line before was the title of a report, or part of one
	skip    bool     // the partial line was already judged by Flush
	lead    []string // the lines since "cut here", which a warning begins with

	open   *report
	recent []string
	found  []Finding
}

// report is a finding whose lines are still coming.
type report struct {
	Finding
	excerpt strings.Builder
	lines   int
	heading bool // only the title has come so far, perhaps in parts
	died    bool
	ignored bool // an ignored report, or the copy of an earlier one
}

// isOwn reports whether a line may be one of the kernel.
func (d *Detector) isOwn(m message) bool { return len(m.stamp) > 0 || d.rules.Stamps != HasStamps }

// NewDetector returns a detector for one guest.
func NewDetector(rules Rules) *Detector { return &Detector{rules: rules} }

// Stamps returns what is known of the kernel's time stamps.
func (d *Detector) Stamps() Stamps { return d.rules.Stamps }

// SetStamps says whether the kernel stamps its lines, for what is fed from now on.
func (d *Detector) SetStamps(s Stamps) { d.rules.Stamps = s }

// Feed takes the next bytes of the console and returns the reports that ended
// in them. A report whose end is not recognisable stays open until the next
// one, its size limit, or [Detector.Flush].
func (d *Detector) Feed(p []byte) []Finding {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			d.hold(p)
			break
		}
		if len(d.partial) > 0 || d.skip {
			d.hold(p[:i])
			d.endPartial()
		} else {
			d.long(p[:i])
		}
		p = p[i+1:]
	}
	return d.take()
}

// Open returns the report whose lines are still coming, as far as it is known,
// so that the caller can act on a panic without waiting for its last line.
func (d *Detector) Open() (Finding, bool) {
	if d.open == nil || d.open.ignored {
		return Finding{}, false
	}
	f := d.open.Finding
	f.Excerpt = d.open.excerpt.String()
	return f, true
}

// Begin judges a line that has no end yet. It reports whether a report begins with the
// line, or the open one repeats it; the caller must not feed the rest of the line then.
// Otherwise nothing has changed, and the caller feeds the whole line when it has ended.
func (d *Detector) Begin(raw []byte) bool {
	d.clean = growTo(d.clean, len(raw))
	line := stripANSI(raw, d.clean)
	m := parse(line)
	k := d.kind(line, m)
	if k == "" || d.absorbs(k, m.text) {
		return false
	}
	d.begin(k, line, m)
	d.titled = true
	d.wrapped = d.wrapped[:0]
	return true
}

// Flush ends the open report, if any, and judges a line that has no end yet.
// The caller does this when the console was quiet for a while, and at its end.
func (d *Detector) Flush() []Finding {
	if len(d.partial) > 0 && !d.skip {
		d.line(d.partial)
		d.skip = true
	}
	d.partial = d.partial[:0]
	d.close()
	return d.take()
}

func (d *Detector) take() []Finding {
	f := d.found
	d.found = nil
	return f
}

// hold appends to the line that has no end yet.
func (d *Detector) hold(p []byte) {
	for len(p) > 0 {
		n := min(len(p), maxLine-len(d.partial))
		d.partial = append(d.partial, p[:n]...)
		p = p[n:]
		if len(d.partial) == maxLine && len(p) > 0 {
			d.endPartial()
		}
	}
}

func (d *Detector) endPartial() {
	if !d.skip {
		d.line(d.partial)
	} else if d.open != nil && len(d.partial) > 0 {
		d.open.add(d.partial)
	}
	d.skip = false
	d.partial = d.partial[:0]
}

// long judges a line of any length.
func (d *Detector) long(p []byte) {
	for len(p) > maxLine {
		d.line(p[:maxLine])
		p = p[maxLine:]
	}
	d.line(p)
}

// line judges one line.
func (d *Detector) line(raw []byte) {
	for len(raw) > 0 && raw[len(raw)-1] == '\r' {
		raw = raw[:len(raw)-1]
	}
	d.clean = growTo(d.clean, len(raw))
	line := stripANSI(raw, d.clean)
	m := parse(line)
	if len(m.stamp) > 0 && d.rules.Stamps == StampsUnknown {
		d.rules.Stamps = HasStamps
	}

	if len(d.wrapped) > 0 {
		if len(m.stamp) == 0 && len(line) > 0 && len(d.wrapped)+len(line) <= maxLine {
			d.continued(line)
			return
		}
		d.wrapped = d.wrapped[:0]
	}
	if isWrapWidth(len(line)) && len(m.stamp) > 0 {
		d.wrapped = append(d.wrapped[:0], line...)
	}
	d.judge(line, m)
}

// continued judges a line that goes on from the one before, which a terminal
// of 60 or 80 columns had broken.
func (d *Detector) continued(line []byte) {
	d.joined = append(append(d.joined[:0], d.wrapped...), line...)
	if isWrapWidth(len(line)) {
		d.wrapped = append(d.wrapped[:0], d.joined...)
	} else {
		d.wrapped = d.wrapped[:0]
	}
	m := parse(d.joined)
	if d.titled && d.open != nil {
		// The first part was recognised; now the title is whole.
		if d.open.heading {
			d.open.Title = title(m.text)
		}
		d.remember(m)
		d.open.add(line)
		return
	}
	if k := d.kind(d.joined, m); k != "" && !d.absorbs(k, m.text) {
		d.begin(k, d.joined, m)
		d.titled = true
		return
	}
	// No report begins in the joined line, perhaps in the second part itself.
	d.judge(line, parse(line))
}

// isWrapWidth reports whether a terminal may have broken a line of n columns.
func isWrapWidth(n int) bool { return n == 60 || n == 80 }

func (d *Detector) judge(line []byte, m message) {
	k := d.kind(line, m)
	d.titled = k != ""
	if k != "" && !d.absorbs(k, m.text) {
		d.begin(k, line, m)
		return
	}
	own := d.isOwn(m)
	if own {
		d.leadIn(line, m.text)
	}
	r := d.open
	if r == nil {
		return
	}
	r.heading = false
	r.add(line)
	if !own {
		if r.lines >= maxExcerptLines || r.excerpt.Len() >= maxExcerpt {
			d.close()
		}
		return
	}
	if r.Panic && isGoodbye(m.text) {
		r.ignored = true // the guest lived on after what only looked like a panic
	}
	if isDie(m.text) || matchOops(m.text) != "" {
		r.died = true
		d.remember(m)
	}
	if endsReport(r.Kind, r.died, m.text) || r.lines >= maxExcerptLines || r.excerpt.Len() >= maxExcerpt {
		d.close()
	}
}

// leadIn keeps the lines between "cut here" and the title of a warning: the message of
// WARN().
func (d *Detector) leadIn(line, text []byte) {
	switch {
	case has(text, "------------[ cut here ]"):
		d.lead = append(d.lead[:0], string(line))
	case len(d.lead) == maxLead:
		d.lead = d.lead[:0] // the cut was for something else
	case len(d.lead) > 0:
		d.lead = append(d.lead, string(line))
	}
}

// kind returns the kind of report that a line begins, or "".
func (d *Detector) kind(line []byte, m message) Kind {
	k := Kind("")
	if d.isOwn(m) {
		k = match(m.text, len(m.stamp) > 0)
	}
	if (k == "" || k == KindWarning) && matches(d.rules.Extra, line, m.text) {
		k = KindPattern
	}
	return k
}

func matches(list []*regexp.Regexp, line, text []byte) bool {
	for _, re := range list {
		if re.Match(line) || re.Match(text) {
			return true
		}
	}
	return false
}

// absorbs reports whether a title belongs to the report that is open: a page
// fault goes on with "Oops: 0000 [#1]", "kernel BUG at" with "invalid opcode",
// and a line of another console repeats the one before.
func (d *Detector) absorbs(k Kind, text []byte) bool {
	r := d.open
	if r == nil || r.lines > dieWithin || r.died {
		return false
	}
	if k == KindOops || k == KindGPF {
		return (r.Kind == KindBug || r.Kind == KindOops || r.Kind == KindGPF) && (isDie(text) || matchOops(text) != "")
	}
	return false
}

func (d *Detector) begin(k Kind, line []byte, m message) {
	t := title(m.text)
	if d.open != nil && len(m.stamp) > 0 && d.known(m) {
		d.open.add(line) // the copy that a second console prints
		return
	}
	d.close()
	r := &report{heading: true, Finding: Finding{Kind: k, Title: t, Panic: k == KindPanic, Stamped: len(m.stamp) > 0}}
	r.ignored = len(m.stamp) > 0 && d.known(m) || matches(d.rules.Ignore, line, m.text)
	if k == KindWarning {
		for _, l := range d.lead {
			r.ignored = r.ignored || matches(d.rules.Ignore, []byte(l), parse([]byte(l)).text)
			r.add([]byte(l))
		}
	}
	d.lead = d.lead[:0]
	r.died = isDie(m.text) || matchOops(m.text) != ""
	d.remember(m)
	r.add(line)
	d.open = r
}

// remember and known keep track of titles with their time stamps, since two
// consoles, or dmesg, print the same report twice.
func (d *Detector) remember(m message) {
	if len(m.stamp) == 0 {
		return
	}
	if len(d.recent) == maxRecent {
		d.recent = append(d.recent[:0], d.recent[1:]...)
	}
	d.recent = append(d.recent, string(m.stamp)+" "+title(m.text))
}

func (d *Detector) known(m message) bool {
	id := string(m.stamp) + " " + title(m.text)
	for _, r := range d.recent {
		if r == id {
			return true
		}
	}
	return false
}

func (d *Detector) close() {
	r := d.open
	if r == nil {
		return
	}
	d.open = nil
	if r.ignored {
		return
	}
	r.Finding.Excerpt = r.excerpt.String()
	d.found = append(d.found, r.Finding)
}

func (r *report) add(line []byte) {
	r.lines++
	if r.excerpt.Len()+len(line)+1 > maxExcerpt {
		line = line[:max(0, maxExcerpt-r.excerpt.Len()-1)]
		if len(line) == 0 {
			return
		}
	}
	r.excerpt.WriteString(strings.ToValidUTF8(string(line), "?"))
	r.excerpt.WriteByte('\n')
}

// title makes one line of a message: single spaces, no box, bounded.
func title(text []byte) string {
	t := strings.Join(strings.Fields(strings.ToValidUTF8(string(text[:min(len(text), 2*maxTitle)]), "?")), " ")
	if strings.HasPrefix(t, "[ ") {
		t = strings.TrimSuffix(strings.TrimPrefix(t, "[ "), " ]")
	}
	if len(t) > maxTitle {
		n := maxTitle
		for !utf8.RuneStart(t[n]) {
			n--
		}
		t = t[:n]
	}
	return t
}

func growTo(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, 0, n)
	}
	return b
}
