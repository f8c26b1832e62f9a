package run

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/report"
	"provium/internal/report/export"
)

// TestEvidenceInJUnit has the files of a failure's folder named in the JUnit file, those of a test and those
// of an error outside of tests: below the working directory with relative paths.
func TestEvidenceInJUnit(t *testing.T) {
	here := t.TempDir()
	t.Chdir(here)
	elsewhere := t.TempDir()
	for _, name := range []string{filepath.Join(here, "kept", "of_test", "README.md"),
		filepath.Join(elsewhere, "console.log")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(elsewhere, "no file"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := &Exports{JUnit: filepath.Join(here, "out.xml")}
	r := report.FileResult{Path: "a.test.lua", Status: report.FileFailed, ChunkError: "boom", Artifacts: elsewhere,
		Tests: []report.TestResult{
			{Name: "x", Status: report.TestFailed, Artifacts: filepath.Join(here, "kept", "of_test")},
			{Name: "y", Status: report.TestFailed, Artifacts: filepath.Join(here, "gone")},
			{Name: "z", Status: report.TestPassed}}}
	if err := e.save(&r, 0); err != nil {
		t.Fatal(err)
	}
	if err := e.write(export.Run{Files: []report.FileResult{r}}, io.Discard, here); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(e.JUnit)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kept/of_test/README.md", elsewhere + "/console.log"} {
		if !strings.Contains(string(text), "[[ATTACHMENT|"+want+"]]") {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if n := strings.Count(string(text), "[[ATTACHMENT|"); n != 2 {
		t.Errorf("%d attachments in\n%s", n, text)
	}
}

// TestAttachmentsAreSaved has the attachments of a run beside its JUnit file, and those of the
// run before removed.
func TestAttachmentsAreSaved(t *testing.T) {
	dir := t.TempDir()
	e := &Exports{JUnit: filepath.Join(dir, "out.xml")}
	saved := filepath.Join(dir, "out-attachments")
	if err := os.Mkdir(saved, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1-2-3-old", "mine"} {
		if err := os.WriteFile(filepath.Join(saved, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for number := range 2 {
		r := &report.FileResult{Tests: []report.TestResult{{}, {Attachments: []report.Attachment{
			{Name: "../a b\n", Data: []byte("x")}, {Name: "lost"}}}}}
		if err := e.save(r, number); err != nil {
			t.Fatal(err)
		}
		a := r.Tests[1].Attachments
		want := filepath.Join(saved, []string{"1", "2"}[number]+"-2-1-.._a_b_")
		if text, err := os.ReadFile(want); a[0].File != want || a[1].File != "" || string(text) != "x" || err != nil {
			t.Errorf("%+v, %q, %v", a, text, err)
		}
	}
	var names []string
	left, err := os.ReadDir(saved)
	for _, f := range left {
		names = append(names, f.Name())
	}
	if err != nil || len(names) != 3 || names[2] != "mine" {
		t.Errorf("%q, %v", names, err)
	}
	r := &report.FileResult{Tests: []report.TestResult{{Attachments: []report.Attachment{{Data: []byte("x")}}}}}
	if err := (&Exports{}).save(r, 0); err != nil || r.Tests[0].Attachments[0].File != "" {
		t.Errorf("%+v, %v", r, err)
	}
}
