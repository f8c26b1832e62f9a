package nbd

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a unix socket in blocking mode, unknown to the runtime's poller: a request
// is answered earlier when the thread that waits for it also serves it, and no other
// thread is woken. One goroutine may read at a time, and one write.
type socket struct {
	*os.File
	fd int // of the file, while it is open
}

// sendBuffer is the size of the socket's send buffer, in bytes, as far as the host
// permits. A reply that does not fit costs one more switch between the processes.
const sendBuffer = 4 << 20

// newSocket makes a socket of a connection, which it closes.
func newSocket(conn *net.UnixConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(old uintptr) {
		if fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
			// Before it is a file: one that does not block is the poller's for good.
			dupErr = unix.SetNonblock(fd, false)
		}
	})
	err = errors.Join(err, dupErr, conn.Close())
	if fd < 0 {
		return nil, err
	}
	s := &socket{os.NewFile(uintptr(fd), "nbd client"), fd}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) // cut to what is permitted
	}
	return s, nil
}

// hangUp ends all calls that wait for the client. It is safe for concurrent use.
func (s *socket) hangUp() {
	raw, err := s.SyscallConn()
	if err == nil {
		// a closed one waits for nothing
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// sendFile sends n bytes of a file from at on. They are not copied: the client reads
// what the file contains at the time it receives them.
func (s *socket) sendFile(f *os.File, at, n int64) error {
	for n > 0 {
		k, err := unix.Sendfile(s.fd, int(f.Fd()), &at, int(n))
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EINVAL || err == unix.ENOSYS: // not from this filesystem
			_, err = io.Copy(struct{ io.Writer }{s.File}, io.NewSectionReader(f, at, n))
			return err
		case err != nil:
			return os.NewSyscallError("sendfile", err)
		case k == 0:
			return errors.New("the file has become shorter")
		}
		n -= int64(k)
	}
	return nil
}

// tryRead reads what has arrived, at most len(p) bytes, and does not wait.
func (s *socket) tryRead(p []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(s.fd, p, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, nil
		case err == nil && n == 0:
			return 0, io.EOF
		}
		return n, err
	}
}

// receive fills p, whose pages need not be accessible: if the kernel cannot store to
// one, the error is EFAULT, and the data that were not stored can be received again.
// It returns how many bytes were stored.
func (s *socket) receive(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := unix.Read(s.fd, p[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case k == 0:
			return n, io.ErrUnexpectedEOF
		default:
			n += k
		}
	}
	return n, nil
}
