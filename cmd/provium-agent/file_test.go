package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// builtFile is what `make payload` makes of this package and the C program.
const builtFile = "../../internal/image/payload/provium-agent"

// install copies the file to a new directory below dir, under another name, with bytes
// behind it as a signature has them, and for nobody to write.
func install(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(builtFile)
	if err != nil {
		t.Fatalf("%v: `make payload` builds it", err)
	}
	dir, err = os.MkdirTemp(dir, "provium-agent-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, name)
	data = append(data, bytes.Repeat([]byte("signature"), 1000)...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, file: 0o555} {
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// start runs a program as a user without rights, for the length of the test.
func start(t *testing.T, file string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(file, args...)
	cmd.Env = []string{"KEPT=in the environment"}
	cmd.Stdout = new(output)
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// awaitState waits until a file of a process in procfs, or the target of a link there, is
// as wanted.
func awaitState(t *testing.T, cmd *exec.Cmd, name, want string) {
	t.Helper()
	path := fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name)
	got := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if got = string(text); err != nil || name == "exe" {
			got, _ = os.Readlink(path)
		}
		if got == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %q; output: %s", name, got, want, cmd.Stdout)
}

func TestFileHelp(t *testing.T) {
	file := install(t, "", "any-name")
	out, err := exec.Command(file, "--help").Output()
	if err != nil || !strings.Contains(string(out), "Usage: provium-agent [--port N]") {
		t.Errorf("%v: %s", err, out)
	}
	for want, args := range map[string][]string{
		"`--prot`: expected --port N or --help":                              {"--prot", "1"},
		"`--port`: expected --port N":                                        {"--port"},
		"`seven`: expected --port N with a number from 0 to 4294967295":      {"--port", "seven"},
		"`4294967296`: expected --port N with a number from 0 to 4294967295": {"--port=4294967296"},
		"`1x`: expected --port N with a number from 0 to 4294967295":         {"--port=1x"},
		"`-1`: expected --port N with a number from 0 to 4294967295":         {"--port", "-1"},
		`argument "--init-pipe=x"`:                                           {"--init-pipe=x"},
	} {
		cmd := exec.Command(file, args...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}

func TestFilePort(t *testing.T) {
	cmd := start(t, install(t, "", "sshd"), "--port", "1024")
	awaitState(t, cmd, "comm", "provium-agent\n")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("it ended with %v", err)
	}
}

// TestFileRuns starts the agent from a disk and from memory. It waits for its port, which
// the host does not have.
func TestFileRuns(t *testing.T) {
	for _, dir := range []string{"/var/tmp", "/dev/shm"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Skip(err)
		}
		file := install(t, dir, "init")
		cmd := start(t, file)
		exe := "/memfd:provium-agent (deleted)"
		if sys.InMemory(&fs) {
			exe = file
		}
		awaitState(t, cmd, "exe", exe)
		awaitState(t, cmd, "comm", "provium-agent\n")
		awaitState(t, cmd, "cmdline", file+"\x00")
		awaitState(t, cmd, "environ", "KEPT=in the environment\x00")
		// The agent has taken the C program's place.
		awaitThreads(t, cmd)
	}
}

// TestFileRefused has neither a memfd nor a file in /run: the file itself is left.
func TestFileRefused(t *testing.T) {
	var fs unix.Statfs_t
	if unix.Statfs("/var/tmp", &fs) != nil || sys.InMemory(&fs) {
		t.Skip("/var/tmp is in memory")
	}
	file := install(t, "/var/tmp", "init")
	cmd := start(t, "/bin/sh", "-c", `trap "" XFSZ; ulimit -f 8; exec "$0" 2>&1`, file)
	awaitState(t, cmd, "exe", file)
	awaitThreads(t, cmd)
	text := cmd.Stdout.(*output).String()
	if os.Geteuid() == 0 && !strings.Contains(text,
		"cannot run from memory: memfd: File too large; file in /run: Permission denied\n") {
		t.Errorf("it says %s", text)
	}
}

// output is what a program has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// awaitThreads waits until the Go runtime has started its threads, and checks that all
// have the name of the program.
func awaitThreads(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	tasks := fmt.Sprintf("/proc/%d/task", cmd.Process.Pid)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		entries, err := os.ReadDir(tasks)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("no threads: %v; output: %s", err, cmd.Stdout)
		}
		if len(entries) < 3 {
			continue
		}
		for _, e := range entries {
			if comm, err := os.ReadFile(filepath.Join(tasks, e.Name(), "comm")); err == nil &&
				string(comm) != "provium-agent\n" {
				t.Errorf("a thread is called %s", comm)
			}
		}
		return
	}
}

func TestFileExecutor(t *testing.T) {
	file := install(t, "", "agent")
	pair, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	link := os.NewFile(uintptr(pair[1]), "link")
	cmd := exec.Command(file)
	cmd.Args = []string{"@provium-executor"}
	cmd.ExtraFiles = []*os.File{link}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	link.Close()
	awaitState(t, cmd, "comm", "provium-agent\n")
	unix.Shutdown(pair[0], unix.SHUT_RDWR)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
