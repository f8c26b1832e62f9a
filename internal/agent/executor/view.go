package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptor returns a copy of an executor's descriptor.
func (s *Pool) Descriptor(ctx context.Context, id uint64, fd int64) (int, error) {
	x, err := s.Get(id)
	if err != nil {
		return -1, err
	}
	a, err := x.do(ctx, &request{kind: execSendFD, args: [6]int64{fd}})
	switch {
	case err != nil:
		return -1, err
	case a.errno != 0:
		return -1, syscall.Errno(a.errno)
	case a.fd < 0:
		return -1, errors.New("the executor sent no descriptor")
	}
	return a.fd, nil
}

// OpenAs opens a file as the executor does, with its credentials, and returns a
// descriptor of the agent.
func (x *Executor) OpenAs(ctx context.Context, path string, flags int) (int, error) {
	at := unix.AT_FDCWD
	a, err := x.do(ctx, &request{
		kind: execCall, nr: unix.SYS_OPENAT, args: [6]int64{int64(at), 0, int64(flags | unix.O_CLOEXEC)},
		lens: []uint64{uint64(len(path) + 1)}, ptrs: []uint32{1, 0}, data: append([]byte(path), 0),
	})
	if err != nil {
		return -1, err
	}
	if a.errno != 0 {
		return -1, syscall.Errno(a.errno)
	}
	fd, err := x.pool.Descriptor(ctx, x.id, a.ret)
	closing := &request{kind: execCall, nr: unix.SYS_CLOSE, args: [6]int64{a.ret}}
	if _, e := x.do(context.WithoutCancel(ctx), closing); err == nil && e != nil {
		unix.Close(fd)
		err = e
	}
	return fd, err
}

// View returns the agent's path to what the executor finds at path.
func (x *Executor) View(path string) string {
	if strings.HasPrefix(path, "/") {
		return fmt.Sprintf("/proc/%d/root%s", x.cmd.PID, path)
	}
	return fmt.Sprintf("/proc/%d/cwd/%s", x.cmd.PID, path)
}
