package executor_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/fulltest"
	"provium/internal/guest"
	"provium/internal/wire"
)

func withExecutor(t *testing.T) *guest.Client { return agenttest.ConnectExecutor(t, agent.Config{}) }

func call(t *testing.T, c *guest.Client, s guest.Syscall) *guest.SyscallResult {
	t.Helper()
	r, err := c.Syscall(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSyscall(t *testing.T) {
	c := withExecutor(t)
	ctx := t.Context()
	pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID})
	if pid.Ret <= 1 || pid.Errno != 0 {
		t.Fatalf("%+v", pid)
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_CLOSE, Args: [6]int64{999}}); r.Ret != -1 ||
		r.Errno != int(unix.EBADF) {
		t.Errorf("%+v", r)
	}
	// Descriptors persist, and buffers go both ways, also large ones.
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	path := append([]byte(filepath.Join(t.TempDir(), "f")), 0)
	fd := call(t, c, guest.Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, unix.O_RDWR | unix.O_CREAT, 0o600},
		Bufs: [][]byte{path}, Slots: []int{0}})
	if fd.Ret < 3 {
		t.Fatalf("%+v", fd)
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{fd.Ret, 0, int64(len(big))},
		Bufs: [][]byte{big}, Slots: []int{1}}); r.Ret != int64(len(big)) {
		t.Fatal(r.Ret, r.Errno)
	}
	r := call(t, c, guest.Syscall{Nr: unix.SYS_PREAD64, Args: [6]int64{fd.Ret, 0, int64(len(big)), 0},
		Bufs: [][]byte{make([]byte, len(big))}, Slots: []int{1}})
	if r.Ret != int64(len(big)) || !bytes.Equal(r.Bufs[0], big) {
		t.Errorf("read %d", r.Ret)
	}
	// writev with the iovec's address filled in; empty buffers stay.
	iov := make([]byte, 16)
	iov[8] = 3
	r = call(t, c, guest.Syscall{Nr: unix.SYS_PWRITEV, Args: [6]int64{fd.Ret, 0, 1},
		Bufs: [][]byte{iov, []byte("xyz"), nil}, Slots: []int{1},
		Nested: []guest.Nested{{Parent: 0, Child: 1, Offset: 0}}})
	if r.Ret != 3 || len(r.Bufs) != 3 || len(r.Bufs[2]) != 0 {
		t.Errorf("%+v", r)
	}
	// An address in the middle of a buffer.
	iov[8] = 2
	r = call(t, c, guest.Syscall{Nr: unix.SYS_PWRITEV, Args: [6]int64{fd.Ret, 0, 1, 1},
		Bufs: [][]byte{iov, []byte("abyz")}, Slots: []int{1},
		Nested: []guest.Nested{{Parent: 0, Child: 1, Offset: 0, ChildOffset: 2}}})
	if r.Ret != 2 {
		t.Errorf("%+v", r)
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{fd.Ret, 1, 10}}); r.Errno != int(unix.EFAULT) {
		t.Errorf("bad pointer: %+v", r)
	}
	// Its own memory.
	m := call(t, c, guest.Syscall{Nr: unix.SYS_MMAP,
		Args: [6]int64{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, fd.Ret, 0}})
	if data, errno, err := c.ReadMem(ctx, 0, uint64(m.Ret), 3); string(data) != "xyz" || errno != 0 || err != nil {
		t.Errorf("%q %d %v", data, errno, err)
	}
	if _, errno, err := c.ReadMem(ctx, 0, 1, 3); errno != int(unix.EFAULT) || err != nil {
		t.Error(errno, err)
	}
	// A tail on the descriptor does not move its cursor.
	s, err := c.FDTail(ctx, 0, fd.Ret)
	if err != nil {
		t.Fatal(err)
	}
	call(t, c, guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{fd.Ret, 0, 4}, Bufs: [][]byte{[]byte("end\n")},
		Slots: []int{1}})
	agenttest.ReadUntil(t, s, "end\n")
	s.Close()
	if _, err := c.FDTail(ctx, 0, 777); err == nil || !strings.Contains(err.Error(), "EBADF") {
		t.Error(err)
	}
	for _, flags := range []int64{unix.O_WRONLY, unix.O_PATH} {
		fd := call(t, c, guest.Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, flags}, Bufs: [][]byte{path},
			Slots: []int{0}})
		const want = "the descriptor is open for writing only, and a stream reads from it"
		if _, err := c.FDTail(ctx, 0, fd.Ret); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%#x: %v", flags, err)
		}
	}
}

// TestSyscallLimits has buffers at the limits; what is beyond is refused before it
// is sent, so that the session goes on.
func TestSyscallLimits(t *testing.T) {
	c := withExecutor(t)
	full := bytes.Repeat([]byte{'x'}, wire.MaxBuffer)
	n := fulltest.Of(4, 32)
	r := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID, Bufs: slices.Repeat([][]byte{full}, n)})
	if r.Ret <= 1 || len(r.Bufs) != n || !bytes.Equal(r.Bufs[n-1], full) {
		t.Errorf("%d, %d buffers", r.Ret, len(r.Bufs))
	}
	_, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_GETPID, Bufs: [][]byte{append(full, 'x')}})
	if want := "syscall: buffer 1 has 1048577 bytes, at most 1048576 are possible"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_GETPID, Bufs: [][]byte{make([]byte, 8), {}},
		Nested: []guest.Nested{{Parent: 0, Child: 1, ChildOffset: 1}}})
	if err == nil || !strings.Contains(err.Error(), "the executor") {
		t.Errorf("an address behind a buffer: %v", err)
	}
	_, err = c.SyscallAsync(t.Context(), &guest.Syscall{Nr: unix.SYS_GETPID, Bufs: make([][]byte, wire.MaxBuffers+1)})
	if want := "syscall: 257 buffers, at most 256 are possible"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, _, err = c.ReadMem(t.Context(), 0, 4096, wire.MaxReadMem+1); err == nil ||
		!strings.Contains(err.Error(), "4194305 bytes of memory: at most 4194304 are possible") {
		t.Error(err)
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}); r.Ret <= 1 {
		t.Errorf("%+v", r)
	}
}

