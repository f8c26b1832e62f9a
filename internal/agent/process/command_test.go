package process_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

// lifeline is a FIFO whose reader sees how many processes have it open: lines they
// write, and the end once none is left.
type lifeline struct {
	path string
	file *os.File
}

func newLifeline(t *testing.T) *lifeline {
	t.Helper()
	l := &lifeline{path: filepath.Join(t.TempDir(), "fifo")}
	if err := unix.Mkfifo(l.path, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.file, err = os.OpenFile(l.path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.file.Close() })
	return l
}

// lines reads n lines, in any order.
func (l *lifeline) lines(t *testing.T, n int) string {
	t.Helper()
	var all []byte
	for p := make([]byte, 64); bytes.Count(all, []byte("\n")) < n; {
		k, err := l.file.Read(p)
		if err != nil && err != io.EOF {
			t.Fatalf("%v after %q", err, all)
		}
		if err == io.EOF { // nobody has opened it yet
			time.Sleep(time.Millisecond)
		}
		all = append(all, p[:k]...)
	}
	return string(all)
}

// awaitEnd waits until no process has it open.
func (l *lifeline) awaitEnd(t *testing.T) {
	t.Helper()
	if err := l.file.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(l.file); err != nil {
		t.Errorf("a process lives on: %v after %q", err, rest)
	}
}

// isHeld reports whether a process has it open.
func (l *lifeline) isHeld(t *testing.T) bool {
	t.Helper()
	fd := int(l.file.Fd())
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 0 || fds[0].Revents&unix.POLLHUP == 0
}

// Commands whose processes leave session and group, one below the other.
const scattered = `exec 9>%s
sh -c 'setsid sh -c "echo up >&9; sleep 1000; :" & echo up >&9; wait; :' &
echo up >&9; wait`

func TestLimitEndsDescendants(t *testing.T) {
	c := connect(t)
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("kill_session ", keep), func(t *testing.T) {
			l := newLifeline(t)
			h := startCommand(t, c, guest.RunRequest{Shell: fmt.Sprintf(scattered, l.path), KillSession: keep})
			l.lines(t, 3)
			if r := wait(t, c, h, time.Nanosecond); r.Status != guest.TimedOut {
				t.Errorf("%+v", r)
			}
			l.awaitEnd(t)
		})
	}
}

// TestForksDuringTheKill has a process that makes children as fast as it can.
func TestForksDuringTheKill(t *testing.T) {
	c := connect(t)
	l := newLifeline(t)
	h := startCommand(t, c, guest.RunRequest{Shell: fmt.Sprintf(
		`exec 9>%s; echo up >&9; while :; do sh -c 'sleep 1000 & sleep 1000 & wait' & done`, l.path)})
	l.lines(t, 1)
	if r := wait(t, c, h, 20*time.Millisecond); r.Status != guest.TimedOut {
		t.Errorf("%+v", r)
	}
	l.awaitEnd(t)
}

// TestDaemons has a child of a process that has ended, which init has adopted.
func TestDaemons(t *testing.T) {
	c := connect(t)
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("kill_session ", keep), func(t *testing.T) {
			l := newLifeline(t)
			h := startCommand(t, c, guest.RunRequest{KillSession: keep, Shell: fmt.Sprintf(
				`sh -c 'exec 9>%s; setsid sh -c "echo \$\$ >&9; exec sleep 1000" &'; echo begun; sleep 1000`, l.path)})
			daemon := strings.TrimSpace(l.lines(t, 1))
			out, err := c.ProcessOutput(t.Context(), h, false)
			if err != nil {
				t.Fatal(err)
			}
			agenttest.ReadUntil(t, out, "begun\n")
			out.Close()
			if r := wait(t, c, h, time.Nanosecond); r.Status != guest.TimedOut || string(r.Stdout) != "begun\n" {
				t.Errorf("%+v", r)
			}
			if keep {
				l.awaitEnd(t)
				return
			}
			if !l.isHeld(t) {
				t.Error("the daemon has ended")
			}
			if r, err := c.Run(t.Context(), guest.RunRequest{Path: "kill", Args: []string{"-9", daemon}}); err != nil ||
				r.ExitCode != 0 {
				t.Error(r, err)
			}
		})
	}
}

// TestKeptCommand has commands whose keeper tells how they began and ended.
func TestKeptCommand(t *testing.T) {
	c := connect(t)
	for name, tc := range map[string]struct {
		req  guest.RunRequest
		want guest.RunResult
	}{
		"exit code": {guest.RunRequest{Shell: "echo hi; exit 7"}, guest.RunResult{ExitCode: 7, Stdout: []byte("hi\n")}},
		"signal": {guest.RunRequest{Shell: "kill -SEGV $$"},
			guest.RunResult{Status: guest.Signalled, ExitCode: -1, Signal: 11}},
		"daemon": {guest.RunRequest{Shell: "setsid sleep 5 & echo done"}, guest.RunResult{Stdout: []byte("done\n")}},
		"limit": {guest.RunRequest{Shell: "echo soon; exec sleep 1000", Timeout: time.Second},
			guest.RunResult{Status: guest.TimedOut, ExitCode: -2, Stdout: []byte("soon\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.req.KillSession = true
			got, err := c.Run(t.Context(), tc.req)
			if err != nil || brief(got) != brief(&tc.want) {
				t.Errorf("got %s %v, want %s", brief(got), err, brief(&tc.want))
			}
		})
	}
	_, err := c.Run(t.Context(), guest.RunRequest{Path: "no-such", KillSession: true})
	if err == nil || !strings.Contains(err.Error(), "run no-such: No such file") {
		t.Error(err)
	}
	_, err = c.StartProcess(t.Context(), guest.RunRequest{Path: "true", Cwd: "/nowhere", KillSession: true}, 0)
	if err == nil || !strings.Contains(err.Error(), "cwd /nowhere: No such file") {
		t.Error(err)
	}
	// Its process id is the command's, which signals reach.
	p, err := c.StartProcess(t.Context(), guest.RunRequest{KillSession: true,
		Shell: "trap 'exit 3' TERM; echo $$; while :; do sleep 0.05; done"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.ProcessOutput(t.Context(), p.Handle, false)
	if err != nil {
		t.Fatal(err)
	}
	agenttest.ReadUntil(t, out, fmt.Sprintln(p.PID))
	out.Close()
	if err := c.SignalProcess(t.Context(), p.Handle, int(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, c, p.Handle, 0); r.ExitCode != 3 {
		t.Errorf("%+v", r)
	}
}

// TestSignalReachesDescendants has one in another session.
func TestSignalReachesDescendants(t *testing.T) {
	c := connect(t)
	l := newLifeline(t)
	h := startCommand(t, c, guest.RunRequest{Shell: fmt.Sprintf(
		`exec 9>%s; setsid sh -c 'trap "echo child >&9" USR1; echo up >&9; while :; do sleep 0.05; done' &
		trap "echo parent >&9" USR1; echo up >&9; while :; do sleep 0.05; done`, l.path)})
	l.lines(t, 2)
	if err := c.SignalProcess(t.Context(), h, int(unix.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	if got := l.lines(t, 2); !strings.Contains(got, "child\n") || !strings.Contains(got, "parent\n") {
		t.Errorf("%q", got)
	}
	if err := c.CloseProcess(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	l.awaitEnd(t)
}
