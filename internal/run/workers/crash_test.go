package workers

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// crashDump is what a process prints that has used up the threads it may have.
func crashDump(goroutines int) string {
	var b strings.Builder
	b.WriteString("runtime: program exceeds 10000-thread limit\nfatal error: thread exhaustion\n\nruntime stack:\n" +
		"runtime.throw({0x1, 0x2})\n\t/go/runtime/panic.go:1 +0x48\n\n")
	for i := range goroutines {
		fmt.Fprintf(&b, "goroutine %d gp=0x1 m=nil [chan receive]:\nmain.wait()\n\t/main.go:7 +0x1\n\n", i+1)
	}
	return b.String()
}

func TestDumpsOfRunnersAreCut(t *testing.T) {
	var shown bytes.Buffer
	s := &runnerStderr{to: &shown, name: "a.test.lua"}
	dump := "a line\n" + crashDump(10_000)
	for i := 0; i < len(dump); i += 1000 { // pieces of lines, too
		_, _ = s.Write([]byte(dump[i:min(i+1000, len(dump))]))
	}
	report := s.close(true)
	lines := strings.Split(report, "\n")
	if lines[0] != "runtime: program exceeds 10000-thread limit" || lines[1] != "fatal error: thread exhaustion" ||
		!strings.Contains(report, "goroutine 1 ") || len(lines) > maxCrashLines {
		t.Errorf("%q", report)
	}
	text := shown.String()
	if !strings.HasPrefix(text, dump[:10000]) || len(text) > maxDump+1000 ||
		!strings.Contains(text, "\nprovium: a.test.lua: ") ||
		!strings.HasSuffix(text, "of the crashed runner are left out\n") {
		t.Errorf("%d bytes: %q", len(text), text[max(0, len(text)-200):])
	}
}

// What only looks like the first line of a crash is passed on, whatever follows.
func TestOtherOutputOfRunners(t *testing.T) {
	var shown bytes.Buffer
	s := &runnerStderr{to: &shown}
	text := "panic: on the disco\n" + strings.Repeat("a line of a test\n", 2000) + "fatal error: not one" +
		strings.Repeat("x", 5000) + "\ngoroutines are nice\nno end"
	_, _ = s.Write([]byte(text))
	if report := s.close(true); report != "" || shown.String() != text {
		t.Errorf("%q, %d bytes of %d", report, shown.Len(), len(text))
	}
	s = &runnerStderr{to: &shown}
	_, _ = s.Write([]byte(crashDump(1)))
	if report := s.close(false); report != "" {
		t.Errorf("a report of a runner that has not crashed: %q", report)
	}
}
