package forkserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
)

// compile builds a C program or library.
func compile(t *testing.T, out string, args ...string) {
	t.Helper()
	text, err := exec.Command("gcc", append([]string{"-O1", "-o", out}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, text)
	}
}

// build makes the directory for the library and the program that stands in for QEMU.
var build = sync.OnceValues(func() (dir string, err error) {
	return os.MkdirTemp("", "forkserver-test")
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func built(t *testing.T) (library []byte, program string) {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "qemu-system-test")
	so := filepath.Join(dir, "forkserver.so")
	if _, err := os.Stat(program); err != nil {
		compile(t, so, "-shared", "-fPIC", "program/forkserver.c", "program/template.c",
			"program/threads.c")
		glib := filepath.Join(dir, "libglib-test.so")
		compile(t, glib, "-shared", "-fPIC", "testdata/glib.c")
		compile(t, program, "-rdynamic", "-pthread", "testdata/program.c", glib)
	}
	library, err = os.ReadFile(so)
	if err != nil {
		t.Fatal(err)
	}
	return library, program
}

// newStarter returns a Starter with the library, and the program.
func newStarter(t *testing.T) (s *Starter, program string) {
	t.Helper()
	library, program := built(t)
	plain := proc.NewStarter()
	t.Cleanup(plain.Close)
	s = NewStarter(plain)
	t.Cleanup(s.Close)
	s.library = library
	return s, program
}

// run is a process of the program and what it answers.
type run struct {
	proc.Process
	answer *os.File
	stderr bytes.Buffer
}

func launch(t *testing.T, s *Starter, program string, args ...string) *run {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	r := &run{answer: read}
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "WORD=hello")
	cmd.ExtraFiles = []*os.File{write}
	cmd.Stderr = &r.stderr
	r.Process, err = s.Launch(cmd)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *run) read(t *testing.T) string {
	t.Helper()
	p := make([]byte, 4096)
	n, err := r.answer.Read(p)
	if err != nil {
		t.Fatalf("%v; it said: %s", err, r.stderr.String())
	}
	return string(p[:n])
}

func TestCopyIsTheProcessThatWasAskedFor(t *testing.T) {
	s, program := newStarter(t)
	for range 3 {
		r := launch(t, s, program, "say", "one", "", "two words")
		f := strings.SplitN(r.read(t), " ", 4)
		parent, _ := strconv.Atoi(f[2])
		if parent == os.Getpid() || len(s.servers) != 1 {
			t.Errorf("the parent is %d, ours: it is no copy", parent)
		}
		if f[1] != "hello" || f[3] != "<one> <> <two words>" || !strings.Contains(f[0], t.Name()) {
			t.Errorf("%q", f)
		}
		shown, err := os.ReadFile(r.Dir() + "/cmdline")
		want := program + "\x00say\x00one\x00\x00two words\x00"
		if err != nil || !strings.HasPrefix(string(shown), want) {
			t.Errorf("process lists show %q, %v", bytes.TrimRight(shown, "\x00"), err)
		}
		group, err := unix.Getpgid(r.PID())
		if err != nil || group != r.PID() {
			t.Errorf("group %d of %d, %v", group, r.PID(), err)
		}
		r.Kill()
		if err := r.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Error(err)
		}
		r.Kill() // does nothing
	}
}

func TestEndIsReported(t *testing.T) {
	s, program := newStarter(t)
	r := launch(t, s, program, "fail")
	if err := r.Wait(); err == nil || err.Error() != "exit status 3" || r.stderr.String() != "it failed\n" {
		t.Errorf("%v, %q", err, r.stderr.String())
	}
	if err := launch(t, s, program, "nothing").Wait(); err != nil {
		t.Error(err)
	}
	if err := launch(t, s, program, "abort").Wait(); err == nil || !strings.HasPrefix(err.Error(), "signal: aborted") {
		t.Error(err)
	}
}

// ends waits for the end of a process.
func ends(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Minute/time.Millisecond))
	if n != 1 {
		t.Fatalf("process %d still runs, %v", pid, err)
	}
}

