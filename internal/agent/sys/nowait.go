package sys

import (
	"io"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls in this file never block, so the Go scheduler is not told of them.
// Each ordinary call wakes the runtime's monitor thread if that sleeps. On one
// virtual CPU those switches would be the largest cost of running a command.

// Call makes a system call that must not block, and repeats it when a signal
// interrupts it. What the arguments point to is moved to the heap, since
// goroutine stacks move.
//
//go:uintptrescapes
func Call(trap, a, b, c uintptr) (uintptr, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, a, b, c)
		if errno == 0 {
			return n, nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// ReadNow reads from a pipe that has bytes or is at its end, or from a file in
// memory.
func ReadNow(fd int, p []byte) (int, error) {
	n, err := Call(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// WriteNow writes to a file in memory.
func WriteNow(fd int, p []byte) (int, error) {
	n, err := Call(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// MemoryFile creates an empty file in memory and returns its descriptor.
func MemoryFile() (int, error) {
	name := [...]byte{'a', 'g', 'e', 'n', 't', 0}
	fd, err := Call(unix.SYS_MEMFD_CREATE, uintptr(unsafe.Pointer(&name)), unix.MFD_CLOEXEC, 0)
	return int(fd), err
}

// PwriteNow writes all of p to a file in memory.
func PwriteNow(fd int, p []byte, at int64) error {
	return atNow(unix.SYS_PWRITE64, fd, p, at)
}

// PreadNow fills p from a file in memory.
func PreadNow(fd int, p []byte, at int64) error {
	return atNow(unix.SYS_PREAD64, fd, p, at)
}

func atNow(trap uintptr, fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall6(trap, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(at), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return errno
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// CloseNow closes a pipe or a pidfd.
func CloseNow(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Pipe creates a pipe whose ends are closed on exec.
func Pipe(p *[2]int) error {
	var fds [2]int32
	_, err := Call(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&fds)), unix.O_CLOEXEC, 0)
	p[0], p[1] = int(fds[0]), int(fds[1])
	return err
}

// ReportPipe creates a pipe whose ends do not block and are closed on exec.
func ReportPipe(p *[2]int) error {
	var fds [2]int32
	_, err := Call(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&fds)), unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	p[0], p[1] = int(fds[0]), int(fds[1])
	return err
}

// PipeBytes returns how many bytes a pipe holds.
func PipeBytes(fd int) (int, error) {
	var n int32
	_, err := Call(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// PollNow polls without waiting.
func PollNow(fds []unix.PollFd) (int, error) {
	var none unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&none)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// WaitNow reaps a process that has ended.
func WaitNow(pid int, ws *unix.WaitStatus) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(ws)), unix.WNOHANG, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if n != 0 {
		return nil
	}
	// The main thread has ended, as the pidfd said, but other threads have not,
	// or there is no pidfd.
	_, err := unix.Wait4(pid, ws, 0, nil)
	return err
}

// epollControl adds a descriptor to an epoll instance, changes it or removes it.
func epollControl(epfd, how, fd int, e *unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(how), uintptr(fd),
		uintptr(unsafe.Pointer(e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// epollNow returns the events that are pending.
func epollNow(epfd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// SocketPair creates two connected stream sockets, closed on exec.
func SocketPair() (p [2]int, err error) {
	var fds [2]int32
	_, _, errno := unix.RawSyscall6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0,
		uintptr(unsafe.Pointer(&fds)), 0, 0)
	if errno != 0 {
		return p, errno
	}
	return [2]int{int(fds[0]), int(fds[1])}, nil
}

// SetReceiveLimit sets how long a blocking read of a socket may take.
func SetReceiveLimit(sock int, limit time.Duration) error {
	t := unix.NsecToTimeval(int64(limit))
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(sock), unix.SOL_SOCKET, unix.SO_RCVTIMEO,
		uintptr(unsafe.Pointer(&t)), unsafe.Sizeof(t), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// IsStopped reports whether a child of this process is stopped by a signal.
func IsStopped(pid int) bool {
	var info unix.Siginfo
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
		unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, 0, 0)
	return errno == 0 && info.Signo != 0
}

// FutexWait waits until *word, in memory that processes share, is no longer value and
// FutexWake was called, at most for limit. It returns EAGAIN, EINTR or ETIMEDOUT where it
// ended otherwise. It is for waits of a few milliseconds.
func FutexWait(word *uint32, value uint32, limit time.Duration) error {
	t := unix.NsecToTimespec(int64(limit))
	_, _, errno := unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(value),
		uintptr(unsafe.Pointer(&t)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// FutexWake wakes the one that waits at word.
func FutexWake(word *uint32) {
	_, _, _ = unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1)
}

// Operations of a futex.
const (
	futexWait = 0
	futexWake = 1
)

// SealedMemory returns a descriptor of a file in memory that keeps its size, closed on
// exec.
func SealedMemory(size int64) (int, error) {
	name := [...]byte{'a', 'g', 'e', 'n', 't', 0}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := Call(unix.SYS_MEMFD_CREATE, uintptr(unsafe.Pointer(&name)), flags, 0)
	if err != nil {
		return -1, err
	}
	_, err = Call(unix.SYS_FTRUNCATE, fd, uintptr(size), 0)
	if err == nil {
		const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
		_, err = Call(unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		CloseNow(int(fd))
		return -1, err
	}
	return int(fd), nil
}
