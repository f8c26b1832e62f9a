package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/report/export"
	"provium/internal/terminal"
)

// guestText is what a guest can print: sequences that terminals obey, C1 characters, changed
// direction, and what could end a script, a CDATA section, a TAP line or a workflow command.
const guestText = "red\x1b[31m title\x1b]0;t\x07 c1\u009b2J del\x7f rlo\u202e back\b\r" +
	"</script><b>&amp;]]> # SKIP ::error::x%0A \ufffe \\"

// guestRun is the stream of a run in which guests got it into everything that is shown.
func guestRun(t *testing.T) []event.Event {
	t.Helper()
	path, name := "tests/"+guestText+".test.lua", "test "+guestText
	meta := event.Meta{"spec": []any{guestText}, "tags": guestText, guestText: guestText}
	return []event.Event{
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Iteration: 1, Files: 1, Project: guestText},
		event.DownloadStarted{What: guestText}, event.DownloadDone{What: guestText, Error: guestText},
		event.FileDiscovered{Path: path}, event.FileBlocked{Path: path, Reason: event.BlockedPoolFull},
		event.FileDispatched{Path: path}, event.FixtureBuildDone{Path: guestText},
		event.FixtureCacheHit{Path: guestText},
		event.VMSpawned{File: path, VMName: guestText, Profile: guestText, Source: event.BootCold},
		event.ConsoleOutput{File: path, VMName: guestText, Text: guestText + "\n"},
		event.TestStarted{Path: path, Name: name, Meta: meta, Where: guestText},
		event.TestOutput{Path: path, Name: name, Text: guestText},
		event.OperationEnded{Path: path, Name: name, VMName: guestText, Call: guestText, Status: event.OperationOK,
			Output: guestText, Result: guestText},
		event.TestRetried{Path: path, Name: name, Attempt: 1, Reason: guestText},
		event.TestFailed{Path: path, Name: name, Reason: "tests/a.test.lua:3: " + guestText + "\nmore " + guestText,
			ConsoleExcerpt: guestText, Log: []string{guestText}, Meta: meta},
		event.TestStarted{Path: path, Name: "flaky " + guestText, Meta: meta},
		event.TestRetried{Path: path, Name: "flaky " + guestText, Attempt: 1, Reason: guestText},
		event.TestPassed{Path: path, Name: "flaky " + guestText, Log: []string{guestText}, Meta: meta},
		event.TestStarted{Path: path, Name: "skipped"},
		event.TestSkipped{Path: path, Name: "skipped", Reason: guestText},
		event.VMShutdown{File: path, VMName: guestText, Reason: guestText},
		event.FileCompleted{Path: path, Status: event.FileCrashed, ChunkError: guestText, DurationNS: 5},
	}
}

// TestGuestTextIsShownEscaped looks for control characters in every output.
func TestGuestTextIsShownEscaped(t *testing.T) {
	p := newCLI(t, nil)
	var stream, lines []byte
	for i, e := range guestRun(t) {
		b := event.NewBatch(int64(i)*1e9, event.Encoded{Event: e})
		for format, to := range map[event.Format]*[]byte{event.Msgpack: &stream, event.JSONL: &lines} {
			out, err := b.Bytes(format)
			if err != nil {
				t.Fatal(err)
			}
			*to = append(*to, out...)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "ev"), stream, 0o644); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{"events as lines": string(lines)}
	for _, args := range []string{"report ev", "report -v ev", "report -q ev", "report --json ev", "coverage ev",
		"coverage ev --format html", "coverage ev --format json", "coverage ev --by tag --by file"} {
		code, stdout, stderr := p.run(strings.Fields(args)...)
		if code != 0 {
			t.Errorf("%s: %d", args, code)
		}
		outputs[args] = stdout + stderr
	}
	if code, _, stderr := p.run("coverage", "ev", "--by", "no"+guestText); code != 2 {
		t.Error(stderr)
	} else {
		outputs["an error"] = stderr
	}
	if code, _, stderr := p.run("report", "ev", "-o", "page.html"); code != 0 {
		t.Error(stderr)
	}
	page, err := os.ReadFile(filepath.Join(p.dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	outputs["page"] = string(page)

	var saved report.Saved
	if err := saved.Read(event.NewReader(bytes.NewReader(stream))); err != nil {
		t.Fatal(err)
	}
	saved.Files[0].Warnings = []string{guestText}
	r := export.Run{Started: time.Unix(0, 0), Host: guestText, Facts: []export.Fact{{Name: "seed", Value: guestText}},
		Files: saved.Files}
	for name, write := range map[string]func(io.Writer) error{
		"junit":       func(w io.Writer) error { return export.JUnit(w, r) },
		"tap":         func(w io.Writer) error { return export.TAP(w, r) },
		"ktap":        func(w io.Writer) error { return export.KTAP(w, r) },
		"annotations": func(w io.Writer) error { return export.Annotations(w, r, "") },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		outputs[name] = b.String()
	}
	for name, text := range outputs {
		if !strings.Contains(text, "red") {
			t.Errorf("%s: the text is missing\n%s", name, text)
		}
		for line := range strings.Lines(text) {
			if at := strings.IndexFunc(strings.TrimSuffix(line, "\n"), terminal.IsControl); at >= 0 {
				t.Errorf("%s: a control character at %d of %q", name, at, line)
				break
			}
		}
	}
	checkForms(t, outputs, saved.Files[0])
}

// checkForms reads those outputs that programs read.
func checkForms(t *testing.T, outputs map[string]string, want report.FileResult) {
	t.Helper()
	var file struct {
		Path  string
		Tests []struct{ Name, Message string }
	}
	line, _, _ := strings.Cut(outputs["report --json ev"], "\n")
	if err := json.Unmarshal([]byte(line), &file); err != nil || file.Path != want.Path || len(file.Tests) != 3 ||
		file.Tests[0].Message != want.Tests[0].Message {
		t.Errorf("json: %v, %+v", err, file)
	}
	for line := range strings.Lines(outputs["events as lines"]) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	if text := outputs["coverage ev --format json"]; !json.Valid([]byte(text)) {
		t.Errorf("no JSON: %s", text)
	}
	d := xml.NewDecoder(strings.NewReader(outputs["junit"]))
	cases := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("junit: %v\n%s", err, outputs["junit"])
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "testcase" {
			cases++
		}
	}
	if cases != 4 { // three tests, and the crash
		t.Errorf("junit: %d cases", cases)
	}
	for _, name := range []string{"tap", "ktap"} {
		var results int
		for line := range strings.Lines(outputs[name]) {
			line = strings.TrimLeft(line, " ")
			if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "not ok ") {
				results++
			}
		}
		if results != 5 {
			t.Errorf("%s: %d results\n%s", name, results, outputs[name])
		}
	}
	for _, name := range []string{"page", "coverage ev --format html"} {
		if strings.Contains(outputs[name], "</script><b>") || strings.Contains(outputs[name], "<b>&amp;]]>") {
			t.Errorf("%s: markup of a guest", name)
		}
	}
	for line := range strings.Lines(outputs["annotations"]) {
		if !strings.HasPrefix(line, "::error ") && !strings.HasPrefix(line, "::warning ") &&
			!strings.HasPrefix(line, "::notice ") {
			t.Errorf("annotations: %q", line)
		}
	}
}
