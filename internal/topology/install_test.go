package topology

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	made := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(path, content), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "",
		made("empty", ""):          "",
		made("lab", FileName):      "",
		file:                       "exists and is no directory",
		made("other", "notes"):     "exists and is no lab snapshot",
	} {
		err := MayInstall(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: %v, not %q", path, err, want)
		}
	}

	to := filepath.Join(dir, "to")
	for _, content := range []string{"first", "second"} { // the second takes the place of the first
		from := made("from-"+content, content)
		if err := Install(from, to); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(to, content)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "from-second", "first")); err != nil {
		t.Errorf("what was there before is not at the temporary name: %v", err)
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if err := Install(filepath.Join(dir, "none"), to); err == nil {
		t.Error("nothing was installed")
	}
}
