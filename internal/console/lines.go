package console

import (
	"bytes"

	"provium/internal/kernelreport"
)

// Lines returns the complete lines of a log, without escape sequences of terminals and
// control characters other than the tab. What stands behind the last line break is
// no line yet.
func Lines(log []byte) []string {
	lines := make([]string, 0, bytes.Count(log, []byte("\n")))
	buf := make([]byte, 0, kernelreport.MaxLine)
	for {
		line, rest, ended := bytes.Cut(log, []byte("\n"))
		if !ended {
			return lines
		}
		lines, log = append(lines, string(kernelreport.Clean(line, buf))), rest
	}
}
