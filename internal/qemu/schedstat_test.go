package qemu

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWaitedForCPU(t *testing.T) {
	dir := t.TempDir()
	if all, most := waitedForCPU(dir); all != 0 || most != 0 {
		t.Errorf("%v, %v of a process that is gone", all, most)
	}
	for name, text := range map[string]string{"1": "100 2000000 3\n", "2": "5 3000000 1\n", "3": "0\n",
		"4": "a b c\n"} {
		path := filepath.Join(dir, "task", name, "schedstat")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if all, most := waitedForCPU(dir); all != 5*time.Millisecond || most != 3*time.Millisecond {
		t.Errorf("%v, %v", all, most)
	}
}
