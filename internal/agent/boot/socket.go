package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What the host expects of a guest whose transport is vsock.
const (
	vsockOption = "provium.transport=vsock" // on the kernel's command line
	vsockPort   = 1024
)

// syncOption says on the kernel's command line that the guest is deterministic.
const syncOption = "provium.deterministic"

// Link is what the host reaches the agent by: a Port, or a Socket. One goroutine may read
// while others, one at a time, write.
type Link interface {
	io.ReadWriteCloser
	// AwaitHost returns once a host is connected or bytes of one are there. It is for the
	// reader, after io.EOF.
	AwaitHost() error
}

// OpenLink opens the link that the kernel's command line names: a vsock socket, or the port. What it waits for goes to
// say. kind says whether anybody else may still load the port's driver.
func (s *System) OpenLink(kind Init, say func(error)) (Link, error) {
	if s.hasWord(vsockOption) {
		return Listen(unix.AF_VSOCK, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: vsockPort})
	}
	limit := 0 // who has started us knows when
	switch kind {
	case InitMinimal:
		limit = portLimit
	case InitImage:
		limit = imageLimit
	}
	return s.OpenPort(limit, say)
}

// hasWord reports whether the kernel's command line has a word.
func (s *System) hasWord(word string) bool {
	return slices.Contains(strings.Fields(firstLine(s.proc, "cmdline")), word)
}

// Socket is a stream socket on which one host at a time is served. Frames are those of a
// Port.
type Socket struct {
	listener *os.File

	mu   sync.Mutex
	conn *os.File // nil before the first host
}

// Listen returns a Socket that listens at an address.
func Listen(family int, at unix.Sockaddr) (*Socket, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) && family == unix.AF_VSOCK {
		return nil, errors.New("the guest's kernel has no vsock (CONFIG_VIRTIO_VSOCKETS)")
	}
	if err == nil {
		if err = unix.Bind(fd, at); err == nil {
			err = unix.Listen(fd, 1)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the host: %w", err)
	}
	return &Socket{listener: os.NewFile(uintptr(fd), "agent socket")}, nil
}

func (s *Socket) current() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// Read reads what is there, waiting for something. It returns io.EOF while no host is
// connected; AwaitHost then waits for one.
func (s *Socket) Read(b []byte) (int, error) {
	conn := s.current()
	if conn == nil {
		return 0, io.EOF
	}
	n, err := conn.Read(b)
	if err != nil && n == 0 {
		return 0, io.EOF // however the host went, the next one may come
	}
	return n, nil
}

// Write writes all of b, waiting for the host as long as it takes. It fails when the host
// has gone.
func (s *Socket) Write(b []byte) (int, error) {
	conn := s.current()
	if conn == nil {
		return 0, io.ErrClosedPipe
	}
	return conn.Write(b)
}

// AwaitHost waits for the next host and forgets the one before.
func (s *Socket) AwaitHost() error {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return fmt.Errorf("await host: %w", err)
	}
	var fd int
	var failed error
	err = raw.Read(func(listener uintptr) bool {
		for {
			fd, _, failed = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if failed != unix.EINTR && failed != unix.ECONNABORTED {
				return failed != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("await host: %w", err)
	}
	s.mu.Lock()
	before := s.conn
	s.conn = os.NewFile(uintptr(fd), "host")
	s.mu.Unlock()
	if before != nil {
		before.Close()
	}
	return nil
}

// Close closes the socket and the connection to the host.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
	return s.listener.Close()
}
