package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketRetry is how soon a guest that does not listen yet is tried again.
const socketRetry = 20 * time.Millisecond

// VsockPort is the port on which the agent of a guest serves whose transport is vsock.
const VsockPort = 1024

// DialVsock connects to the agent of the guest with a CID, again and again until it
// listens.
func DialVsock(ctx context.Context, cid uint32) (net.Conn, error) {
	return DialSocket(ctx, unix.AF_VSOCK, &unix.SockaddrVM{CID: cid, Port: VsockPort})
}

// DialSocket connects to a stream socket, again and again until somebody listens there.
func DialSocket(ctx context.Context, family int, at unix.Sockaddr) (net.Conn, error) {
	for {
		conn, err := connectSocket(ctx, family, at)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, errNobodyListens) {
			return nil, fmt.Errorf("agent socket: %w", err)
		}
		select {
		case <-time.After(socketRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("agent socket: %w", context.Cause(ctx))
		}
	}
}

// errNobodyListens is returned for an address which may have a listener later.
var errNobodyListens = errors.New("nobody listens")

func connectSocket(ctx context.Context, family int, at unix.Sockaddr) (net.Conn, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	switch err := unix.Connect(fd, at); {
	case errors.Is(err, unix.EINPROGRESS):
		// Whether it has succeeded is known when the socket can be written to.
	case isAbsent(err):
		unix.Close(fd)
		return nil, errNobodyListens
	case err != nil:
		unix.Close(fd)
		return nil, err
	}
	conn := &socketConn{os.NewFile(uintptr(fd), "agent socket")}
	if err := conn.established(ctx); err != nil {
		conn.Close()
		if isAbsent(err) {
			return nil, errNobodyListens
		}
		return nil, err
	}
	return conn, nil
}

// isAbsent reports whether an error means that the guest does not listen yet.
func isAbsent(err error) bool {
	for _, absent := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.ENODEV, unix.EHOSTUNREACH,
		unix.ENETUNREACH, unix.ETIMEDOUT, unix.ENOENT, unix.EAGAIN} {
		if errors.Is(err, absent) {
			return true
		}
	}
	return false
}

// socketConn is a connected socket of a family that package net does not know.
type socketConn struct{ *os.File }

// established waits until the socket is connected.
func (c *socketConn) established(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) }) // it may be closed
	defer stop()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(ready, 0); err == unix.EINTR || err == nil && n == 0 {
			return false
		}
		var number int
		if number, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); failed == nil && number != 0 {
			failed = syscall.Errno(number)
		}
		return true
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, failed)
}

// LocalAddr and RemoteAddr complete net.Conn.
func (c *socketConn) LocalAddr() net.Addr { return socketAddr{} }

// RemoteAddr returns an address that says no more than the family.
func (c *socketConn) RemoteAddr() net.Addr { return socketAddr{} }

type socketAddr struct{}

func (socketAddr) Network() string { return "vsock" }
func (socketAddr) String() string  { return "agent" }
