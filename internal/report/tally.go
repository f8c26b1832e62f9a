package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"provium/internal/terminal"
)

// Tally sums up the iterations of a run that is repeated.
type Tally struct {
	iterations, failed int
	counts             Counts
	failures           map[string]int // iterations in which it failed, by what is shown of it
}

// Add takes the results of an iteration. Files that never started have none.
func (t *Tally) Add(results []FileResult, notStarted int) {
	t.iterations++
	if t.failures == nil {
		t.failures = map[string]int{}
	}
	var c Counts
	for _, r := range results {
		c.Add(r)
		t.counts.Add(r)
		for _, name := range r.failures() {
			t.failures[name]++
		}
	}
	if !c.OK() || notStarted > 0 {
		t.failed++
	}
}

// failures names what failed in a file, each as one line.
func (r FileResult) failures() []string {
	path := terminal.Escape(r.Path)
	var out []string
	for _, test := range r.Tests {
		if test.Status == TestFailed {
			out = append(out, path+"  "+oneLine(test.Name))
		}
	}
	switch {
	case r.Status == FileCrashed, r.Status == FileTimedOut, r.Status == FileInterrupted:
		out = append(out, path+"  ("+strings.ReplaceAll(string(r.Status), "_", " ")+")")
	case r.ChunkError != "":
		out = append(out, path+"  (did not load)")
	}
	return out
}

// Summary is the end of the run: what failed, and in how many iterations. There is no newline
// behind it.
func (t *Tally) Summary(elapsed time.Duration) string {
	var names []string
	for name := range t.failures {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(t.failures[b], t.failures[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "failed %d of %d: %s\n", t.failures[name], t.iterations, name)
	}
	fmt.Fprintf(&b, "failed %d of %d\n", t.failed, t.iterations)
	fmt.Fprintf(&b, "%d iteration(s); %d passed, %d failed, %d skipped; %.2fs", t.iterations, t.counts.Passed,
		t.counts.Failed, t.counts.Skipped, elapsed.Seconds())
	return b.String()
}
