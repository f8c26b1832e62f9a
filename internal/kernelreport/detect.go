package kernelreport

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const (
	maxOpen   = 8  // reports of different contexts that are open at a time
	maxLead   = 8  // lines kept between "cut here" and the title of a warning
	maxRecent = 64 // reports remembered, to know their copies
	dieWithin = 24 // lines after its title in which a report may die()
	// panicWithin is how many lines may stand between the end of a report and the panic that
	// it leads to: registers, and what is linked in.
	panicWithin = 48
)

// Rules changes what a [Detector] reports. Both lists are matched against the
// whole line without escape sequences and against the message without its
// time stamp. The zero value is the built-in list as it is.
type Rules struct {
	// Extra are further lines that are a failure.
	Extra []*regexp.Regexp
	// Ignore are lines and titles that are not failures, even if they match other rules. For
	// a warning of the kernel, the message before its title counts as well.
	Ignore []*regexp.Regexp
	// Used records which of Ignore have taken out something; nil records nothing.
	Used *Used
	// Stamps says whether the kernel stamps its lines. Where it does, a line without a
	// stamp is not the kernel's, and only Extra applies to it.
	Stamps Stamps
}

// Ignores reports whether the rules take out a report that is known by its title.
func (r Rules) Ignores(f Finding) bool {
	return r.ignores([]byte(f.Title), []byte(f.Line))
}

// ignores reports whether one of Ignore matches, and records it.
func (r Rules) ignores(line, text []byte) bool {
	for _, re := range r.Ignore {
		if re.Match(line) || re.Match(text) {
			r.Used.add(re.String())
			return true
		}
	}
	return false
}

// Used are the patterns of [Rules.Ignore] that have taken out something. It is safe for concurrent
// use.
type Used struct {
	mu       sync.Mutex
	patterns []string
}

func (u *Used) add(pattern string) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.Contains(u.patterns, pattern) {
		u.patterns = append(u.patterns, pattern)
	}
}

// Patterns returns them, in the order in which they were first used.
func (u *Used) Patterns() []string {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.patterns)
}

// Finding is one failure report of a guest's kernel.
type Finding struct {
	Kind Kind
	// Title says what happened and where, the same for each report of one cause.
	Title string
	// Function is the function to blame, or empty if the report names none.
	Function string
	// Line is the report's first line, without time stamp and caller.
	Line string
	// Excerpt has the report's lines, each ended by a newline, at most 16 KiB.
	Excerpt string
	// Taint has the letters by which the kernel says what it was tainted by, or is empty.
	Taint string
	// Panic is set if the kernel says that it has stopped.
	Panic bool
	// Stamped is set if the first line has a time stamp, which is Stamp.
	Stamped bool
	Stamp   string
	// Expected is set by the caller for a panic that the test expects.
	Expected bool

	order int // of the first lines
}

// A Detector finds failure reports in console output. Its memory is bounded
// whatever it is fed. It is not safe for concurrent use.
type Detector struct {
	rules   Rules
	partial []byte   // a line without its end
	clean   []byte   // scratch of Clean
	wrapped []byte   // the line before, not judged yet, if it may go on in the next one
	skip    bool     // the partial line was already judged by Flush
	lead    []string // the lines since "cut here", which a warning begins with
	leader  string   // who printed them

	open   []*report // the oldest first, one for each context
	begun  int
	recent []string
	found  []Finding
}

// NewDetector returns a detector for one guest.
func NewDetector(rules Rules) *Detector { return &Detector{rules: rules} }

// Stamps returns what is known of the kernel's time stamps.
func (d *Detector) Stamps() Stamps { return d.rules.Stamps }

// SetStamps says whether the kernel stamps its lines, for what is fed from now on.
func (d *Detector) SetStamps(s Stamps) { d.rules.Stamps = s }

// isOwn reports whether a line may be one of the kernel.
func (d *Detector) isOwn(m message) bool { return len(m.stamp) > 0 || d.rules.Stamps != HasStamps }

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

// IsPending reports whether there is a report that no call has returned yet. The caller
// calls [Detector.Flush] when the console is quiet then.
func (d *Detector) IsPending() bool {
	if len(d.wrapped) > 0 && d.kind(d.wrapped, parse(d.wrapped)) != "" {
		return true
	}
	return slices.ContainsFunc(d.open, func(r *report) bool { return !r.ignored })
}

// Begin judges a line that has no end yet. It reports whether a report begins with the
// line, or the open one repeats it; the caller must not feed the rest of the line then.
// Otherwise nothing has changed, and the caller feeds the whole line when it has ended.
func (d *Detector) Begin(raw []byte) bool {
	d.clean = growTo(d.clean, len(raw))
	line := Clean(raw, d.clean)
	m := parse(line)
	k := d.kind(line, m)
	if k == "" || d.absorber(k, m) != nil {
		return false
	}
	d.endWrapped()
	d.begin(k, line, m)
	return true
}

