package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"provium/internal/terminal"
)

// Slowest collects the durations of tests, for --durations.
type Slowest struct{ tests []timedTest }

type timedTest struct {
	path, name string
	took       time.Duration
}

// Add takes the tests of a file that have run.
func (s *Slowest) Add(r FileResult) {
	for _, t := range r.Tests {
		if t.Status != TestSkipped {
			s.tests = append(s.tests, timedTest{r.Path, t.Name, t.Duration})
		}
	}
}

// Write writes the n slowest tests, the slowest first; with 0 all of them.
func (s *Slowest) Write(w io.Writer, n int) error {
	slices.SortStableFunc(s.tests, func(a, b timedTest) int {
		return cmp.Or(cmp.Compare(b.took, a.took), cmp.Compare(a.path, b.path))
	})
	if n <= 0 || n > len(s.tests) {
		n = len(s.tests)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "slowest %d of %d tests:\n", n, len(s.tests))
	for _, t := range s.tests[:n] {
		fmt.Fprintf(&b, "%9.2fs  %s  %s\n", t.took.Seconds(), terminal.Escape(t.path), oneLine(t.name))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("durations write: %w", err)
	}
	return nil
}
