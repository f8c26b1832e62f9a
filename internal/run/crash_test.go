package run

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCrashIsInTheReport has a runner with many goroutines crash.
func TestCrashIsInTheReport(t *testing.T) {
	t.Setenv("GOTRACEBACK", "all")
	r := newFakeRun(t, "dies")
	shown, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	r.command.Stderr = shown
	got := describeResult(r.run(nil, nil, nil))
	if !strings.HasPrefix(got, "crashed; a failed runner ended: exit status 2\npanic: no luck\n") ||
		!strings.Contains(got, "\ngoroutine ") {
		t.Error(got)
	}
	text, err := os.ReadFile(shown.Name())
	if err != nil || len(text) > 20<<10 || !bytes.HasPrefix(text, []byte("panic: no luck\n")) ||
		!bytes.Contains(text, []byte("more bytes of the dump of the crashed runner are left out")) {
		t.Errorf("%v, %d bytes: %.2000s", err, len(text), text)
	}
}