// Flush ends the open reports, if any, and judges a line that has no end yet.
// The caller does this when the console was quiet for a while, and at its end.
func (d *Detector) Flush() []Finding {
	if len(d.partial) > 0 && !d.skip {
		d.line(d.partial)
		d.skip = true
	}
	d.partial = d.partial[:0]
	d.endWrapped()
	d.closeAll()
	return d.take()
}

func (d *Detector) take() []Finding {
	found := d.found
	d.found = nil
	slices.SortStableFunc(found, func(a, b Finding) int { return a.order - b.order })
	for i := range found {
		found[i].order = 0
	}
	return found
}

// hold appends to the line that has no end yet.
func (d *Detector) hold(p []byte) {
	for len(p) > 0 {
		n := min(len(p), MaxLine-len(d.partial))
		d.partial = append(d.partial, p[:n]...)
		p = p[n:]
		if len(d.partial) == MaxLine && len(p) > 0 {
			d.endPartial()
		}
	}
}

func (d *Detector) endPartial() {
	if !d.skip {
		d.line(d.partial)
	}
	d.skip = false
	d.partial = d.partial[:0]
}

// long judges a line of any length.
func (d *Detector) long(p []byte) {
	for len(p) > MaxLine {
		d.line(p[:MaxLine])
		p = p[MaxLine:]
	}
	d.line(p)
}

// line judges one line.
func (d *Detector) line(raw []byte) {
	for len(raw) > 0 && raw[len(raw)-1] == '\r' {
		raw = raw[:len(raw)-1]
	}
	d.clean = growTo(d.clean, len(raw))
	line := Clean(raw, d.clean)
	m := parse(line)
	if len(m.stamp) > 0 && d.rules.Stamps == StampsUnknown {
		d.rules.Stamps = HasStamps
	}

	if len(d.wrapped) > 0 {
		if len(m.stamp) == 0 && len(line) > 0 && len(d.wrapped)+len(line) <= MaxLine {
			d.continued(line, m)
			return
		}
		d.endWrapped()
	}
	if isWrapWidth(len(line)) && len(m.stamp) > 0 {
		d.wrapped = append(d.wrapped, line...)
		return
	}
	d.judge(line, m)
}

// continued takes a line that may go on from the ones before, which a terminal of 60 or 80
// columns had broken.
func (d *Detector) continued(line []byte, m message) {
	if d.kind(line, m) != "" {
		d.endWrapped()
		d.judge(line, m)
		return
	}
	d.wrapped = append(d.wrapped, line...)
	if !isWrapWidth(len(line)) {
		d.endWrapped()
	}
}

// endWrapped judges the line that waited for its continuation.
func (d *Detector) endWrapped() {
	if len(d.wrapped) > 0 {
		d.judge(d.wrapped, parse(d.wrapped))
		d.wrapped = d.wrapped[:0]
	}
}

// isWrapWidth reports whether a terminal may have broken a line of n columns.
func isWrapWidth(n int) bool { return n == 60 || n == 80 }

func (d *Detector) judge(line []byte, m message) {
	k := d.kind(line, m)
	for _, r := range slices.Clone(d.open) {
		if r.alone {
			d.close(r)
		}
	}
	if k != "" {
		if r := d.absorber(k, m); r == nil {
			d.begin(k, line, m)
			return
		} else if k == KindPanic && !r.Panic {
			r.Panic, r.ended = true, false
			d.remember(m)
		}
	}
	own := d.isOwn(m)
	if own {
		d.leadIn(line, m)
		if has(m.text, "Linux version ") {
			d.closeAll() // a crash kernel begins, or the guest has rebooted
		}
	}
	r := d.owner(m)
	switch {
	case r == nil, r.isAfter(m.stamp): // of the kernel's log, which is read late
		return
	case !own:
		if r.lines++; r.lines >= maxExcerptLines {
			d.close(r)
		}
		return
	case r.ended:
		if r.after++; r.after > panicWithin {
			d.close(r)
		}
		return
	}
	r.add(line, m.text)
	if r.Panic && isGoodbye(m.text) {
		r.survived()
	}
	if isDie(m.text) || matchOops(m.text) != "" {
		r.died = true
		d.remember(m)
	}
	if r.isFull() {
		d.close(r)
	} else if r.endsWith(m.text) {
		r.ended = true
		if r.Panic || r.ignored {
			d.close(r)
		}
	}
}

// owner returns the open report that a line belongs to, or nil.
func (d *Detector) owner(m message) *report {
	var shared *report
	for _, r := range d.open {
		if r.alone {
			continue
		}
		if r.caller == string(m.caller) {
			return r
		}
		if r.allCPUs && len(m.caller) > 0 && m.caller[0] == 'C' {
			shared = r
		}
	}
	return shared
}

