package proc

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StartChild starts cmd as it is.
func (s *Starter) StartChild(cmd *exec.Cmd) (*Child, error) {
	if err := s.start(s.plain, cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	return &Child{cmd: cmd}, nil
}

func TestRunReturnsOutputAndError(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	out, errOut, err := s.Run(context.Background(), t.TempDir(), nil, "/bin/sh", "-c", "echo a; echo b >&2; exit 3")
	var re *RunError
	if !errors.As(err, &re) || string(out) != "a\n" || string(errOut) != "b\n" {
		t.Fatalf("out=%q stderr=%q err=%v", out, errOut, err)
	}
	var ee *exec.ExitError
	if !errors.As(err, &ee) || ee.ExitCode() != 3 {
		t.Fatalf("want exit code 3, got %v", err)
	}
}

func TestRunMissingProgram(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	if _, _, err := s.Run(context.Background(), "", nil, "/no/such/program"); err == nil ||
		!strings.Contains(err.Error(), "/no/such/program start") {
		t.Fatalf("err = %v", err)
	}
}

func TestRunCancelKillsTheGroup(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, _, err := s.Run(ctx, "", nil, "/bin/sh", "-c", "sleep 1000 & wait")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
}

func TestStartAfterClose(t *testing.T) {
	s := NewStarter()
	s.Close()
	if err := s.Start(exec.Command("/bin/true")); !errors.Is(err, ErrClosed) {
		t.Fatalf("err = %v", err)
	}
}

// TestChildrenDieWithParent re-runs the test binary as a parent that starts a
// child and is then killed without a chance to clean up.
func TestChildrenDieWithParent(t *testing.T) {
	if os.Getenv("PROC_TEST_PARENT") == "1" {
		s := NewStarter()
		cmd := exec.Command("/bin/sleep", "1000")
		if err := s.Start(cmd); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("child " + itoa(cmd.Process.Pid) + "\n")
		select {}
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestChildrenDieWithParent$")
	parent.Env = append(os.Environ(), "PROC_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := atoi(strings.TrimSpace(strings.TrimPrefix(line, "child ")))
	fd, err := pidfdOpen(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if !waitPidfd(fd, 30*time.Second) {
		t.Fatalf("child %d outlived its parent", pid)
	}
}

// TestKillAfterReaping has the number of a reaped process belong to another one, which
// must live on.
func TestKillAfterReaping(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	gone, err := s.StartChild(exec.Command("/bin/true"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Wait(); err != nil {
		t.Fatal(err)
	}
	other, err := s.StartChild(exec.Command("/bin/sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	gone.cmd.Process = other.cmd.Process // as the kernel may give the number again
	gone.Kill()
	fd, err := pidfdOpen(other.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if waitPidfd(fd, 100*time.Millisecond) {
		t.Error("a process was killed that has the number of a reaped one")
	}
	other.Kill()
	if err := other.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}
}
