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

// TestUnwritableOutputs: each output that cannot be written, or that two flags name, is told
// before anything runs.
func TestUnwritableOutputs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	flags := map[string]func(o *Options, path string){
		"--save-events":   func(o *Options, path string) { o.Events.File = path },
		"--events-socket": func(o *Options, path string) { o.Events.Socket = path },
		"--junit":         func(o *Options, path string) { o.Exports.JUnit = path },
		"--tap":           func(o *Options, path string) { o.Exports.TAP = path },
		"--ktap":          func(o *Options, path string) { o.Exports.KTAP = path },
		"--report":        func(o *Options, path string) { o.Exports.Page = path },
	}
	for flag, set := range flags {
		for _, path := range []string{dir, filepath.Join(dir, "none", "x"), filepath.Join(file, "x"), loop} {
			l := newLocalRun(t, "", map[string]string{"a": passes})
			set(&l.o, path)
			code, err := l.run()
			if code != ExitError || err == nil || !strings.HasPrefix(err.Error(), flag+": ") ||
				!strings.Contains(err.Error(), path) || l.stdout != "" {
				t.Errorf("%s %s: %d, %v, %q", flag, path, code, err, l.stdout)
			}
		}
		other := flags["--tap"]
		if flag == "--events-socket" || flag == "--tap" {
			continue
		}
		l := newLocalRun(t, "", map[string]string{"a": passes})
		set(&l.o, file)
		other(&l.o, dir+"/./file")
		if code, err := l.run(); code != ExitError || err == nil || !strings.Contains(err.Error(),
			" name the same file, `"+dir) || !strings.Contains(err.Error(), flag+" ") {
			t.Errorf("%s: %d, %v", flag, code, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestWriteWhole: links are followed, and a file in a directory that takes no others is written.
func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("what was there"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
	}
	if err := WriteWhole(link, write("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "new" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link is gone: %v", err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	if err := WriteWhole(target, write("x")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "x" {
		t.Errorf("%q, %v", text, err)
	}
}
