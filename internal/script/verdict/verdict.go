// Package verdict decides what the reports of guests' kernels mean for a test: which of them
// fail it, which are only noted, and whether those that it expects have come.
//
// It reads no console and has no guest. What holds for all tests of a file is in project.go. Start
// with Judge.
package verdict

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"provium/internal/kernelreport"
	"provium/internal/luaapi"
	"provium/internal/pattern"
)

// Allowed is what the metadata of a test says of kernels.
type Allowed struct {
	Reports  bool // nothing that a kernel reports fails the test
	Warnings bool // nor do the reports of WARN()
	Panic    bool // nor does a panic, and what led to it; the guest goes on as its kernel does

	Keys []string // of all metadata
}

// Verdict collects what the kernels of one test have reported. It is safe for concurrent use.
type Verdict struct {
	project *Project
	allowed Allowed

	mu       sync.Mutex
	seen     int // reports that the test might have failed for
	warnings int // of WARN()
	panicked bool
	expected []*expectation
}

// expectation is a report that the test says must come.
type expectation struct {
	pattern pattern.Pattern
	where   string // the call
	met     bool
}

// New returns the verdict of a test that has just begun. project may be nil.
func New(project *Project, allowed Allowed) *Verdict {
	if project == nil {
		project = &Project{}
	}
	return &Verdict{project: project, allowed: allowed}
}

// VM is whose kernel has reported something.
type VM interface {
	Name() string
	Profile() string
	NotesWarnings() bool // those of WARN() are only noted
}

// Expect has a report that matches p fail nothing. One must come until the test ends. where is
// the place of the call. An empty text, which every report has, is an error.
func (v *Verdict) Expect(p pattern.Pattern, where string) error {
	if p.String() == "" {
		return errors.New("t:expect_kernel: argument 1 (pattern) must not be empty: every report would match; " +
			"name a part of its title, or use meta.allow_oops")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expected = append(v.expected, &expectation{pattern: p, where: where})
	return nil
}

// Excuses reports whether a report fails nothing, and so must not end the test.
func (v *Verdict) Excuses(f kernelreport.Finding) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.allowed.Reports || v.isExpected(f)
}

// isExpected reports whether an expectation is met by a report. The caller must hold v.mu.
func (v *Verdict) isExpected(f kernelreport.Finding) bool {
	met := false
	for _, e := range v.expected {
		for _, text := range []string{f.Title, f.Line, f.Excerpt} {
			// A pattern that takes too long matches nothing.
			if m, _, err := e.pattern.Find(context.Background(), []byte(text), 0, false); err == nil && m != nil {
				e.met, met = true, true
				break
			}
		}
	}
	return met
}

// Saw takes a report as soon as it is seen, also an expected one, which is not judged. It reports whether the guest has
// ended or stands still by what the test does not expect.
func (v *Verdict) Saw(f kernelreport.Finding) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.panicked = v.panicked || f.Panic
	return !f.Expected && (f.Panic || f.Kind.IsStall())
}

// Judge takes the reports of a VM's kernel. Each failure is the title, and the report below it;
// reports of one title are one failure.
func (v *Verdict) Judge(vm VM, found []kernelreport.Finding) (failures, notes []string) {
	failed, noted := v.sort(vm, found)
	for _, t := range failed.titles {
		text := fmt.Sprintf("guest failure on vm `%s`: %s", vm.Name(), t.title())
		if t.first.Excerpt != "" {
			excerpt, note := v.project.named(vm, strings.TrimRight(t.first.Excerpt, "\n"))
			text += "\n" + excerpt
			if note != "" && !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
		failures = append(failures, text)
	}
	for _, t := range noted.titles {
		notes = append(notes, fmt.Sprintf("the kernel of vm `%s`: %s", vm.Name(), t.title()))
	}
	return failures, notes
}

// sort counts reports, and returns those that fail the test and those to note.
func (v *Verdict) sort(vm VM, found []kernelreport.Finding) (failed, noted group) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range found {
		warning := f.Kind == kernelreport.KindWarning
		if !f.Kind.IsNote() {
			v.seen++
		}
		if warning {
			v.warnings++
		}
		switch {
		case v.isExpected(f), v.allowed.Reports && !f.Kind.IsNote(), warning && v.allowed.Warnings:
		case warning && vm.NotesWarnings(), f.Kind.IsNote():
			noted.add(f)
		default:
			failed.add(f)
		}
	}
	return failed, noted
}

// End returns the expectations that were not met, and notes of what the test allows for in vain.
// It is called when the test has ended, after the last Judge. failed says that the test has
// failed otherwise: then what it allows for may just not have come yet.
func (v *Verdict) End(failed bool) (failures, notes []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range v.expected {
		if !e.met {
			at := ""
			if e.where != "" {
				at = e.where + ": "
			}
			failures = append(failures, fmt.Sprintf("%st:expect_kernel: no kernel has reported `%s`", at, e.pattern))
		}
	}
	switch {
	case failed:
	case v.allowed.Reports && v.seen == 0:
		notes = append(notes, "meta.allow_oops is not needed: no kernel has reported anything")
	case v.allowed.Warnings && v.warnings == 0:
		notes = append(notes, "meta.allow_warnings is not needed: no kernel has warned")
	case v.allowed.Panic && !v.panicked:
		notes = append(notes, "meta.expect_panic is not needed: no kernel has panicked")
	}
	return failures, append(notes, v.allowed.misspelt()...)
}

// meaningful are the keys of metadata that Provium reads. Others are data.
var meaningful = []string{"allow_oops", "allow_warnings", "expect_panic", "op_timeout", "skip", "slow", "spec", "tags",
	"timeout"}

// misspelt says which keys are near one that has a meaning.
func (a *Allowed) misspelt() (notes []string) {
	for _, key := range a.Keys {
		near := luaapi.Nearest(key, meaningful)
		if near == "" || near == key || len(key) < len("slow")+1 && key+"s" != near {
			continue // short words are near many
		}
		notes = append(notes, fmt.Sprintf("meta.%s has no meaning to Provium: did you mean meta.%s?", key, near))
	}
	return notes
}

// group are reports by their titles.
type group struct{ titles []*titled }

// titled are the reports of one title.
type titled struct {
	first kernelreport.Finding
	times int
}

func (g *group) add(f kernelreport.Finding) {
	i := slices.IndexFunc(g.titles, func(t *titled) bool { return t.first.Title == f.Title })
	if i < 0 {
		g.titles = append(g.titles, &titled{f, 1})
		return
	}
	g.titles[i].times++
}

// title returns the title, and how often it came.
func (t *titled) title() string {
	if t.times == 1 {
		return t.first.Title
	}
	return fmt.Sprintf("%s (%d times)", t.first.Title, t.times)
}
