package run

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/report"
)

// TestEventsToAllPlaces compares what a run writes to a file, a pipe and a socket.
func TestEventsToAllPlaces(t *testing.T) {
	l := newLocalRun(t, "", map[string]string{"a": passes})
	dir := t.TempDir()
	pipe, err := os.Create(filepath.Join(dir, "pipe"))
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	l.o.Events.Pipe, l.o.Events.Socket = pipe, filepath.Join(dir, "socket")
	code, err := l.run()
	if code != ExitOK || err != nil {
		t.Fatalf("%d, %v, %s", code, err, l.stderr)
	}
	file, err := os.ReadFile(l.o.Events.File)
	if err != nil {
		t.Fatal(err)
	}
	piped, err := os.ReadFile(pipe.Name())
	if err != nil || !bytes.Equal(piped, file) || len(file) == 0 {
		t.Errorf("%d bytes in the pipe, %d in the file, %v", len(piped), len(file), err)
	}
	if _, err := os.Lstat(l.o.Events.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	// The saved stream shows what the run has shown.
	var saved report.Saved
	if err := saved.Read(event.NewReader(bytes.NewReader(file))); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	for _, f := range saved.Files {
		if err := report.NewJSON(&shown).File(f); err != nil {
			t.Fatal(err)
		}
	}
	if l.o.JSON && shown.String() != l.stdout {
		t.Errorf("got %s\nwant %s", shown.String(), l.stdout)
	}
}

// TestEventsAsLines reads a stream of JSON, which has the details, too.
func TestEventsAsLines(t *testing.T) {
	l := newLocalRun(t, "", map[string]string{"a": `test("a", function(t) print("x") t:log("y") end)`})
	path := l.o.Events.File
	l.o.Events = sink.Options{Format: event.JSONL, Pipe: nil, File: path + ".jsonl"}
	if code, err := l.run(); code != ExitOK || err != nil {
		t.Fatalf("%d, %v", code, err)
	}
	f, err := os.Open(path + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var kinds []string
	for r := event.NewReader(f); ; {
		env, err := r.Decode()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if k := env.Event.Kind(); k != event.KindPoolState && k != event.KindFileBlocked {
			kinds = append(kinds, string(k))
		}
	}
	const want = "run_started file_discovered file_dispatched test_started test_output test_log test_passed " +
		"file_completed run_completed"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Places that cannot be written are found before anything is built or run.
func TestEventsToBadPlaces(t *testing.T) {
	l := newLocalRun(t, "", map[string]string{"a": passes})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]sink.Options{
		"--save-events: ":                            {File: dir},
		"--events-socket: event socket `" + file:     {Socket: file},
		"no such file or directory":                  {File: filepath.Join(dir, "none", "x")},
		"--events-socket: event socket: listen unix": {Socket: filepath.Join(dir, "none", "x")},
	} {
		l.o.Events = o
		code, err := l.run()
		if code != ExitError || err == nil || !strings.Contains(err.Error(), want) || l.stdout != "" ||
			l.stderr != "" {
			t.Errorf("%s: %d, %v, %q, %q", want, code, err, l.stdout, l.stderr)
		}
	}
}
