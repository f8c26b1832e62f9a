package process_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// TestOutputOfACancelledCommand has one told what it had printed before it was stopped, also in
// a batch.
func TestOutputOfACancelledCommand(t *testing.T) {
	const much = "head -c 200000 /dev/zero; echo line 19999"
	for _, c := range []struct {
		print, stdout string
		before        []guest.Op // in a batch
	}{
		{"echo so far; echo and >&2", "so far\n", nil},
		{much + "; echo and >&2", "line 19999\n", nil},
		{"echo so far; echo and >&2", "so far\n", []guest.Op{guest.RunOp{RunRequest: guest.RunRequest{Shell: much}}}},
		{much + "; echo and >&2", "line 19999\n", []guest.Op{guest.StatOp{Path: "/gone"},
			guest.RunOp{RunRequest: guest.RunRequest{Shell: "echo before; echo before >&2"}}}},
	} {
		client := connect(t)
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			r := guest.RunRequest{Shell: c.print + "; echo up > " + fifo + "; sleep 1000"}
			var err error
			if c.before == nil {
				_, err = client.Run(ctx, r)
			} else {
				_, err = client.Batch(ctx, append(c.before, guest.RunOp{RunRequest: r}, guest.StatOp{Path: "/"}))
			}
			ended <- err
		}()
		f, err := os.Open(fifo)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		cancel()
		err = <-ended
		var cut *guest.CutShortError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &cut) ||
			!strings.HasSuffix(string(cut.Stdout), c.stdout) || string(cut.Stderr) != "and\n" ||
			len(cut.Stdout) > 8192 || c.before != nil && cut.Item != len(c.before)+1 {
			t.Errorf("%q: %v: %+.100v", c.print, err, cut)
		}
	}
}

// TestLastOutput looks at the ends of outputs while the process runs. They stay for others.
func TestLastOutput(t *testing.T) {
	c := connect(t)
	h := start(t, c, "echo one; echo two; head -c 100000 /dev/zero >&2; cat; echo end")
	out, err := c.ProcessOutput(t.Context(), h, true)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 100000; {
		p, err := out.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(p)
	}
	out.Close()
	for _, w := range []struct {
		stderr bool
		n      int
		want   string
	}{{false, 100, "one\ntwo\n"}, {false, 4, "two\n"}, {false, -1, "\n"}, {true, 9, strings.Repeat("\x00", 9)},
		{true, 1 << 30, strings.Repeat("\x00", 64<<10)}} {
		if got, err := c.LastOutput(t.Context(), h, w.stderr, w.n); err != nil || string(got) != w.want {
			t.Errorf("%d: %d bytes, %v", w.n, len(got), err)
		}
	}
	if err := c.CloseProcessStdin(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, c, h, 0); string(r.Stdout) != "one\ntwo\nend\n" || len(r.Stderr) != 100000 {
		t.Errorf("%q, %d bytes", r.Stdout, len(r.Stderr))
	}
}
