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

// failures names what did not pass in a file, each as one line.
func (r FileResult) failures() []string {
	if r.Status == FilePassed {
		return nil
	}
	path := terminal.Escape(r.Path)
	var out []string
	for _, test := range r.Tests {
		if test.Status == TestFailed {
			out = append(out, path+": "+oneLine(test.Name))
		}
	}
	if r.ChunkError != "" || r.Status != FileFailed || len(out) == 0 {
		out = append(out, path+" "+fileFate(r))
	}
	return out
}

// fileFate says why a file as such counts as failed.
func fileFate(r FileResult) string {
	switch r.Status {
	case FileTimedOut:
		return "(timed out)"
	case FileCrashed:
		return "(crashed)"
	case FileInterrupted:
		return "(interrupted)"
	}
	return "(did not load)"
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
	fmt.Fprintf(&b, "%d iteration(s); %d passed, %d failed, %d skipped%s; %.2fs", t.iterations, t.counts.Passed,
		t.counts.Failed, t.counts.Skipped, flakyCount(t.counts.Flaky), elapsed.Seconds())
	return b.String()
}