// leadIn keeps the lines between "cut here" and the title of a warning or a BUG: the message
// of WARN(), or what is wrong with a list.
func (d *Detector) leadIn(line []byte, m message) {
	switch {
	case has(m.text, "------------[ cut here ]"):
		d.lead, d.leader = append(d.lead[:0], string(line)), string(m.caller)
	case d.leader != string(m.caller):
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
	if (k == "" || k == KindWarning || k.IsNote()) && matches(d.rules.Extra, line, m.text) {
		k = KindPattern
	}
	return k
}

// matches reports whether one of the expressions matches.
func matches(list []*regexp.Regexp, line, text []byte) bool {
	return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.Match(line) || re.Match(text) })
}

// absorber returns the open report that a title belongs to, or nil: a page fault goes on with
// "Oops: 0000 [#1]", "kernel BUG at" with "invalid opcode", and a report with the panic that
// it leads to. What a kernel reports that has panicked is part of that.
func (d *Detector) absorber(k Kind, m message) *report {
	own := d.owner(m)
	switch {
	case k == KindPattern || len(m.stamp) > 0 && d.known(m):
		return nil
	case own != nil && own.Panic && own.Stamped && !own.ended && !own.ignored && len(m.stamp) > 0:
		return own
	case k == KindPanic && (isConsequence(m.text) || own != nil && own.leadsTo(m.text)):
		if own == nil && len(d.open) > 0 {
			own = d.open[len(d.open)-1]
		}
		if own == nil || own.ignored || own.Panic || own.Kind.IsNote() || own.Kind == KindPattern {
			return nil
		}
		return own
	case own == nil || own.ended || own.died || own.lines > dieWithin:
		return nil
	case k == KindLeak && own.Kind == KindLeak && has(m.text, "unreferenced object"):
		return own
	case k == KindBug && strings.HasPrefix(own.Line, "rust_kernel: ") && has(m.text, "kernel BUG at rust/"):
		return own
	case k == KindOops || k == KindGPF || k == KindBug:
		if (own.Kind == KindBug || own.Kind == KindOops || own.Kind == KindGPF) &&
			(isDie(m.text) || matchOops(m.text) != "" || has(m.text, "Kernel BUG [#")) {
			return own
		}
	}
	return nil
}

// begin opens a report. A copy of an earlier one is swallowed.
func (d *Detector) begin(k Kind, line []byte, m message) {
	copied := len(m.stamp) > 0 && d.known(m)
	open := d.owner(m)
	if copied && open != nil && !open.ended {
		open.add(line, nil) // the copy that a second console prints
		return
	}
	r := newReport(k, m)
	if r.alone = r.isOneLine(m.text); open != nil && !r.alone {
		d.close(open)
	}
	if len(d.open) == maxOpen {
		d.close(d.open[0])
	}
	r.ignored = copied || d.isIgnored(line, m.text)
	if len(d.lead) > 0 && d.leader == string(m.caller) && (k == KindWarning || k == KindBug) {
		for _, l := range d.lead {
			text := parse([]byte(l)).text
			if k == KindWarning && !r.ignored {
				r.ignored = d.isIgnored([]byte(l), text)
			}
			r.add([]byte(l), text)
		}
	}
	d.lead = d.lead[:0]
	r.died = isDie(m.text) || matchOops(m.text) != ""
	d.remember(m)
	r.head = len(r.texts)
	r.add(line, m.text)
	r.ended = r.alone
	d.open = append(d.open, r)
	d.begun++
	r.order = d.begun
}

// isIgnored reports whether a line is one to ignore.
func (d *Detector) isIgnored(line, text []byte) bool { return d.rules.ignores(line, text) }

// Begins returns the time stamp of a line and its text, as in [Finding.Line], if a report
// begins with it.
func Begins(line []byte) (stamp, text string, ok bool) {
	m := parse(line)
	if match(m.text, len(m.stamp) > 0) == "" {
		return "", "", false
	}
	return string(m.stamp), oneLine(m.text), true
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
	d.recent = append(d.recent, string(m.stamp)+" "+oneLine(m.text))
}

func (d *Detector) known(m message) bool {
	return slices.Contains(d.recent, string(m.stamp)+" "+oneLine(m.text))
}

func (d *Detector) closeAll() {
	for len(d.open) > 0 {
		d.close(d.open[0])
	}
}

func (d *Detector) close(r *report) {
	d.open = slices.DeleteFunc(d.open, func(o *report) bool { return o == r })
	if r.ignored {
		return
	}
	f := r.finding()
	if d.isIgnored([]byte(f.Title), nil) {
		return
	}
	d.found = append(d.found, f)
}

func growTo(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, 0, n)
	}
	return b
}
