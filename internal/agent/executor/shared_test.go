package executor_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// sharedBytes is where the bytes of a request or an answer begin in shared memory, and
// answerBytes where those of the buffers follow.
const (
	sharedBytes = 8
	answerBytes = sharedBytes + 32
)

// sharedMemory returns the address and the inode of the memory that an executor shares
// with the agent, or zeroes without one.
func sharedMemory(t *testing.T, c *guest.Client, executor uint64) (address uint64, inode string) {
	t.Helper()
	pid := call(t, c, guest.Syscall{Executor: executor, Nr: unix.SYS_GETPID}).Ret
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && f[5] == "/memfd:agent" && f[3] == "00:01" && f[1] == "rw-s" {
			begin, _, _ := strings.Cut(f[0], "-")
			if address, err = strconv.ParseUint(begin, 16, 64); err != nil {
				t.Fatal(err)
			}
			return address, f[4]
		}
	}
	return 0, ""
}

// warm makes calls until the executor has shared memory, which is with the second quick
// call in a row.
func warm(t *testing.T, c *guest.Client, executor uint64) (address uint64, inode string) {
	t.Helper()
	for range 100 {
		if address, inode = sharedMemory(t, c, executor); address != 0 {
			return address, inode
		}
	}
	t.Fatal("no shared memory")
	return 0, ""
}

// TestSharedMemory has calls go by shared memory, beside all that does not.
func TestSharedMemory(t *testing.T) {
	c := withExecutor(t)
	address, inode := warm(t, c, 0)
	buffers := [][]byte{[]byte("first"), nil, bytes.Repeat([]byte("second"), 10_000)}
	quick := func() {
		t.Helper()
		r := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID, Bufs: buffers})
		if r.Ret <= 1 || len(r.Bufs) != 3 || !bytes.Equal(r.Bufs[0], buffers[0]) || len(r.Bufs[1]) != 0 ||
			!bytes.Equal(r.Bufs[2], buffers[2]) {
			t.Fatalf("%d, %d buffers", r.Ret, len(r.Bufs))
		}
	}
	seen := false
	for range 100 {
		quick() // over the socket, as what comes after a look at the memory
		quick()
		p, errno, err := c.ReadMem(t.Context(), 0, address+answerBytes, len(buffers[0]))
		if err != nil || errno != 0 {
			t.Fatal(errno, err)
		}
		seen = seen || string(p) == "first"
	}
	if !seen {
		t.Error("no answer was in shared memory")
	}
	// A call that takes long answers over the socket.
	nap := make([]byte, 16)
	binary.NativeEndian.PutUint64(nap[8:], 30_000_000)
	for range 3 {
		quick()
		succeed(t, c, guest.Syscall{Nr: unix.SYS_NANOSLEEP, Bufs: [][]byte{nap}, Slots: []int{0}})
		quick()
	}
	// An asynchronous call waits beside others.
	pipe := succeed(t, c, guest.Syscall{Nr: unix.SYS_PIPE, Bufs: [][]byte{make([]byte, 8)}, Slots: []int{0}}).Bufs[0]
	in := int64(binary.NativeEndian.Uint32(pipe))
	out := int64(binary.NativeEndian.Uint32(pipe[4:]))
	handle, err := c.SyscallAsync(t.Context(), &guest.Syscall{Nr: unix.SYS_READ, Args: [6]int64{in, 0, 4},
		Bufs: [][]byte{make([]byte, 4)}, Slots: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		quick()
	}
	succeed(t, c, guest.Syscall{Nr: unix.SYS_WRITE, Args: [6]int64{out, 0, 4}, Bufs: [][]byte{[]byte("four")},
		Slots: []int{1}})
	if r, err := c.AwaitSyscall(t.Context(), handle, []int{4}, 0); err != nil || string(r.Bufs[0]) != "four" {
		t.Error(r, err)
	}
	// Commands and workers are born while the executor waits for the next call.
	for range 10 {
		quick()
		if got := output(t, c, 0, guest.RunRequest{Shell: "echo born"}); got != "born\n" {
			t.Fatal(got)
		}
	}
	quick()
	w := spawnWorker(t, c)
	if _, theirs := sharedMemory(t, c, w); theirs != "" {
		t.Error("a worker begins with the memory of the executor that it is a copy of")
	}
	if _, theirs := warm(t, c, w); theirs == inode {
		t.Error("a worker has the memory of another executor")
	}
	quick()
}

