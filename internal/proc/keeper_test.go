package proc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a command that leaves a process behind, in a session and a process group
// of its own, and prints its number. The process keeps the standard output open.
const daemon = `setsid sh -c 'echo $$; exec sleep 1000' & `

// readPIDs opens a pidfd for each process that is announced by a line of r.
func readPIDs(t *testing.T, r io.Reader, count int) (fds []int) {
	t.Helper()
	lines := bufio.NewReader(r)
	for range count {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		fd, err := pidfdOpen(atoi(strings.TrimSpace(line)))
		if err != nil {
			t.Fatalf("process %s: %v", strings.TrimSpace(line), err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

// startTree starts a shell command whose output is a pipe of ours, as a runner's
// socket is: it is not waited for.
func startTree(t *testing.T, s *Starter, command string) (*Child, io.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdout = w
	c, err := s.StartTree(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

// expectGone fails the test for each process that has not ended. Those of a tree
// have when Wait returns; limit is for those that nobody waits for.
func expectGone(t *testing.T, fds []int, limit time.Duration) {
	t.Helper()
	for i, fd := range fds {
		if !waitPidfd(fd, limit) {
			t.Errorf("process %d is left", i)
		}
	}
}

func TestTreeEndsWithItsProgram(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	c, out := startTree(t, s, daemon+"sleep 1000 & echo $!; read go; (exit 3)")
	// The shell's read ends at once, since its input is /dev/null.
	err := c.Wait()
	var ee *exec.ExitError
	if !errors.As(err, &ee) || ee.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
	rest, err := io.ReadAll(out) // returns since nobody holds the pipe
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(rest)) {
		if fd, err := pidfdOpen(atoi(pid)); err == nil {
			t.Errorf("process %s is left", pid)
			_ = syscall.Close(fd)
		}
	}
}

// TestTreeEndsWithoutProc ends a tree whose keeper cannot list the processes, as it has no
// descriptors. What is in the process group of the program ends all the same.
func TestTreeEndsWithoutProc(t *testing.T) {
	for name, end := range map[string]func(c *Child, stdin io.Closer){
		"program ends": func(_ *Child, stdin io.Closer) { stdin.Close() },
		"kill":         func(c *Child, _ io.Closer) { c.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStarter()
			defer s.Close()
			cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo $!; read go")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd.Stdout = w
			c, err := s.StartTree(cmd)
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			fds := readPIDs(t, r, 1)
			if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil); err != nil {
				t.Fatal(err)
			}
			end(c, stdin)
			_ = c.Wait()
			expectGone(t, fds, 0)
		})
	}
}

func TestKillEndsTheTree(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	c, out := startTree(t, s, daemon+"sleep 1000 & echo $!; wait")
	fds := readPIDs(t, out, 2)
	c.Kill()
	if err := c.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}
	expectGone(t, fds, 0)
}

// TestTreeThatGrows ends processes that go on starting others meanwhile.
func TestTreeThatGrows(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	const grow = `for i in 1 2 3; do setsid sh -c 'while :; do sleep 1000 & sleep 0.01; done' & done; `
	c, out := startTree(t, s, grow+daemon+"wait")
	fds := readPIDs(t, out, 1)
	c.Kill()
	_ = c.Wait()
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	expectGone(t, fds, 0)
}

func TestTreeEndsAsItsProgram(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	for command, want := range map[string]string{
		"exit 0": "", "exit 7": "exit status 7",
		"kill -SEGV $$": "signal: segmentation fault", "kill -KILL $$": "signal: killed",
		"kill -TERM $$": "signal: terminated",
	} {
		c, _ := startTree(t, s, command)
		got := ""
		if err := c.Wait(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q", command, got)
		}
	}
}

func TestTreeOfNoProgram(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	if _, err := s.StartTree(exec.Command("no-such-program")); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.StartTree(exec.Command("/etc/passwd")); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

// TestTreeHasArgumentsAndFiles compares with what a plain start gives.
func TestTreeHasArgumentsAndFiles(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", `printf '%s,' "$0" "$@" "$X" "$PWD" >&3`, "a", "", "b c")
	cmd.Env, cmd.Dir, cmd.ExtraFiles = []string{"X=y"}, t.TempDir(), []*os.File{w}
	c, err := s.StartTree(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	got, _ := io.ReadAll(r)
	if want := "a,,b c,y," + cmd.Dir + ","; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTreesDieWithParent re-runs the test binary as a parent that starts a tree and is
// then killed without a chance to clean up.
func TestTreesDieWithParent(t *testing.T) {
	if os.Getenv("PROC_TEST_PARENT") == "2" {
		s := NewStarter()
		cmd := exec.Command("/bin/sh", "-c", daemon+"sleep 1000 & echo $!; echo $$; wait")
		cmd.Stdout = os.Stdout
		if _, err := s.StartTree(cmd); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestTreesDieWithParent$")
	parent.Env = append(os.Environ(), "PROC_TEST_PARENT=2")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	fds := readPIDs(t, out, 3)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	expectGone(t, fds, 30*time.Second)
}

func TestRunEndsDespiteOpenOutput(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	out, _, err := s.Run(context.Background(), "", nil, "/bin/sh", "-c", "sleep 1000 & echo built")
	if err != nil || string(out) != "built\n" {
		t.Errorf("%q, %v", out, err)
	}
}
