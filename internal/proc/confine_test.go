package proc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// probeVar has the test binary try what a confined program may not do, and print what
// came of it.
const probeVar = "PROC_TEST_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(probeVar) != "" {
		probe()
		return
	}
	os.Exit(m.Run())
}

func probe() {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Groups":
			fmt.Println(name, strings.Join(strings.Fields(value), " "))
		}
	}
	listen := "none"
	if os.Getenv("LISTEN_PID") == fmt.Sprint(os.Getpid()) {
		listen = "ours"
	}
	fmt.Println("LISTEN_PID", listen)
	tell := func(name string, err error) { fmt.Println(name, err) }
	tell("fork", exec.Command("/bin/true").Run())
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	tell("internet", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	tell("unix", err)
	tell("nice", unix.Setpriority(unix.PRIO_PROCESS, 0, 1))
	tell("kill", unix.Kill(os.Getppid(), 0))
	tell("kill itself", unix.Kill(os.Getpid(), 0))
	var limit unix.Rlimit
	tell("limits", unix.Prlimit(os.Getppid(), unix.RLIMIT_CPU, nil, &limit))
	tell("own-limits", unix.Prlimit(0, unix.RLIMIT_CPU, nil, &limit))
	_, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	tell("io_uring", errno)
	_, err = os.ReadFile(os.Getenv(probeVar))
	tell("read", err)
	tell("exec", unix.Exec("/bin/true", []string{"true"}, nil))
}

// probed returns what the probe printed, by its first words.
func probed(t *testing.T, output string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		for _, name := range []string{"kill itself", strings.Fields(line + " -")[0]} {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				out[name] = value
				break
			}
		}
	}
	return out
}

func expectProbe(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s, want %s", name, got[name], value)
		}
	}
}

const (
	none    = "0000000000000000"
	refused = "operation not permitted"
)

func probeCommand(t *testing.T, file string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), probeVar+"="+file, "LISTEN_FDS=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func TestStartConfines(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, out := probeCommand(t, file)
	if err := s.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	got := probed(t, out.String())
	if got["Seccomp"] == "0" {
		t.Skip("seccomp filters are refused here")
	}
	expectProbe(t, got, map[string]string{
		"CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2", "LISTEN_PID": "ours",
		"fork": "fork/exec /bin/true: " + refused, "exec": refused, "internet": refused, "nice": refused,
		"kill": refused, "limits": refused, "own-limits": "<nil>",
		"unix": "<nil>", "kill itself": "<nil>", "read": "<nil>", "io_uring": "function not implemented",
	})
}

// TestStartChangesTheUser runs a program as the owner of the file that it is for.
func TestStartChangesTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change the user")
	}
	s := NewStarter()
	defer s.Close()
	dir, err := os.MkdirTemp("/tmp", "proc") // which others may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const owner = 4711
	file, program := filepath.Join(dir, "f"), filepath.Join(dir, "p")
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(file, nil, 0o600), os.Chown(file, owner, owner),
		os.Chmod(dir, 0o755), os.WriteFile(program, text, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd, out := probeCommand(t, file)
	cmd.Path, cmd.Dir = program, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}}
	if err := s.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	expectProbe(t, probed(t, out.String()), map[string]string{
		"Uid": "4711 4711 4711 4711", "Groups": "4711", "CapPrm": none, "CapBnd": none, "read": "<nil>"})
}

func TestStartOfNoProgram(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	if err := s.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("it was started")
	}
}

// launched runs the probe by Launch.
func launched(t *testing.T, s *Starter, file string, files ...File) map[string]string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd, _ := probeCommand(t, file)
	cmd.Stdout, cmd.Stderr = w, w
	p, err := s.Launch(cmd, files...)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // the probe may have become another program
	return probed(t, string(out))
}

func TestLaunchTakesPrivileges(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	expectProbe(t, launched(t, s, os.Args[0], File{Path: os.Args[0]}), map[string]string{
		"CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "read": "<nil>"})
	if got, _ := os.ReadFile("/proc/self/status"); !strings.Contains(string(got), "NoNewPrivs:\t0") {
		t.Error("this process has lost its privileges")
	}
}

// TestLaunchOpensFilesOfOthers has root start a program for a file that only its owner may
// read, and root's capability.
func TestLaunchOpensFilesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can")
	}
	s := NewStarter()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	const override = "0000000000000002" // 1 << CAP_DAC_OVERRIDE
	expectProbe(t, launched(t, s, file, File{Path: file, Write: true}), map[string]string{
		"CapPrm": override, "CapEff": override, "CapBnd": override, "NoNewPrivs": "1", "read": "<nil>"})
	expectProbe(t, launched(t, s, file, File{Path: "/no/such/file"}), map[string]string{
		"CapPrm": none, "read": "open " + file + ": permission denied"})
}
