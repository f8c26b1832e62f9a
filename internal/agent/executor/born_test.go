package executor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// output runs a command of a worker, 0 for the VM, and returns what it printed.
func output(t *testing.T, c *guest.Client, worker uint64, r guest.RunRequest) string {
	t.Helper()
	p, err := c.StartProcess(t.Context(), r, worker)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.WaitProcess(t.Context(), p.Handle, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CloseProcess(t.Context(), p.Handle); err != nil {
		t.Fatal(err)
	}
	return string(got.Stdout) + string(got.Stderr)
}

func spawnWorker(t *testing.T, c *guest.Client) uint64 {
	t.Helper()
	w, err := c.SpawnWorker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// succeed makes a call that must not fail.
func succeed(t *testing.T, c *guest.Client, s guest.Syscall) *guest.SyscallResult {
	t.Helper()
	r := call(t, c, s)
	if r.Errno != 0 {
		t.Fatalf("call %d: errno %d", s.Nr, r.Errno)
	}
	return r
}

func path(call guest.Syscall, p string) guest.Syscall {
	call.Bufs, call.Slots = [][]byte{append([]byte(p), 0)}, []int{0}
	return call
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// TestBornFromTheExecutor changes what the VM's executor is and looks at its commands
// and workers.
func TestBornFromTheExecutor(t *testing.T) {
	needRoot(t)
	c := withExecutor(t)
	const look = `umask; pwd; ulimit -n; grep -E 'NoNewPrivs|CapEff' /proc/self/status | tr '\n' ' '; nice; id -u`
	if got := output(t, c, 0, guest.RunRequest{Shell: "umask; pwd"}); got != "0022\n/\n" {
		t.Fatalf("before any call: %q", got)
	}
	limit := make([]byte, 16)
	limit[0], limit[8] = 77, 77
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UMASK, Args: [6]int64{0o77}})
	succeed(t, c, path(guest.Syscall{Nr: unix.SYS_CHDIR}, "/usr"))
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETRLIMIT, Args: [6]int64{unix.RLIMIT_NOFILE},
		Bufs: [][]byte{limit}, Slots: []int{1}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETPRIORITY, Args: [6]int64{0, 0, 5}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_PRCTL, Args: [6]int64{unix.PR_SET_NO_NEW_PRIVS, 1}})
	first := spawnWorker(t, c)
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETRESUID, Args: [6]int64{4321, 4321, 4321}})
	want := "0077\n/usr\n77\nCapEff:\t0000000000000000 NoNewPrivs:\t1 5\n4321\n"
	second := spawnWorker(t, c)
	for _, worker := range []uint64{0, second} {
		if got := output(t, c, worker, guest.RunRequest{Shell: look}); got != want {
			t.Errorf("worker %d: %q, want %q", worker, got, want)
		}
		r, err := c.Run(t.Context(), guest.RunRequest{Shell: look})
		if err != nil || string(r.Stdout) != want {
			t.Errorf("run: %q %v", r.Stdout, err)
		}
	}
	// One that was there before has what it was born with.
	if got := output(t, c, first, guest.RunRequest{Shell: "id -u; umask"}); got != "0\n0077\n" {
		t.Errorf("%q", got)
	}
	// The options are stronger.
	if r, err := c.Run(t.Context(), guest.RunRequest{Shell: "pwd", Cwd: "/"}); err != nil || string(r.Stdout) != "/\n" {
		t.Errorf("%+v %v", r, err)
	}
	_, err := c.Run(t.Context(), guest.RunRequest{Shell: "true", User: "root"})
	if err == nil || !strings.Contains(err.Error(), "user root: Operation not permitted") {
		t.Error(err)
	}
	// A fresh executor has nothing of that.
	pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
	if err := unix.Kill(int(pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for call := (guest.Syscall{Nr: unix.SYS_GETPID}); ; {
		if r, err := c.Syscall(t.Context(), &call); err == nil && r.Ret != pid {
			break
		}
	}
	if got := output(t, c, 0, guest.RunRequest{Shell: "umask; pwd; id -u"}); got != "0022\n/\n0\n" {
		t.Errorf("after its death: %q", got)
	}
}

// TestDescriptorsOfTheExecutor has one with and one without O_CLOEXEC.
func TestDescriptorsOfTheExecutor(t *testing.T) {
	c := withExecutor(t)
	open := func(flags int64) int64 {
		return succeed(t, c, path(guest.Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, flags}}, "/etc/passwd")).Ret
	}
	kept, marked := open(unix.O_RDONLY), open(unix.O_RDONLY|unix.O_CLOEXEC)
	w := spawnWorker(t, c)
	for fd, want := range map[int64]int{kept: 0, marked: int(unix.EBADF)} {
		if r := call(t, c, guest.Syscall{Executor: w, Nr: unix.SYS_LSEEK, Args: [6]int64{fd}}); r.Errno != want {
			t.Errorf("descriptor %d in the worker: errno %d, want %d", fd, r.Errno, want)
		}
		got := output(t, c, 0, guest.RunRequest{Shell: fmt.Sprintf("readlink /proc/self/fd/%d", fd)})
		if (got == "/etc/passwd\n") != (want == 0) {
			t.Errorf("descriptor %d in a command: %q", fd, got)
		}
	}
	// A test may close what a command gets other descriptors as.
	for fd := range int64(3) {
		call(t, c, guest.Syscall{Nr: unix.SYS_CLOSE, Args: [6]int64{fd}})
	}
	r, err := c.Run(t.Context(), guest.RunRequest{Shell: "cat; readlink /proc/$$/fd/0; echo oh >&2"})
	if err != nil || string(r.Stdout) != "/dev/null\n" || string(r.Stderr) != "oh\n" {
		t.Errorf("%+v %v", r, err)
	}
}

