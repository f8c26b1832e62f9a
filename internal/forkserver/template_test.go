package forkserver

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
)

// counter is a process with a thread that counts, and our end of its socket.
type counter struct {
	proc.Process
	socket *os.File
	stderr bytes.Buffer
}

// socketpair returns a pair of connected sockets.
func socketpair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// newCounter starts a counter whose last count is also in a file.
func newCounter(t *testing.T, path string) *counter {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("templates are of x86-64")
	}
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	s, program := newStarter(t)
	c := &counter{}
	var theirs *os.File
	c.socket, theirs = socketpair(t)
	defer theirs.Close()
	cmd := exec.Command(program, "count", path)
	cmd.Dir = t.TempDir()
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = &c.stderr
	var err error
	if c.Process, err = s.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	return c
}

// say sends a command and returns the answer in words.
func (c *counter) say(t *testing.T, what string) []string {
	t.Helper()
	if _, err := c.socket.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 200)
	n, err := c.socket.Read(p)
	if err != nil {
		t.Fatalf("%q: %v; it said: %s", what, err, c.stderr.String())
	}
	return strings.Fields(string(p[:n]))
}

// want compares the counts: of the process, in the file, of the thread, of its events since they were asked for.
func (c *counter) want(t *testing.T, counts ...int) {
	t.Helper()
	got := c.say(t, "=")
	for i, n := range counts {
		if got[i] != strconv.Itoa(n) {
			t.Errorf("it counts %v, not %v", got, counts)
			return
		}
	}
	if got[4] != strconv.Itoa(int(unix.EBUSY)) {
		t.Errorf("the thread is not known to run: %s", got[4])
	}
}

