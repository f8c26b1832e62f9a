package run

import (
	"os"
	"path/filepath"
	"testing"

	"provium/internal/report"
)

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
