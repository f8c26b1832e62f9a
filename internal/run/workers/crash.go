package workers

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
)

const (
	// maxDump is how many bytes of a crash a runner may print. The dump of a process with
	// thousands of goroutines has a hundred MB.
	maxDump = 16 << 10
	// The report of a crash has its first lines.
	maxCrashLines = 25
	maxCrashLine  = 300 // bytes
	// headToDump is how many lines are between the first one of a crash and its goroutines.
	headToDump = 30
)

// crashHead is the first line of what the Go runtime prints when a program crashes.
var crashHead = regexp.MustCompile(
	`^(fatal error: |panic: |runtime: |runtime/cgo: |unexpected fault address |SIG[A-Z]+: )`)

var dumpBegin = regexp.MustCompile(`^goroutine [0-9]+ `)

// runnerStderr passes on what a runner prints on its standard error, and cuts the dump of a
// crash short.
type runnerStderr struct {
	to   io.Writer
	name string // of the file, for messages

	line  []byte   // unfinished, its beginning
	crash []string // the first lines of what may be a crash
	lines int      // since its head; 0: there was none
	dump  bool     // it is one
	bytes int64    // of the dump
}

// Write takes what the runner prints. It does not fail: the runner must not notice.
func (s *runnerStderr) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		piece := rest
		if end := bytes.IndexByte(rest, '\n') + 1; end > 0 {
			piece = rest[:end]
		}
		rest = rest[len(piece):]
		s.take(piece)
		if s.dump {
			s.bytes += int64(len(piece))
		}
		if s.bytes <= maxDump {
			_, _ = s.to.Write(piece)
		}
	}
	return len(p), nil
}

// take looks at a line, or a piece of one.
func (s *runnerStderr) take(piece []byte) {
	s.line = append(s.line, piece[:min(len(piece), max(0, maxCrashLine-len(s.line)))]...)
	if piece[len(piece)-1] != '\n' {
		return
	}
	line := strings.TrimRight(string(s.line), "\n")
	s.line = s.line[:0]
	switch {
	case s.dump:
	case crashHead.MatchString(line) && (s.lines == 0 || s.lines > headToDump):
		s.lines, s.crash = 0, nil
	case s.lines > 0 && s.lines <= headToDump && dumpBegin.MatchString(line):
		s.dump = true
	case s.lines == 0:
		return
	}
	s.lines++
	if len(s.crash) < maxCrashLines {
		s.crash = append(s.crash, line)
	}
}

// close is called when the runner has ended. crashed says that it has not said so before. It
// returns the first lines of the crash, or "".
func (s *runnerStderr) close(crashed bool) string {
	if left := s.bytes - maxDump; left > 0 {
		fmt.Fprintf(s.to, "provium: %s: %d more bytes of the dump of the crashed runner are left out\n", s.name, left)
	}
	if !crashed || !s.dump {
		return ""
	}
	return strings.TrimSpace(strings.Join(s.crash, "\n"))
}
