package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

// connect joins a Client and an Agent by a socket pair, both on this machine.
func connect(t testing.TB) *guest.Client {
	t.Helper()
	return agenttest.ConnectExecutor(t, agent.Config{})
}

func TestRun(t *testing.T) {
	c := connect(t)
	blob := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	for name, tc := range map[string]struct {
		req  guest.RunRequest
		want guest.RunResult
	}{
		"shell": {guest.RunRequest{Shell: "echo hi; echo oh >&2"},
			guest.RunResult{Stdout: []byte("hi\n"), Stderr: []byte("oh\n")}},
		"exit code":  {guest.RunRequest{Shell: "exit 7"}, guest.RunResult{ExitCode: 7}},
		"shell miss": {guest.RunRequest{Shell: "no-such-program 2>/dev/null"}, guest.RunResult{ExitCode: 127}},
		"signal": {guest.RunRequest{Shell: "kill -SEGV $$"},
			guest.RunResult{Status: guest.Signalled, ExitCode: -1, Signal: 11}},
		"direct": {guest.RunRequest{Path: "echo", Args: []string{"a  b", "$HOME"}},
			guest.RunResult{Stdout: []byte("a  b $HOME\n")}},
		"defaults": {guest.RunRequest{Shell: "echo $PATH $HOME $TERM $LANG; umask; pwd"},
			guest.RunResult{Stdout: []byte(
				"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root linux C.UTF-8\n0022\n/\n")}},
		"env": {guest.RunRequest{Shell: "echo $HOME $K", Env: map[string]string{"K": "v", "HOME": "/x"}},
			guest.RunResult{Stdout: []byte("/x v\n")}},
		"env clear": {guest.RunRequest{Path: "/usr/bin/env", EnvClear: true, Env: map[string]string{"K": "v"}},
			guest.RunResult{Stdout: []byte("K=v\n")}},
		"cwd": {guest.RunRequest{Shell: "pwd", Cwd: "/usr"}, guest.RunResult{Stdout: []byte("/usr\n")}},
		"stdin": {guest.RunRequest{Path: "cat", Stdin: []byte("in\x00\xff")},
			guest.RunResult{Stdout: []byte("in\x00\xff")}},
		"no stdin":     {guest.RunRequest{Path: "cat"}, guest.RunResult{}},
		"big stdin":    {guest.RunRequest{Path: "cat", Stdin: []byte(blob)}, guest.RunResult{Stdout: []byte(blob)}},
		"unread stdin": {guest.RunRequest{Path: "true", Stdin: []byte(blob)}, guest.RunResult{}},
		"two outputs": {guest.RunRequest{Shell: "tee /dev/stderr", Stdin: []byte(blob)},
			guest.RunResult{Stdout: []byte(blob), Stderr: []byte(blob)}},
		"timeout": {guest.RunRequest{Shell: "echo soon; sleep 1000 & sleep 1000", Timeout: 2 * time.Second},
			guest.RunResult{Status: guest.TimedOut, ExitCode: -2, Stdout: []byte("soon\n")}},
		"session of the agent": {guest.RunRequest{
			Shell: `[ "$(cut -d" " -f5,6 /proc/$$/stat)" = "$(cut -d" " -f5,6 /proc/$PPID/stat)" ] && echo same`},
			guest.RunResult{Stdout: []byte("same\n")}},
		"session of its own": {guest.RunRequest{Setsid: true,
			Shell: `cut -d" " -f5,6 /proc/$$/stat | { read g s; [ $g = $$ ] && [ $s = $$ ] && echo own; }`},
			guest.RunResult{Stdout: []byte("own\n")}},
		"standard input": {guest.RunRequest{Shell: "readlink /proc/$$/fd/0"},
			guest.RunResult{Stdout: []byte("/dev/null\n")}},
		"user": {guest.RunRequest{Shell: "id -u; id -g; echo $HOME", User: "daemon"},
			guest.RunResult{Stdout: []byte("1\n1\n/usr/sbin\n")}},
		"user number": {guest.RunRequest{Shell: "id -u; id -g", User: "4321"},
			guest.RunResult{Stdout: []byte("4321\n4321\n")}},
		"background": {guest.RunRequest{Shell: "echo a; sleep 5 & echo b"},
			guest.RunResult{Stdout: []byte("a\nb\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.req.User != "" && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			t.Parallel()
			got, err := c.Run(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprintf("%+v", brief(got)), fmt.Sprintf("%+v", brief(&tc.want)); g != w ||
				!bytes.Equal(got.Stdout, tc.want.Stdout) || !bytes.Equal(got.Stderr, tc.want.Stderr) {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
}

func brief(r *guest.RunResult) string {
	cut := func(b []byte) string { return fmt.Sprintf("%d %.60q", len(b), b) }
	return fmt.Sprint(r.Status, r.ExitCode, r.Signal, r.Truncated, cut(r.Stdout), cut(r.Stderr))
}

func TestRunErrors(t *testing.T) {
	c := connect(t)
	for name, tc := range map[string]struct {
		req  guest.RunRequest
		want string
	}{
		"missing": {guest.RunRequest{Path: "no-such"},
			"run no-such: No such file or directory (ENOENT, os error 2) [errno 2]"},
		"no exec": {guest.RunRequest{Path: "/etc/passwd"},
			"run /etc/passwd: Permission denied (EACCES, os error 13) [errno 13]"},
		"cwd is a file": {guest.RunRequest{Path: "true", Cwd: "/etc/passwd"},
			"run true: cwd /etc/passwd: Not a directory (ENOTDIR, os error 20) [errno 20]"},
		"cwd": {guest.RunRequest{Path: "true", Cwd: "/nowhere"},
			"run true: cwd /nowhere: No such file or directory (ENOENT, os error 2) [errno 2]"},
		"user": {guest.RunRequest{Path: "true", User: "nobody-here"},
			`run true: user "nobody-here" is not in the guest's /etc/passwd`},
		"directory": {guest.RunRequest{Path: "/usr"}, "run /usr: Permission denied (EACCES, os error 13) [errno 13]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Run(t.Context(), tc.req)
			var op *guest.OpError
			if !errors.As(err, &op) || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestRunOutputIsCut(t *testing.T) {
	c := connect(t)
	r, err := c.Run(t.Context(), guest.RunRequest{Shell: "head -c 70000000 /dev/zero; echo end >&2"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Stdout) != 64<<20 || !r.Truncated || string(r.Stderr) != "end\n" || r.ExitCode != 0 {
		t.Error(brief(r))
	}
}

func TestCancelKillsDescendants(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, guest.RunRequest{Shell: "(echo up; exec sleep 1000) > " + fifo + " & wait"})
		ended <- err
	}()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 3)
	if _, err := io.ReadFull(f, line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// The background child has the other end of the fifo: its death is EOF.
	if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
		t.Error(rest, err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