func TestNothingOfTheGroupIsLeft(t *testing.T) {
	s, program := newStarter(t)
	r := launch(t, s, program, "leave")
	pid, err := strconv.Atoi(r.read(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	ends(t, pid)
}

func TestCopiesEndWithTheirServer(t *testing.T) {
	s, program := newStarter(t)
	r := launch(t, s, program, "say")
	r.read(t)
	for _, server := range s.servers {
		server.child.Kill()
	}
	if err := r.Wait(); err != errServerEnded {
		t.Error(err)
	}
	ends(t, r.PID())
	// The next one has no server.
	r = launch(t, s, program, "say")
	if f := strings.Fields(r.read(t)); f[2] != fmt.Sprint(os.Getpid()) {
		t.Errorf("%q", f)
	}
	r.Kill()
	_ = r.Wait() // it was killed
}

func TestCloseEndsAll(t *testing.T) {
	s, program := newStarter(t)
	r := launch(t, s, program, "say")
	r.read(t)
	s.Close()
	if err := r.Wait(); err != errServerEnded {
		t.Error(err)
	}
	ends(t, r.PID())
}

func TestOtherProgramsStartTheOrdinaryWay(t *testing.T) {
	s, program := newStarter(t)
	dir := t.TempDir()
	static := filepath.Join(dir, "static")
	compile(t, static, "-static", "-pthread", "testdata/program.c", "testdata/glib.c")
	for _, p := range []string{static, "/bin/sh"} {
		cmd := exec.Command(p, "-c", "exit 3")
		if p == static {
			cmd.Args = []string{p, "fail"}
		}
		cmd.Dir = dir
		child, err := s.Launch(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil || err.Error() != "exit status 3" {
			t.Errorf("%s: %v", p, err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "missing"))
	cmd.Dir = dir
	if _, err := s.Launch(cmd); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	s.library = nil
	r := launch(t, s, program, "say")
	if f := strings.Fields(r.read(t)); f[2] != fmt.Sprint(os.Getpid()) {
		t.Errorf("%q", f)
	}
	r.Kill()
	_ = r.Wait() // it was killed
}

// TestWrapperScript has a server made by a script, which adds arguments, as that of another
// QEMU's directory does.
func TestWrapperScript(t *testing.T) {
	s, program := newStarter(t)
	script := filepath.Join(t.TempDir(), "wrapper")
	text := fmt.Sprintf("#!/bin/sh\nx=$(basename /a/b)\nexec %s -L $x \"$@\"\n", program)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r := launch(t, s, script, "say", "one")
	if got := r.read(t); !strings.HasPrefix(got, "wrapped ") || !strings.HasSuffix(got, " <one>") ||
		strings.Contains(got, fmt.Sprintf(" %d ", os.Getpid())) {
		t.Errorf("%q", got)
	}
	r.Kill()
	_ = r.Wait() // it was killed
}

// TestKernelIsShared has the program read a kernel as QEMU does. It must get what is in the
// file, also after a change of the file, and have none of it for itself.
func TestKernelIsShared(t *testing.T) {
	t.Run("behind the setup", func(t *testing.T) { testKernel(t) })
	t.Run("the whole", func(t *testing.T) { testKernel(t, "whole") })
}

func testKernel(t *testing.T, form ...string) {
	s, program := newStarter(t)
	path := filepath.Join(t.TempDir(), "kernel")
	const size, setup = 40 << 20, 40 * 512
	kernel, piece := unwatched(t, size+16)[:size], unwatched(t, 1<<20)
	for i := copy(kernel, "a kernel"); i < size; i *= 2 {
		copy(kernel[i:], kernel[:i])
	}
	kernel[0x1f1] = 39
	copy(kernel[0x202:], "HdrS")
	for round := range 3 {
		if round == 2 { // rebuilt
			copy(kernel[setup+1000:], "changed")
			kernel = append(kernel, "and longer"...) // it has the capacity
		}
		if round != 1 {
			if err := os.WriteFile(path, kernel, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := launch(t, s, program, append([]string{"-kernel", path}, form...)...)
		for at := setup; at < len(kernel); {
			n, err := r.answer.Read(piece)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			want := kernel[at:min(at+n, len(kernel))]
			if at == setup { // the program has changed its first byte
				if piece[0] != 'X' {
					t.Errorf("round %d: it begins with %q", round, piece[0])
				}
				piece[0] = want[0]
			}
			if !bytes.Equal(piece[:n], want) {
				t.Fatalf("round %d: it read something else", round)
			}
			at += n
		}
		if private := privateMemory(t, r.PID()); private > 24<<20 {
			t.Errorf("round %d: it has %d bytes for itself", round, private)
		}
		r.Kill()
		_ = r.Wait() // it was killed
	}
}

// unwatched returns n zero bytes outside of the Go heap, until the end of the test. The race
// detector does not look at them, and takes seconds to look at the same amount of heap.
func unwatched(t *testing.T, n int) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(p) })
	return p
}

// privateMemory returns how much memory a process has that is of no file, in bytes.
func privateMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "Anonymous:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("%s", text)
	return 0
}

// TestCopiesEndWithUs re-runs the test binary as a process that starts a copy and is killed
// without a chance to clean up.
func TestCopiesEndWithUs(t *testing.T) {
	if os.Getenv("FORKSERVER_TEST_PARENT") == "1" {
		s, program := newStarter(t)
		r := launch(t, s, program, "say")
		r.read(t)
		os.Stdout.WriteString(fmt.Sprintln("copy", r.PID()))
		select {}
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestCopiesEndWithUs$")
	parent.Env = append(os.Environ(), "FORKSERVER_TEST_PARENT=1", "TMPDIR="+t.TempDir())
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
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "copy ")))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	ends(t, pid)
}