func TestAsyncSyscall(t *testing.T) {
	c := withExecutor(t)
	ctx := t.Context()
	fds := call(t, c, guest.Syscall{Nr: unix.SYS_PIPE2, Bufs: [][]byte{make([]byte, 8)}, Slots: []int{0}})
	in, out := int64(fds.Bufs[0][0]), int64(fds.Bufs[0][4])
	read := guest.Syscall{Nr: unix.SYS_READ, Args: [6]int64{in, 0, 10}, Bufs: [][]byte{make([]byte, 10)},
		Slots: []int{1}}
	h, err := c.SyscallAsync(ctx, &read)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AwaitSyscall(ctx, h, read.Lens(), time.Millisecond); err == nil ||
		!strings.Contains(err.Error(), "ETIMEDOUT") {
		t.Error(err)
	}
	call(t, c, guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{out, 0, 2}, Bufs: [][]byte{[]byte("hi")},
		Slots: []int{1}})
	r, err := c.AwaitSyscall(ctx, h, read.Lens(), 0)
	if err != nil || r.Ret != 2 || !bytes.HasPrefix(r.Bufs[0], []byte("hi")) {
		t.Fatal(r, err)
	}
	// The thread is gone before the next call.
	dir := append([]byte("/proc/self/task"), 0)
	fd := call(t, c, guest.Syscall{Nr: unix.SYS_OPEN, Args: [6]int64{0, unix.O_RDONLY | unix.O_DIRECTORY},
		Bufs: [][]byte{dir}, Slots: []int{0}})
	r = call(t, c, guest.Syscall{Nr: unix.SYS_GETDENTS64, Args: [6]int64{fd.Ret, 0, 4096},
		Bufs: [][]byte{make([]byte, 4096)}, Slots: []int{1}})
	if n := bytes.Count(r.Bufs[0][:r.Ret], []byte{4}); r.Ret > 80 {
		t.Errorf("%d bytes of threads (%d)", r.Ret, n)
	}
}

func TestLethalSyscall(t *testing.T) {
	c := withExecutor(t)
	for name, s := range map[string]struct {
		call guest.Syscall
		want string
	}{
		"exit":  {guest.Syscall{Nr: unix.SYS_EXIT_GROUP, Args: [6]int64{7}}, "exited with code 7"},
		"close": {guest.Syscall{Nr: unix.SYS_CLOSE_RANGE, Args: [6]int64{0, 1 << 30}}, "exited with code 0"},
	} {
		if _, err := c.Syscall(t.Context(), &s.call); err == nil || !strings.Contains(err.Error(), s.want) {
			t.Errorf("%s: %v", name, err)
		}
		if r := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}); r.Ret <= 1 {
			t.Errorf("after %s: %+v", name, r)
		}
	}
	pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
	if _, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_KILL, Args: [6]int64{pid, 9}}); err == nil ||
		!strings.Contains(err.Error(), "SIGKILL") {
		t.Error(err)
	}
	// A call that never returns is interrupted, and the executor lives on.
	pid = call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Syscall(ctx, &guest.Syscall{Nr: unix.SYS_PAUSE}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if again := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret; again != pid {
		t.Errorf("executor %d became %d", pid, again)
	}
	// The child of a fork does not answer.
	child := call(t, c, guest.Syscall{Nr: unix.SYS_FORK})
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_KILL, Args: [6]int64{child.Ret, 9}}); r.Ret != 0 {
		t.Errorf("%+v", r)
	}
	if r := call(t, c, guest.Syscall{Nr: unix.SYS_WAIT4, Args: [6]int64{child.Ret}}); r.Ret != child.Ret {
		t.Errorf("%+v", r)
	}
}

func TestWorkerProcess(t *testing.T) {
	c := withExecutor(t)
	ctx := t.Context()
	w, err := c.SpawnWorker(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, nr := range []int64{unix.SYS_SETGID, unix.SYS_SETUID} {
		if r := call(t, c, guest.Syscall{Executor: w, Nr: nr, Args: [6]int64{1234}}); r.Ret != 0 {
			t.Fatalf("%+v", r)
		}
	}
	p, err := c.StartProcess(ctx, guest.RunRequest{Path: "sh", Args: []string{"-c", "id -u; exit 5"}}, w)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.WaitProcess(ctx, p.Handle, 0); err != nil || string(r.Stdout) != "1234\n" || r.ExitCode != 5 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := c.StartProcess(ctx, guest.RunRequest{Path: "no-such-program"}, w); err == nil ||
		!strings.Contains(err.Error(), "ENOENT") {
		t.Error(err)
	}
	if err := c.CloseWorker(ctx, w); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Syscall(ctx, &guest.Syscall{Executor: w, Nr: 39}); err == nil ||
		!strings.Contains(err.Error(), "no worker") {
		t.Error(err)
	}
}
