package process_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/fulltest"
	"provium/internal/guest"
	"provium/internal/wire"
)

func start(t *testing.T, c *guest.Client, shell string) uint64 {
	t.Helper()
	return startCommand(t, c, guest.RunRequest{Shell: shell})
}

func startCommand(t *testing.T, c *guest.Client, r guest.RunRequest) uint64 {
	t.Helper()
	p, err := c.StartProcess(t.Context(), r, 0)
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

func TestProcess(t *testing.T) {
	c := connect(t)
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
		agenttest.ReadUntil(t, out, "one\n")
		if p, err := c.ProcessStatus(ctx, h); p.Ended || p.PID == 0 || err != nil {
			t.Error(p, err)
		}
		if _, err := c.WriteProcess(ctx, h, bytes.Repeat([]byte("x"), 300<<10)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseProcessStdin(ctx, h); err != nil {
			t.Fatal(err)
		}
		if got := agenttest.ReadAll(t, out); len(got) != 300<<10 {
			t.Errorf("got %d bytes", len(got))
		}
		r := wait(t, c, h, 0)
		if string(r.Stderr) != "end\n" || len(r.Stdout) != 300<<10+4 || r.ExitCode != 0 || r.Truncated {
			t.Errorf("%d bytes, %q, %d", len(r.Stdout), r.Stderr, r.ExitCode)
		}
		var failed *guest.OpError
		if _, err := c.WriteProcess(ctx, h, []byte("x")); !errors.As(err, &failed) ||
			!strings.Contains(failed.Text, "exited") {
			t.Error(err)
		}
		if err := c.SignalProcess(ctx, h, 15); !errors.As(err, &failed) ||
			!strings.Contains(failed.Text, "has exited") {
			t.Error(err)
		}
		if p, err := c.ProcessStatus(ctx, h); !p.Ended || p.Status != guest.Exited || err != nil {
			t.Error(p, err)
		}
		out2, err := c.ProcessOutput(ctx, h, false)
		if err != nil || len(agenttest.ReadAll(t, out2)) != 300<<10+4 {
			t.Error("second stream", err)
		}
	})
	t.Run("no input", func(t *testing.T) {
		h := startCommand(t, c, guest.RunRequest{Shell: "cat; readlink /proc/$$/fd/0", NoStdin: true})
		var failed *guest.OpError
		if _, err := c.WriteProcess(ctx, h, []byte("x")); !errors.As(err, &failed) {
			t.Error(err)
		}
		if r := wait(t, c, h, 0); string(r.Stdout) != "/dev/null\n" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("limit", func(t *testing.T) {
		h := start(t, c, "echo begun; sleep 1000 & sleep 1000")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		agenttest.ReadUntil(t, out, "begun\n")
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
		agenttest.ReadUntil(t, out, "ready\n")
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
		if got := agenttest.ReadAll(t, out); string(got) != "done\n" {
			t.Errorf("%q", got)
		}
	})
	t.Run("close kills", func(t *testing.T) {
		h := start(t, c, "trap '' TERM; echo ready; while :; do sleep 1000; done")
		out, err := c.ProcessOutput(ctx, h, false)
		if err != nil {
			t.Fatal(err)
		}
		agenttest.ReadUntil(t, out, "ready\n")
		if err := c.CloseProcess(ctx, h); err != nil {
			t.Fatal(err)
		}
		agenttest.ReadAll(t, out)
		if _, err := c.ProcessStatus(ctx, h); err == nil {
			t.Error("a closed process is still known")
		}
	})
	t.Run("input that was closed before the end", func(t *testing.T) {
		h := start(t, c, "cat")
		if err := c.CloseProcessStdin(ctx, h); err != nil {
			t.Fatal(err)
		}
		wait(t, c, h, 0)
		_, err := c.WriteProcess(ctx, h, []byte("x"))
		if err == nil || !strings.Contains(err.Error(), "standard input is closed") {
			t.Error(err)
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
	limits := []int64{4 << 20}
	if fulltest.Wanted() {
		limits = append(limits, 0)
	}
	for _, limit := range limits {
		c := agenttest.ConnectExecutor(t, agent.Config{OutputLimit: limit})
		testOutputBounds(t, c, int(cmp.Or(limit, wire.MaxOutput)))
	}
}

func testOutputBounds(t *testing.T, c *guest.Client, limit int) {
	size := limit + limit/2
	h := start(t, c, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end", size))
	out, err := c.ProcessOutput(t.Context(), h, false)
	if err != nil {
		t.Fatal(err)
	}
	// The reader does nothing for a while: the writer is held up, not cut.
	got := agenttest.ReadAll(t, out)
	if len(got) != size+4 || !bytes.HasSuffix(got, []byte("xend\n")) || bytes.Count(got, []byte("x")) != size {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-10:])
	}
	if r := wait(t, c, h, 0); !r.Truncated || len(r.Stdout) != limit {
		t.Errorf("%d bytes, truncated %v", len(r.Stdout), r.Truncated)
	}

	size = 4 * limit
	h = start(t, c, fmt.Sprintf("head -c %d /dev/zero; echo end", size))
	if out, err = c.ProcessOutput(t.Context(), h, false); err != nil {
		t.Fatal(err)
	}
	// Who waits for the process is not held up by a reader that does not read.
	if r := wait(t, c, h, 0); !r.Truncated || len(r.Stdout) != limit {
		t.Errorf("%d bytes, truncated %v", len(r.Stdout), r.Truncated)
	}
	got = agenttest.ReadAll(t, out)
	if len(got) >= size || !bytes.Contains(got, []byte("bytes of output lost")) ||
		!bytes.HasSuffix(got, []byte("end\n")) {
		t.Errorf("%d bytes", len(got))
	}
}
