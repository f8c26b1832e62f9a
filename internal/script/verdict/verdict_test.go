package verdict

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"provium/internal/kernelreport"
	"provium/internal/pattern"
)

func report(kind kernelreport.Kind, title string) kernelreport.Finding {
	return kernelreport.Finding{Kind: kind, Title: title, Line: "first line of " + title,
		Excerpt: "first line of " + title + "\n a_function+0x1/0x2\n"}
}

var (
	oops = report(kernelreport.KindOops, "divide error in demo")
	warn = report(kernelreport.KindWarning, "WARNING in demo")
	bug  = report(kernelreport.KindBug, "kernel BUG in demo")
	oom  = report(kernelreport.KindOOM, "Out of memory: killed tail")
)

// machine is a VM.
type machine struct {
	name  string
	notes bool
}

func (m machine) Name() string { return m.name }

func (m machine) Profile() string { return "profile of " + m.name }

func (m machine) NotesWarnings() bool { return m.notes }

func luaPattern(t *testing.T, text string) pattern.Pattern {
	t.Helper()
	p, err := pattern.Lua(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		name     string
		allowed  Allowed
		expect   string // a Lua pattern
		note     bool   // kernel_warnings = "note"
		found    []kernelreport.Finding
		failures []string // beginnings
		notes    []string
	}{
		{name: "nothing"},
		{name: "a report fails", found: []kernelreport.Finding{oops},
			failures: []string{"guest failure on vm `a`: divide error in demo\nfirst line of"}},
		{name: "equal titles are one", found: []kernelreport.Finding{warn, oops, warn, warn},
			failures: []string{"guest failure on vm `a`: WARNING in demo (3 times)\n",
				"guest failure on vm `a`: divide"}},
		{name: "noted warnings", note: true, found: []kernelreport.Finding{warn, warn},
			notes: []string{"the kernel of vm `a`: WARNING in demo (2 times)"}},
		{name: "killed for memory", found: []kernelreport.Finding{oom},
			notes: []string{"the kernel of vm `a`: Out of memory: killed tail"}},
		{name: "allowed", allowed: Allowed{Reports: true}, found: []kernelreport.Finding{oops, warn}},
		{name: "allowed in vain", allowed: Allowed{Reports: true},
			notes: []string{"meta.allow_oops is not needed"}},
		{name: "allowed warnings", allowed: Allowed{Warnings: true}, found: []kernelreport.Finding{warn, oops},
			failures: []string{"guest failure on vm `a`: divide error"}},
		{name: "warnings allowed in vain", allowed: Allowed{Warnings: true},
			notes: []string{"meta.allow_warnings is not needed"}},
		{name: "wrong keys",
			allowed: Allowed{Keys: []string{"alow_oops", "name", "owner", "slot", "tag", "timeout", "timout"}},
			notes: []string{"meta.alow_oops has no meaning to Provium: did you mean meta.allow_oops?",
				"meta.tag has no meaning to Provium: did you mean meta.tags?", "meta.timout has no"}},
		{name: "a panic in vain", allowed: Allowed{Panic: true}, notes: []string{"meta.expect_panic is not needed"}},
		{name: "expected", expect: "divide error in %a+", found: []kernelreport.Finding{oops}},
		{name: "expected by a line", expect: "a_function%+0x", found: []kernelreport.Finding{oops}},
		{name: "another one", expect: "divide error", found: []kernelreport.Finding{oops, warn},
			failures: []string{"guest failure on vm `a`: WARNING in demo"}},
		{name: "expected, but not met", expect: "divide error",
			failures: []string{"x.lua:3: t:expect_kernel: no kernel has reported `divide error`"}},
	} {
		v := New(nil, tc.allowed)
		if tc.expect != "" {
			if err := v.Expect(luaPattern(t, tc.expect), "x.lua:3"); err != nil {
				t.Error(err)
			}
		}
		failures, notes := v.Judge(machine{"a", tc.note}, tc.found)
		f, n := v.End(len(failures) > 0)
		failures, notes = append(failures, f...), append(notes, n...)
		begins := func(got, want string) bool { return strings.HasPrefix(got, want) }
		if !slices.EqualFunc(failures, tc.failures, begins) || !slices.EqualFunc(notes, tc.notes, begins) {
			t.Errorf("%s: failures %q, notes %q", tc.name, failures, notes)
		}
	}
}

func TestExcuses(t *testing.T) {
	v := New(nil, Allowed{})
	if v.Excuses(oops) {
		t.Error("an oops was excused that nobody expects")
	}
	if err := v.Expect(pattern.Text(""), ""); err == nil {
		t.Error("every report may be expected")
	}
	if err := v.Expect(pattern.Text("divide error"), ""); err != nil {
		t.Error(err)
	}
	if !v.Excuses(oops) || v.Excuses(warn) {
		t.Error("not what is expected is excused")
	}
	if !New(nil, Allowed{Reports: true}).Excuses(oops) {
		t.Error("an allowed report was not excused")
	}
}

// TestSource has lines of source put behind frames of what fails the test, and of nothing else.
func TestSource(t *testing.T) {
	calls := 0
	project := &Project{Source: func(_ context.Context, profile, report string) (string, error) {
		calls++
		return report + " of " + profile, errors.New("a part is missing")
	}}
	v := New(project, Allowed{Warnings: true})
	failures, notes := v.Judge(machine{"a", false}, []kernelreport.Finding{oops, warn, oom, bug})
	if calls != 2 || len(failures) != 2 || !strings.HasSuffix(failures[0], "a_function+0x1/0x2 of profile of a") {
		t.Errorf("%d calls: %q", calls, failures)
	}
	want := "lines of source for the kernel of vm `a`: a part is missing"
	if len(notes) != 2 || notes[0] != want {
		t.Errorf("notes: %q", notes)
	}
}

// TestName has a text named, without words of Go where the time was too short.
func TestName(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	source := func(ctx context.Context, profile, text string) (string, error) {
		return text + " of " + profile, ctx.Err()
	}
	failing := func(context.Context, string, string) (string, error) { return "f", errors.New("no module") }
	for _, tc := range []struct {
		project *Project
		ctx     context.Context
		want    string
	}{
		{nil, over, "f"},
		{&Project{}, over, "f"},
		{&Project{Source: source}, t.Context(), "f of p"},
		{&Project{Source: source}, over, "f of p\n  (there was no time to look up all lines of source)"},
		{&Project{Source: failing}, t.Context(), "f\n  (lines of source: no module)"},
	} {
		if got := tc.project.Name(tc.ctx, "p", "f"); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}
