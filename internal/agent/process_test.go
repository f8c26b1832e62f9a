package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

func start(t *testing.T, c *guest.Client, shell string) uint64 {
	t.Helper()
	p, err := c.StartProcess(t.Context(), guest.RunRequest{Shell: shell}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseProcess(context.Background(), p.Handle) })
	return p.Handle
}

func wait(t *testing.T, c *guest.Client, handle uint64, limit time.Duration) *guest.RunResult {
	t.Helper()
	r, err := c.WaitProcess(t.Context(), handle, limit)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readAll takes a stream to its end.
func readAll(t *testing.T, s *guest.Stream) []byte {
	t.Helper()
	var all []byte
	for {
		p, err := s.Next(t.Context())
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
}

// until takes a stream until it has given the text.
func until(t *testing.T, s *guest.Stream, text string) {
	t.Helper()
	var all []byte
	for !bytes.Contains(all, []byte(text)) {
		p, err := s.Next(t.Context())
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		all = append(all, p...)
	}
	if !bytes.HasSuffix(all, []byte(text)) {
		t.Fatalf("got %q, want it to end with %q", all, text)
	}
}

func TestProcess(t *testing.T) {
	c := connect(t, guest.Config{})
	ctx := t.Context()
	t.Run("input and output", func(t *testing.T) {
		h := start(t, c, "cat; echo end >&2")
		if n, err := c.WriteProcess(ctx, h, []byte("one\n")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		until(t, out, "one\n")
		if p, err := c.ProcessStatus(ctx, h); p.Ended || p.PID == 0 || err != nil {
			t.Error(p, err)
		}
		if _, err := c.WriteProcess(ctx, h, bytes.Repeat([]byte("x"), 300<<10)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseProcessStdin(ctx, h); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, out); len(got) != 300<<10 {
			t.Errorf("got %d bytes", len(got))
		}
		r := wait(t, c, h, 0)
		if string(r.Stderr) != "end\n" || len(r.Stdout) != 300<<10+4 || r.ExitCode != 0 || r.Truncated {
			t.Errorf("%d bytes, %q, %d", len(r.Stdout), r.Stderr, r.ExitCode)
		}
		var failed *guest.OpError
		if _, err := c.WriteProcess(ctx, h, []byte("x")); !errors.As(err, &failed) || !strings.Contains(failed.Text, "exited") {
			t.Error(err)
		}
		if err := c.SignalProcess(ctx, h, 15); !errors.As(err, &failed) || !strings.Contains(failed.Text, "has exited") {
			t.Error(err)
		}
		if p, err := c.ProcessStatus(ctx, h); !p.Ended || p.Status != guest.Exited || err != nil {
			t.Error(p, err)
		}
		out2, err := c.ProcessOutput(ctx, h, false)
		if err != nil || len(readAll(t, out2)) != 300<<10+4 {
			t.Error("second stream", err)
		}
	})
	t.Run("limit", func(t *testing.T) {
		h := start(t, c, "echo begun; sleep 1000 & sleep 1000")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		until(t, out, "begun\n")
		out.Close()
		r := wait(t, c, h, time.Nanosecond)
		if r.Status != guest.TimedOut || string(r.Stdout) != "begun\n" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("signal to the group", func(t *testing.T) {
		h := start(t, c, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		until(t, out, "ready\n")
		if err := c.SignalProcess(ctx, h, int(unix.SIGTERM)); err != nil {
			t.Fatal(err)
		}
		if r := wait(t, c, h, 0); r.ExitCode != 7 {
			t.Errorf("%+v", r)
		}
		out.Close()
	})
	t.Run("children that stay", func(t *testing.T) {
		h := start(t, c, "sleep 1 & echo done")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, out); string(got) != "done\n" {
			t.Errorf("%q", got)
		}
	})
	t.Run("close kills", func(t *testing.T) {
		h := start(t, c, "trap '' TERM; echo ready; while :; do sleep 1000; done")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		until(t, out, "ready\n")
		if err := c.CloseProcess(ctx, h); err != nil {
			t.Fatal(err)
		}
		readAll(t, out)
		if _, err := c.ProcessStatus(ctx, h); err == nil {
			t.Error("a closed process is still known")
		}
	})
	t.Run("missing program", func(t *testing.T) {
		_, err := c.StartProcess(ctx, guest.RunRequest{Path: "no-such-program"}, 0)
		if err == nil || !strings.Contains(err.Error(), "No such file") {
			t.Error(err)
		}
	})
}

// TestOutputBounds has outputs larger than what is kept.
func TestOutputBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("moves hundreds of megabytes")
	}
	c := connect(t, guest.Config{})
	const size = 100 << 20
	h := start(t, c, "head -c 104857600 /dev/zero | tr '\\0' x; echo end")
	out, err := c.ProcessOutput(t.Context(), h, false)
	if err != nil {
		t.Fatal(err)
	}
	// The reader does nothing for a while: the writer is held up, not cut.
	got := readAll(t, out)
	if len(got) != size+4 || !bytes.HasSuffix(got, []byte("xend\n")) || bytes.Count(got, []byte("x")) != size {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-10:])
	}
	if r := wait(t, c, h, 0); !r.Truncated || len(r.Stdout) != 64<<20 {
		t.Errorf("%d bytes, truncated %v", len(r.Stdout), r.Truncated)
	}

	h = start(t, c, "head -c 209715200 /dev/zero; echo end")
	if out, err = c.ProcessOutput(t.Context(), h, false); err != nil {
		t.Fatal(err)
	}
	// Who waits for the process is not held up by a reader that does not read.
	if r := wait(t, c, h, 0); !r.Truncated || len(r.Stdout) != 64<<20 {
		t.Errorf("%d bytes, truncated %v", len(r.Stdout), r.Truncated)
	}
	got = readAll(t, out)
	if len(got) >= 200<<20 || !bytes.Contains(got, []byte("bytes of output lost")) || !bytes.HasSuffix(got, []byte("end\n")) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTail(t *testing.T) {
	c := connect(t, guest.Config{})
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
	until(t, end, "new\n")
	until(t, begin, "old\nnew\n")
	until(t, minus, "d\nnew\n")
	// Rotation: what went to the old file before, then the new one.
	add(path, "last\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(path, "first\n")
	until(t, end, "last\nfirst\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add(path, "anew\n")
	until(t, end, "anew\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	add(path, "cut\n")
	until(t, end, "cut\n")

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
			until(t, s, text)
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
