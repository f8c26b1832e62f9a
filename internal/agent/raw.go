package agent

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls in this file never block: they are made without telling the
// scheduler. Each ordinary call wakes the runtime's monitor thread if that
// sleeps, and on one virtual CPU those switches are what running a command
// would cost most.

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
