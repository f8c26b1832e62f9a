package agent

import (
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls in this file never block: they are made without telling the
// scheduler. Each ordinary call wakes the runtime's monitor thread if that
// sleeps, and on one virtual CPU those switches are what running a command
// would cost most.

// rawCall repeats a call that a signal interrupted. What the arguments point to
// must not move, as what is on a goroutine's stack may.
//
//go:uintptrescapes
func rawCall(trap, a, b, c uintptr) (uintptr, error) {
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

// readNow reads from a pipe that has bytes or is at its end, or from a file in
// memory.
func readNow(fd int, p []byte) (int, error) {
	n, err := rawCall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// writeNow writes to a file in memory.
func writeNow(fd int, p []byte) (int, error) {
	n, err := rawCall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// memoryFile makes an empty one.
func memoryFile() (int, error) {
	name := [...]byte{'a', 'g', 'e', 'n', 't', 0}
	fd, err := rawCall(unix.SYS_MEMFD_CREATE, uintptr(unsafe.Pointer(&name)), unix.MFD_CLOEXEC, 0)
	return int(fd), err
}

// pwriteNow writes all of p to a file in memory.
func pwriteNow(fd int, p []byte, at int64) error {
	return atNow(unix.SYS_PWRITE64, fd, p, at)
}

// preadNow fills p from a file in memory.
func preadNow(fd int, p []byte, at int64) error {
	return atNow(unix.SYS_PREAD64, fd, p, at)
}

func atNow(trap uintptr, fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(at), 0, 0)
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

// closeNow closes a pipe or a pidfd.
func closeNow(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// pipe makes a pipe that children do not inherit by accident.
func pipe(p *[2]int) error {
	var fds [2]int32
	_, err := rawCall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&fds)), unix.O_CLOEXEC, 0)
	p[0], p[1] = int(fds[0]), int(fds[1])
	return err
}

// pipeBytes is how much a pipe holds.
func pipeBytes(fd int) (int, error) {
	var n int32
	_, err := rawCall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// pollNow is a poll that does not wait.
func pollNow(fds []unix.PollFd) (int, error) {
	n, err := rawCall(unix.SYS_POLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)), 0)
	return int(n), err
}

// waitNow reaps a process that has ended.
func waitNow(pid int, ws *unix.WaitStatus) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(ws)), unix.WNOHANG, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if n != 0 {
		return nil
	}
	// Its main thread has ended, as the pidfd said, but not all of them; or
	// there is no pidfd.
	_, err := unix.Wait4(pid, ws, 0, nil)
	return err
}

// epollControl watches a descriptor, or no longer.
func epollControl(epfd, how, fd int, e *unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(how), uintptr(fd), uintptr(unsafe.Pointer(e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// epollNow takes the events that are there.
func epollNow(epfd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// socketPair makes two connected sockets that children do not inherit by
// accident.
func socketPair() (p [2]int, err error) {
	var fds [2]int32
	_, _, errno := unix.RawSyscall6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0, uintptr(unsafe.Pointer(&fds)), 0, 0)
	if errno != 0 {
		return p, errno
	}
	return [2]int{int(fds[0]), int(fds[1])}, nil
}

// setReceiveLimit bounds the time that a blocking read of a socket takes.
func setReceiveLimit(sock int, limit time.Duration) error {
	t := unix.NsecToTimeval(int64(limit))
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(sock), unix.SOL_SOCKET, unix.SO_RCVTIMEO, uintptr(unsafe.Pointer(&t)), unsafe.Sizeof(t), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// pollable gives a descriptor to the runtime's poller; the File owns it.
func pollable(fd int, name string) (*os.File, syscall.RawConn, error) {
	if _, err := rawCall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		closeNow(fd)
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
	}
	return f, raw, err
}
