package file_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

func connect(t testing.TB) *guest.Client {
	t.Helper()
	return agenttest.Connect(t, agent.Config{}, guest.Config{})
}

func TestTail(t *testing.T) {
	c := connect(t)
	ctx := t.Context()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	add := func(path, text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(path, "old\n")
	open := func(start int64, end bool) *guest.Stream {
		t.Helper()
		s, err := c.TailFile(ctx, path, start, end, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	end, begin, minus := open(0, true), open(0, false), open(-2, true)
	add(path, "new\n")
	agenttest.ReadUntil(t, end, "new\n")
	agenttest.ReadUntil(t, begin, "old\nnew\n")
	agenttest.ReadUntil(t, minus, "d\nnew\n")
	// Rotation: what went to the old file before, then the new one.
	add(path, "last\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(path, "first\n")
	agenttest.ReadUntil(t, end, "last\nfirst\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add(path, "anew\n")
	agenttest.ReadUntil(t, end, "anew\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	add(path, "cut\n")
	agenttest.ReadUntil(t, end, "cut\n")

	t.Run("fifo", func(t *testing.T) {
		fifo := filepath.Join(dir, "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := c.TailFile(ctx, fifo, 0, true, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, text := range []string{"a\n", "b\n"} {
			add(fifo, text)
			agenttest.ReadUntil(t, s, text)
		}
	})
	t.Run("proc", func(t *testing.T) {
		s, err := c.TailFile(ctx, "/proc/version", 0, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if p, err := s.Next(ctx); !bytes.Contains(p, []byte("Linux")) || err != nil {
			t.Errorf("%q %v", p, err)
		}
	})
	for path, want := range map[string]string{dir: "EISDIR", filepath.Join(dir, "none"): "ENOENT"} {
		if _, err := c.TailFile(ctx, path, 0, true, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