// TestManyAtOnce has many starts and ends under way at the same time.
func TestManyAtOnce(t *testing.T) {
	s, program := newStarter(t)
	launch(t, s, program, "nothing").Wait()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 5 {
				cmd := exec.Command(program, "fail")
				var said bytes.Buffer
				cmd.Dir, cmd.Stderr, cmd.Env = "/", &said, append(os.Environ(), "WORD=hello")
				p, err := s.Launch(cmd)
				if err != nil {
					t.Error(err)
					return
				}
				if (i+j)%3 == 0 {
					p.Kill()
				}
				err = p.Wait()
				switch {
				case err != nil && err.Error() == "signal: killed":
				case err != nil && err.Error() == "exit status 3" && said.String() == "it failed\n":
				default:
					t.Errorf("%v, %q", err, said.String())
				}
			}
		})
	}
	all.Wait()
}

// TestCopyWithoutPIDFD has the descriptor of a new process get lost, as it does at our limit
// of open files: the process is ended, since nobody could do that later.
func TestCopyWithoutPIDFD(t *testing.T) {
	cmd := exec.Command("sleep", "86399")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{answer: make(chan error, 1), pending: &process{}, processes: map[int]*process{}}
	s.take(report{kind: reportStarted, pid: cmd.Process.Pid, pidfd: -1})
	if err := <-s.answer; !errors.Is(err, unix.EMFILE) || len(s.processes) > 0 {
		t.Errorf("%v, %v", err, s.processes)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}
}

// TestSilentServer has processes started the ordinary way while the server is stopped. What it makes when it goes on,
// which nobody waits for, is ended; then it is asked again.
func TestSilentServer(t *testing.T) {
	s, program := newStarter(t)
	launch(t, s, program, "nothing").Wait()
	var server *server
	for _, server = range s.servers {
	}
	signal(t, server.child.PID(), unix.SIGSTOP)
	limit := server.limit
	server.limit = time.Millisecond
	r := launch(t, s, program, "say")
	if f := strings.Fields(r.read(t)); f[2] != fmt.Sprint(os.Getpid()) {
		t.Errorf("%q", f)
	}
	r.Kill()
	_ = r.Wait() // it was killed
	if _, err := server.launch(&request{text: []byte("/\x00nothing\x00")}); !errors.Is(err, errSilent) {
		t.Error(err)
	}
	signal(t, server.child.PID(), unix.SIGCONT)
	if _, err := io.ReadAll(r.answer); err != nil { // until the copy has ended
		t.Error(err)
	}
	server.limit = limit
	answers(t, server)
}

// TestStoppedServerReportsNoEnd has a copy end while its server is stopped: it is not waited for longer than for a
// moment. When the server goes on, its report is about nobody.
func TestStoppedServerReportsNoEnd(t *testing.T) {
	s, program := newStarter(t)
	r := launch(t, s, program, "say")
	r.read(t)
	var server *server
	for _, server = range s.servers {
	}
	signal(t, server.child.PID(), unix.SIGSTOP)
	r.Kill()
	if err := r.Wait(); !errors.Is(err, errSilent) {
		t.Error(err)
	}
	signal(t, server.child.PID(), unix.SIGCONT)
	answers(t, server) // the report on the end comes before
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.unreported) > 0 || len(server.early) > 0 {
		t.Errorf("%v, %v are left", server.unreported, server.early)
	}
}
