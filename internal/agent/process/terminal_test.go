package process_test

import (
	"context"
	"strings"
	"testing"

	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

// TestTerminal runs a command on a terminal of its own.
func TestTerminal(t *testing.T) {
	c := connect(t)
	ctx := t.Context()
	size := guest.TerminalSize{Rows: 24, Cols: 80}
	h := startCommand(t, c, guest.RunRequest{Shell: `stty size; echo ready
while [ "$(stty size)" != "50 132" ]; do sleep 0.01; done; echo resized
read x; echo "got $x"; test -t 2 && tty >/dev/tty; kill -INT $$`, Terminal: &size})
	out, err := c.ProcessOutput(ctx, h, false)
	if err != nil {
		t.Fatal(err)
	}
	agenttest.ReadUntil(t, out, "24 80\r\nready\r\n")
	if err := c.ResizeProcess(ctx, h, guest.TerminalSize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	agenttest.ReadUntil(t, out, "resized\r\n")
	if _, err := c.WriteProcess(ctx, h, []byte("typed\r")); err != nil {
		t.Fatal(err)
	}
	text := string(agenttest.ReadAll(t, out))
	if !strings.Contains(text, "got typed") || !strings.Contains(text, "/dev/pts/") {
		t.Errorf("%q", text)
	}
	r, err := c.AwaitProcess(ctx, h)
	if err != nil || r.Status != guest.Signalled || r.Signal != 2 || len(r.Stdout) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := c.ResizeProcess(ctx, h, size); err == nil {
		t.Error("a terminal that is gone was resized")
	}
}

// TestTerminalKeys ends a command by a key, and finds all that it has printed.
func TestTerminalKeys(t *testing.T) {
	c := connect(t)
	ctx := t.Context()
	h := startCommand(t, c, guest.RunRequest{Shell: `echo ready; exec cat`,
		Terminal: &guest.TerminalSize{Rows: 1, Cols: 1}})
	out, err := c.ProcessOutput(ctx, h, false)
	if err != nil {
		t.Fatal(err)
	}
	agenttest.ReadUntil(t, out, "ready\r\n")
	if _, err := c.WriteProcess(ctx, h, []byte{3}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.AwaitProcess(ctx, h); err != nil || r.Signal != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	plain := start(t, c, "cat")
	if err := c.ResizeProcess(context.WithoutCancel(ctx), plain, guest.TerminalSize{}); err == nil {
		t.Error("a pipe was resized")
	}
	long := startCommand(t, c, guest.RunRequest{Shell: `seq 100000; echo end`, NoStdin: true,
		Terminal: &guest.TerminalSize{Rows: 1, Cols: 1}})
	if out, err = c.ProcessOutput(ctx, long, false); err != nil {
		t.Fatal(err)
	}
	if text := string(agenttest.ReadAll(t, out)); !strings.HasSuffix(text, "100000\r\nend\r\n") {
		t.Errorf("…%q", text[max(0, len(text)-40):])
	}
}
