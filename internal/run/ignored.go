package run

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"provium/internal/shard"
)

// ignoredReports is which patterns of oops_ignore have taken out a report in the files of a run.
// It is safe for concurrent use; its zero value has none.
type ignoredReports struct {
	mu      sync.Mutex
	used    []string
	unknown bool // a file has ended without saying so
}

// add takes what a runner says at its end, nil if it has said nothing.
func (r *ignoredReports) add(d *done) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d == nil {
		r.unknown = true
		return
	}
	r.used = append(r.used, d.Ignored...)
}

// note writes a note on each of the patterns that has taken out nothing.
func (r *ignoredReports) note(w io.Writer, patterns []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range patterns {
		if !r.unknown && !slices.Contains(r.used, p) {
			fmt.Fprintf(w, "provium: note: oops_ignore `%s` has taken out no report of a kernel in this run\n", p)
		}
	}
}

// isWhole reports whether a run leaves no test out that nobody has marked as slow.
func (o *Options) isWhole() bool {
	s, f := o.Select, o.Filter
	return len(s.Paths) == 0 && s.Filter == "" && s.Shard == (shard.Shard{}) && !s.RerunFailed && s.Since == "" &&
		s.Only == nil && len(f.Tags)+len(f.NoTags)+len(f.TagMeta)+len(f.NoTagMeta)+len(f.Names) == 0 && f.Keyword == ""
}
