package nbd

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a unix socket that the runtime's poller does not know: a request is
// answered earlier when the thread that waits for it is the one that serves it,
// and when no other is woken by it. Only one may read at a time, and one write.
type socket struct {
	*os.File
	fd int // of the file, while it is open
}

// sendBuffer is how much may be under way to a client before it takes any, in
// bytes, as far as the host permits. A reply that does not fit costs a change
// between the processes more.
const sendBuffer = 4 << 20

// newSocket takes a connection over.
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

// hangUp ends what waits for the client. It may be called at any time.
func (s *socket) hangUp() {
	raw, err := s.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // a closed one waits for nothing
	}
}

// sendFile sends n bytes of a file from at on. They are not copied: the client
// finds what the file has when it takes them.
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

// tryRead reads what there is at once, at most len(p) bytes.
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

// receive fills p, of which no byte need be accessible: where the kernel cannot
// store, the error is EFAULT, and what was not stored can be received still. It
// returns how much was stored.
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
