package export

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"provium/internal/report"
	"provium/internal/terminal"
)

// Annotations writes what failed as commands of a GitHub workflow, which shows them at
// the lines of the test files. base is the project's directory in the repository, which
// their paths begin with; "" is the root.
func Annotations(w io.Writer, r Run, base string) error {
	var b strings.Builder
	for _, f := range r.Files {
		for _, t := range f.Tests {
			switch {
			case t.Status == report.TestFailed:
				annotation(&b, "error", base, f.Path, t.Name, t.Message)
			case t.IsFlaky():
				annotation(&b, "warning", base, f.Path, "flaky: "+t.Name, t.Retries[0])
			}
		}
		if why := failureOf(f); why != nil {
			annotation(&b, "error", base, f.Path, strings.ReplaceAll(why.kind, "_", " "), why.message)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("annotation write: %w", err)
	}
	return nil
}

var (
	workflowData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	workflowProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func annotation(b *strings.Builder, command, base, path, title, message string) {
	file, line, text := position(message)
	if file == "" {
		file, line = path, 1
	}
	fmt.Fprintf(b, "::%s file=%s,line=%d,title=%s::%s\n", command,
		workflowProperty.Replace(terminal.Escape(filepath.Join(base, file))), line,
		workflowProperty.Replace(terminal.Escape(title)), workflowData.Replace(terminal.Escape(text)))
}
