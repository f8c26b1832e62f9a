package choose

import (
	"fmt"
	"slices"
	"strings"
)

// Picks choose tests of one file. The zero value takes all.
type Picks struct {
	Lines []int    // PATH:LINE
	Names []string // PATH::NAME: of a test, or of all tests of a test.each
	// Failed are the names of tests that failed before; OnlyFailed leaves out all others.
	Failed     []string
	OnlyFailed bool
}

// Of returns the picks for a file that has these tests. Where none of those that failed before
// is left, all of them are taken.
func (p Picks) Of(names []string) Picks {
	if p.OnlyFailed && !slices.ContainsFunc(p.Failed, func(name string) bool { return slices.Contains(names, name) }) {
		p.OnlyFailed, p.Failed = false, nil
	}
	return p
}

// Some reports whether tests are chosen by line or name.
func (p Picks) Some() bool { return len(p.Lines)+len(p.Names) > 0 }

// Skip reports whether a test is left out, and why.
func (p Picks) Skip(t Test) (skip bool, reason string) {
	if p.Some() && !slices.ContainsFunc(p.Names, func(name string) bool { return isNamed(t, name) }) &&
		!slices.ContainsFunc(p.Lines, func(line int) bool { return isAt(t, line) }) {
		return true, "filtered: did not match " + strings.Join(p.selectors(t.Path), ", ")
	}
	if p.OnlyFailed && t.Name != "" && !slices.Contains(p.Failed, t.Name) {
		return true, "filtered: did not fail before (--rerun-failed)"
	}
	return false, ""
}

// isNamed reports whether a test may have the name.
func isNamed(t Test, name string) bool { return t.Name == "" || t.Name == name || t.Group == name }

// isAt reports whether a test may stand at the line.
func isAt(t Test, line int) bool {
	return t.Lines == nil || slices.ContainsFunc(t.Lines, func(l Lines) bool {
		return l.First <= line &&
			line <= l.Last
	})
}

// selectors returns the picks as they stand on the command line.
func (p Picks) selectors(path string) []string {
	var out []string
	for _, line := range p.Lines {
		out = append(out, fmt.Sprintf("%s:%d", path, line))
	}
	for _, name := range p.Names {
		out = append(out, path+"::"+name)
	}
	return out
}
