package ksm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func settingsIn(t *testing.T, values map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTune(t *testing.T) {
	const tuned = "ksm tuned (run = on, pages_to_scan = 1000, sleep_millisecs = 100)"
	dir := settingsIn(t, map[string]string{"run": "0\n", "pages_to_scan": "100\n", "sleep_millisecs": "20\n"})
	for range 2 {
		if got := Tune(dir); got != tuned {
			t.Error(got)
		}
	}
	for name, want := range map[string]string{"run": "1", "pages_to_scan": "1000", "sleep_millisecs": "100"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got := Tune(t.TempDir()); got != "ksm not tuned: the kernel has no KSM" {
		t.Error(got)
	}
	dir = settingsIn(t, map[string]string{"pages_to_scan": "1000"})
	if err := os.Mkdir(filepath.Join(dir, "sleep_millisecs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Tune(dir); !strings.HasPrefix(got, "ksm not tuned: read "+dir) || !strings.HasSuffix(got,
		" (--no-ksm leaves it alone)") {
		t.Error(got)
	}
}
