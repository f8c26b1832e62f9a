package console

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParkedLog(t *testing.T) {
	l, path := newLog(t, 0)
	write(t, l, "first\n")
	parked := filepath.Join(t.TempDir(), "parked.log")
	for range 2 {
		if err := l.Park(parked); err != nil {
			t.Fatal(err)
		}
		if l.file != nil {
			t.Error("a parked log has its file open")
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the file was not moved: %v", err)
		}
		if got := all(t, l); got != "first\n" {
			t.Errorf("%q", got)
		}
		if err := l.Park(parked); err != nil {
			t.Error(err)
		}
		write(t, l, "second\n")
		if got := all(t, l); got != "first\nsecond\n" {
			t.Errorf("%q", got)
		}
		if err := l.Park(parked); err != nil {
			t.Fatal(err)
		}
		if err := l.Replace([]byte("first\n"), 0); err != nil {
			t.Error(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