// TestLateRequests has executors not run from before a request is in their shared memory
// until the agent waits no more for the answer there.
func TestLateRequests(t *testing.T) {
	const turnReady, turnLate = 1, 3 // of program/protocol.h
	c := withExecutor(t)
	for late := 0; late < 5; {
		address, _ := warm(t, c, 0)
		call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}) // which offers the memory
		pid := int(call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret)
		memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			t.Fatal(err)
		}
		turn := func() uint32 {
			b := make([]byte, 4)
			if _, err := memory.ReadAt(b, int64(address)); err != nil {
				t.Fatal(err)
			}
			return binary.NativeEndian.Uint32(b)
		}
		stop(t, pid)
		offered := turn() == turnReady
		answered := make(chan error, 1)
		go func() {
			_, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_GETPID})
			answered <- err
		}()
		for offered && turn() != turnLate {
			runtime.Gosched()
		}
		if offered {
			late++
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		memory.Close()
	}
}

// stop stops a process, and returns when it stands.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, _ := strings.Cut(string(text), ") "); strings.HasPrefix(rest, "T") {
			return
		}
		runtime.Gosched()
	}
}

// TestForbiddenAnswers has executors forbid themselves to answer. That is their end also
// while they share memory, where an answer takes no system call.
func TestForbiddenAnswers(t *testing.T) {
	c := withExecutor(t)
	for range 20 {
		warm(t, c, 0)
		_, err := c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_PRCTL,
			Args: [6]int64{unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT}})
		if err == nil || !strings.Contains(err.Error(), "SIGKILL") {
			t.Fatal(err)
		}
	}
}

// TestSharedMemoryBroken has a test break the memory: that ends the executor, and the
// agent goes on with a fresh one.
func TestSharedMemoryBroken(t *testing.T) {
	for name, broken := range map[string]guest.Syscall{
		"noise":   {Nr: unix.SYS_GETRANDOM, Args: [6]int64{0, 4096}},
		"emptied": {Nr: unix.SYS_MADVISE, Args: [6]int64{0, 128 << 10, unix.MADV_REMOVE}},
		"gone":    {Nr: unix.SYS_MUNMAP, Args: [6]int64{0, 128 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			c := withExecutor(t)
			address, _ := warm(t, c, 0)
			pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
			broken.Args[0] = int64(address)
			// The first one may go over the socket, and each may still be answered there: the
			// next call meets the end then.
			for range 100 {
				r, err := c.Syscall(t.Context(), &broken)
				if err == nil && r.Errno != 0 {
					t.Fatalf("errno %d", r.Errno)
				}
				if err == nil {
					r, err = c.Syscall(t.Context(), &guest.Syscall{Nr: unix.SYS_GETPID})
				}
				if err != nil && !strings.Contains(err.Error(), "the executor") {
					t.Fatal(err)
				}
				if err != nil || r.Ret != pid {
					break
				}
			}
			for range 10 {
				if r := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}); r.Ret == pid {
					t.Fatal("it goes on")
				}
			}
		})
	}
}

// preferOn has all threads of this process and another process run on one CPU until the end of the test, where the
// other one goes first.
func preferOn(t *testing.T, pid int) {
	t.Helper()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	set := func(to *unix.CPUSet, policy uint32) {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if id, err := strconv.Atoi(task.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, to) // it may have ended
				_ = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy}, 0)
			}
		}
	}
	const idle = 5 // SCHED_IDLE
	set(&one, idle)
	t.Cleanup(func() { set(&before, 0) })
	if err := unix.SchedSetaffinity(pid, &one); err != nil {
		t.Fatal(err)
	}
}

// waits returns how often a process has waited for something.
func waits(t *testing.T, pid int64) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCallsStayInSharedMemory has an executor on the CPU of the agent, as in a guest with one: it answers a call over
// the socket before the agent goes on, and the next calls must go by shared memory all the same, with one wait each.
func TestCallsStayInSharedMemory(t *testing.T) {
	c := withExecutor(t)
	address, _ := warm(t, c, 0)
	pid := call(t, c, guest.Syscall{Nr: unix.SYS_GETPID}).Ret
	preferOn(t, int(pid))
	const rounds, calls = 20, 20
	before := waits(t, pid)
	for range rounds {
		if _, errno, err := c.ReadMem(t.Context(), 0, address, 1); err != nil || errno != 0 { // over the socket
			t.Fatal(errno, err)
		}
		for range calls {
			call(t, c, guest.Syscall{Nr: unix.SYS_GETPID})
		}
	}
	if n := waits(t, pid) - before; n > 2*rounds*calls {
		t.Errorf("the executor has waited %d times in %d calls", n, rounds*calls)
	}
}