func (c *counter) template(t *testing.T, memory proc.SharedMemory) proc.Template {
	t.Helper()
	out, err := c.Process.(proc.Original).Template(memory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	return out
}

// copyOf makes a copy with a socket of its own.
func copyOf(t *testing.T, template proc.Template, memory *proc.PrivateMemory) *counter {
	t.Helper()
	c := &counter{}
	var theirs *os.File
	c.socket, theirs = socketpair(t)
	defer theirs.Close()
	p, err := template.Copy(proc.Copy{Dir: t.TempDir(), Args: []string{"the", "copy"}, Stderr: &c.stderr,
		Replaced: []proc.Replacement{{Number: 3, File: theirs}}, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	c.Process = p
	return c
}

func TestCopiesGoOnFromTheTemplate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "counts")
	original := newCounter(t, path)
	original.say(t, "+")
	at, err := strconv.ParseInt(original.say(t, "+")[5], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	// What is mapped of the file is as the copies should find it.
	then, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	template := original.template(t, proc.SharedMemory{File: 3, At: at, Length: 1 << 16})
	original.say(t, "+")
	original.want(t, 3, 1, 103, 3)

	saved := filepath.Join(dir, "saved")
	if err := os.WriteFile(saved, then, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(saved, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory := &proc.PrivateMemory{File: file, At: at, Length: 1 << 16}
	one, two := copyOf(t, template, memory), copyOf(t, template, memory)
	one.want(t, 2, 1, 102, 2)
	for range 3 {
		one.say(t, "+")
	}
	one.want(t, 5, 1, 105, 3)
	two.want(t, 2, 1, 102, 2)
	original.want(t, 3, 1, 103, 0)
	if after, err := os.ReadFile(saved); err != nil || !bytes.Equal(after, then) {
		t.Errorf("copies have changed the file that is mapped for them, %v", err)
	}
	shown, _ := os.ReadFile(one.Dir() + "/cmdline")
	group, err := unix.Getpgid(one.PID())
	if !bytes.HasPrefix(shown, []byte("the\x00copy\x00")) || err != nil || group != one.PID() {
		t.Errorf("process lists show %q; group %d of %d, %v", bytes.TrimRight(shown, "\x00"), group, one.PID(), err)
	}

	// A copy is an original, too, and needs neither its template nor its original.
	original.Kill()
	_ = original.Wait() // it was killed
	next := one.template(t, proc.SharedMemory{File: 3})
	one.Kill()
	_ = one.Wait() // it was killed
	template.Close()
	three := copyOf(t, next, nil)
	three.want(t, 5, 1, 105, 0)
	two.say(t, "+")
	two.want(t, 3, 1, 103, 1)
	two.socket.Close()
	if err := two.Wait(); err != nil {
		t.Error("the end of a copy:", err)
	}
	if _, err := template.Copy(proc.Copy{Dir: dir, Stderr: &two.stderr}); err == nil {
		t.Error("a closed template makes copies")
	}
}

func TestNoTemplateOfABusyProcess(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	original.say(t, "b")
	if _, err := original.Process.(proc.Original).Template(proc.SharedMemory{File: 3}); !errors.Is(err, unix.EBUSY) {
		t.Error(err)
	}
	original.say(t, "=") // it goes on
}

func TestNoTemplateWithAFileThatIsWritten(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	held := original.Process.(*process)
	if _, err := held.Template(proc.SharedMemory{File: 77}); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	original.say(t, "+")
}

// TestCopyThatWouldShare leaves out the file that the copy must not share.
func TestCopyThatWouldShare(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	template := original.template(t, proc.SharedMemory{File: 3})
	var stderr bytes.Buffer
	p, err := template.Copy(proc.Copy{Dir: t.TempDir(), Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || err.Error() != "exit status 127" {
		t.Error(err)
	}
	original.say(t, "+")
	copyOf(t, template, nil).say(t, "+")
}

func TestTemplatesEndWithTheServer(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	made := original.template(t, proc.SharedMemory{File: 3})
	one := copyOf(t, made, nil)
	pids := []int{original.PID(), made.(*template).process.PID(), one.PID()}
	made.(*template).server.child.Kill()
	for _, pid := range pids {
		ends(t, pid)
	}
	if err := one.Wait(); err != errServerEnded {
		t.Error(err)
	}
	if _, err := made.Copy(proc.Copy{Dir: t.TempDir(), Stderr: &one.stderr}); err == nil {
		t.Error("a template without a server makes copies")
	}
}

// TestCopyOutlivesATemplateThatEndsAtOnce has the server, which was busy, learn at one time of a copy and of the end of
// its template: what the template has left is ended, and the copy is not.
func TestCopyOutlivesATemplateThatEndsAtOnce(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	made := original.template(t, proc.SharedMemory{File: 3})
	answers(t, made.(*template).server) // it has given the template a process group
	server := made.(*template).server.child.PID()
	signal(t, server, unix.SIGSTOP)
	one := copyOf(t, made, nil)
	made.Close()
	ends(t, made.(*template).process.PID())
	signal(t, server, unix.SIGCONT)
	_ = made.(*template).process.Wait() // the server has seen to what it has left
	one.say(t, "+")
	answers(t, made.(*template).server)
	group, err := unix.Getpgid(one.PID())
	if err != nil || group != one.PID() {
		t.Errorf("group %d of %d, %v", group, one.PID(), err)
	}
}

// answers has a server do all that it was asked for.
func answers(t *testing.T, s *server) {
	t.Helper()
	p, err := s.launch(&request{text: []byte("/\x00nothing\x00")})
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// impatient has a server wait for answers for a moment only.
func impatient(t *testing.T, s *server) {
	t.Helper()
	limit := s.limit
	s.limit = time.Millisecond
	t.Cleanup(func() { s.limit = limit })
}

func signal(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// TestSilentTemplate asks a template that is stopped for a copy. When it goes on, nobody knows what it makes, so that
// ends, as the template does.
func TestSilentTemplate(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	made := original.template(t, proc.SharedMemory{File: 3})
	server, pid := made.(*template).server, made.(*template).process.PID()
	answers(t, server)
	signal(t, pid, unix.SIGSTOP)
	impatient(t, server)
	ours, theirs := socketpair(t)
	_, err := made.Copy(proc.Copy{Dir: t.TempDir(), Stderr: &original.stderr,
		Replaced: []proc.Replacement{{Number: 3, File: theirs}}})
	theirs.Close()
	if !errors.Is(err, errSilent) {
		t.Error(err)
	}
	signal(t, pid, unix.SIGCONT)
	ends(t, pid)
	if n, err := ours.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a copy that nobody knows of says something, %v", err)
	}
	original.say(t, "+")
}

// TestSilentOriginal asks a process that is stopped for a template. It must not end for that when it goes on.
func TestSilentOriginal(t *testing.T) {
	original := newCounter(t, filepath.Join(t.TempDir(), "counts"))
	process := original.Process.(*process)
	signal(t, process.PID(), unix.SIGSTOP)
	impatient(t, process.server)
	for range 2 {
		if _, err := process.Template(proc.SharedMemory{File: 3}); !errors.Is(err, errSilent) {
			t.Error(err)
		}
	}
	signal(t, process.PID(), unix.SIGCONT)
	original.say(t, "+")
	original.want(t, 1, 1, 101, 1)
}
