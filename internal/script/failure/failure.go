package failure

import "strings"

// Failure is why a test or a chunk has failed, part by part. Parts are empty or lines without
// a newline at the end.
type Failure struct {
	// Message begins with file:line.
	Message string
	// Step is where the failure was in steps.
	Step string
	// Diff shows where two values differ.
	Diff string
	// Source is the line of Lua, of Excerpt.
	Source string
	// Output has what a command has printed, of Block.
	Output string
	// Stack is the Lua stack, of Stack.
	Stack string
	// Operations are the last ones, of Trace.Report.
	Operations string
}

// String returns the reason as reports show it: the message, then what helps to understand it.
func (f *Failure) String() string {
	parts := []string{strings.TrimRight(f.Message, "\n")}
	for _, more := range []string{f.Step, f.Diff, f.Source, f.Output, f.Stack, f.Operations} {
		if more != "" {
			parts = append(parts, more)
		}
	}
	return strings.Join(parts, "\n")
}

// WithReports adds the reports of kernels to the reasons of a failure. One whose title is a
// reason already is not told twice.
func WithReports(reasons, reports []string) []string {
	above := strings.Join(reasons, "\n")
	for _, report := range reports {
		title, excerpt, _ := strings.Cut(report, "\n")
		switch {
		case !strings.Contains(above, title):
			reasons = append(reasons, report)
		case excerpt != "" && !strings.Contains(above, excerpt):
			reasons = append(reasons, "the report:\n"+excerpt)
		}
	}
	return reasons
}