// TestNamespacesOfTheExecutor has workers and commands in a PID namespace, of which a
// worker is the first process.
func TestNamespacesOfTheExecutor(t *testing.T) {
	needRoot(t)
	c := withExecutor(t)
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UNSHARE, Args: [6]int64{unix.CLONE_NEWPID | unix.CLONE_NEWUTS}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETHOSTNAME, Args: [6]int64{0, 5}, Bufs: [][]byte{[]byte("inner")},
		Slots: []int{0}})
	first := spawnWorker(t, c)
	if r := succeed(t, c, guest.Syscall{Executor: first, Nr: unix.SYS_GETPID}); r.Ret != 1 {
		t.Fatalf("the first worker is process %d of its namespace", r.Ret)
	}
	for name, worker := range map[string]uint64{"the VM": 0, "the first worker": first, "a worker": spawnWorker(t, c)} {
		for _, keep := range []bool{false, true} {
			r := guest.RunRequest{Shell: "uname -n; [ $$ -lt 100 ] && echo inside; exit 4", KillSession: keep}
			p, err := c.StartProcess(t.Context(), r, worker)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got, err := c.WaitProcess(t.Context(), p.Handle, 0)
			if err != nil || string(got.Stdout) != "inner\ninside\n" || got.ExitCode != 4 {
				t.Errorf("%s, kill_session %v: %+v %v", name, keep, got, err)
			}
			r.Shell = "exec sleep 1000" // no child that the namespace's first process would adopt
			if p, err = c.StartProcess(t.Context(), r, worker); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := c.SignalProcess(t.Context(), p.Handle, int(unix.SIGKILL)); err != nil {
				t.Error(err)
			}
			if got, err = c.WaitProcess(t.Context(), p.Handle, 0); err != nil || got.Signal != 9 {
				t.Errorf("%s, kill_session %v: %+v %v", name, keep, got, err)
			}
		}
	}
	_, err := c.StartProcess(t.Context(), guest.RunRequest{Path: "no-such-program"}, first)
	if err == nil || !strings.Contains(err.Error(), "ENOENT") {
		t.Error(err)
	}
	// The worker's keepers are reaped, and a wait of the test finds none.
	wait := guest.Syscall{Executor: first, Nr: unix.SYS_WAIT4, Args: [6]int64{-1, 0, unix.WNOHANG}}
	if r := call(t, c, wait); r.Errno != int(unix.ECHILD) {
		t.Errorf("%+v", r)
	}
}

// TestStoppedExecutor has commands and workers fail while it is stopped.
func TestStoppedExecutor(t *testing.T) {
	c := withExecutor(t)
	pid := int(call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("the VM's executor (process %d) is stopped", pid)
	command := guest.RunRequest{Path: "true"}
	if _, err := c.Run(t.Context(), command); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	if _, err := c.SpawnWorker(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Run(t.Context(), guest.RunRequest{Path: "true"}); err != nil || r.ExitCode != 0 {
		t.Error(r, err)
	}
}

// TestFiltersOfTheExecutor has it refuse to make processes, and die of that.
func TestFiltersOfTheExecutor(t *testing.T) {
	c := withExecutor(t)
	limit := make([]byte, 16)
	if os.Getuid() == 0 { // whose number of processes is not limited
		succeed(t, c, guest.Syscall{Nr: unix.SYS_SETRESUID, Args: [6]int64{4322, 4322, 4322}})
	}
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETRLIMIT, Args: [6]int64{unix.RLIMIT_NPROC}, Bufs: [][]byte{limit},
		Slots: []int{1}})
	_, err := c.Run(t.Context(), guest.RunRequest{Path: "true"})
	if err == nil || !strings.Contains(err.Error(), "EAGAIN") {
		t.Error(err)
	}
	if _, err := c.SpawnWorker(t.Context()); err == nil || !strings.Contains(err.Error(), "EAGAIN") {
		t.Error(err)
	}
	const strict = 1
	r, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_PRCTL, Args: [6]int64{unix.PR_SET_SECCOMP, strict}})
	if err == nil && r.Errno != 0 {
		t.Fatalf("%+v", r)
	}
	// It dies of the next system call of its own, and a fresh one works.
	for range 100 {
		if r, err := c.Run(t.Context(), guest.RunRequest{Path: "true"}); err == nil && r.ExitCode == 0 {
			return
		}
	}
	t.Error("no command starts any more")
}

// TestBusyExecutor starts commands and workers while the main thread is in a call that
// does not return.
func TestBusyExecutor(t *testing.T) {
	needRoot(t)
	c := withExecutor(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	fds := succeed(t, c, guest.Syscall{Nr: unix.SYS_PIPE2, Bufs: [][]byte{make([]byte, 8)}, Slots: []int{0}})
	in, out := int64(fds.Bufs[0][0]), int(fds.Bufs[0][4])
	limit := make([]byte, 16)
	limit[0], limit[8] = 78, 78
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UMASK, Args: [6]int64{0o27}})
	succeed(t, c, path(guest.Syscall{Nr: unix.SYS_CHDIR}, "/usr"))
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETRLIMIT, Args: [6]int64{unix.RLIMIT_NOFILE},
		Bufs: [][]byte{limit}, Slots: []int{1}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UNSHARE, Args: [6]int64{unix.CLONE_NEWUTS}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_SETHOSTNAME, Args: [6]int64{0, 5}, Bufs: [][]byte{[]byte("inner")},
		Slots: []int{0}})
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UNSHARE, Args: [6]int64{unix.CLONE_NEWUSER}})
	pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
	for _, name := range []string{"gid_map", "uid_map"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), []byte("0 1000 1\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	const look = `umask; pwd; ulimit -n; uname -n; readlink /proc/self/ns/user; grep CapEff /proc/self/status`
	want := output(t, c, 0, guest.RunRequest{Shell: look})
	if !strings.HasPrefix(want, "0027\n/usr\n78\ninner\nuser:") {
		t.Fatalf("%q", want)
	}
	returned := make(chan error, 1)
	go func() {
		_, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_READ, Args: [6]int64{in, 0, 1},
			Bufs: [][]byte{make([]byte, 1)}, Slots: []int{1}})
		returned <- err
	}()
	for { // until it is in the call
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(text), fmt.Sprintf("0 0x%x ", in)) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if got := output(t, c, 0, guest.RunRequest{Shell: look}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if r, err := c.Run(t.Context(), guest.RunRequest{Shell: look}); err != nil || string(r.Stdout) != want {
		t.Errorf("%v %q, want %q", err, r.Stdout, want)
	}
	if got := output(t, c, spawnWorker(t, c), guest.RunRequest{Shell: look}); got != want {
		t.Errorf("worker: %q, want %q", got, want)
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", pid, out), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := <-returned; err != nil {
		t.Error(err)
	}
}

// TestExactMode creates files with modes that the umask takes bits from.
func TestExactMode(t *testing.T) {
	c := withExecutor(t)
	dir := t.TempDir()
	succeed(t, c, guest.Syscall{Nr: unix.SYS_UMASK, Args: [6]int64{0o77}})
	for name, exact := range map[string]bool{"exact": true, "masked": false} {
		file := filepath.Join(dir, name)
		s := path(guest.Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, unix.O_CREAT | unix.O_RDWR, 0o777}}, file)
		s.ExactMode = exact
		succeed(t, c, s)
		want := os.FileMode(0o700)
		if exact {
			want = 0o777
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_UMASK, Args: [6]int64{0o22}}); r.Ret != 0o77 {
		t.Errorf("the umask is %#o", r.Ret)
	}
}

// A command that comes while the VM's executor dies is started by the next one, once.
func TestCommandForADyingExecutor(t *testing.T) {
	c := withExecutor(t)
	log := filepath.Join(t.TempDir(), "log")
	const n = 60
	for i := range n {
		pid := succeed(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
		if err := unix.Kill(int(pid), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			output(t, c, 0, guest.RunRequest{Path: "/bin/sh", Args: []string{"-c", "echo on >>" + log}})
			continue
		}
		if err := c.CloseWorker(t.Context(), spawnWorker(t, c)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(log)
	if err != nil || string(text) != strings.Repeat("on\n", n/2) {
		t.Errorf("%q, %v", text, err)
	}
}
