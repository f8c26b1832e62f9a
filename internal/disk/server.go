package disk

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/blockdev"
)

// server serves the contents of a disk on a socket, through which machines use them.
type server struct {
	data     *blockdev.Disk
	listener net.Listener
	socket   string
	warn     func(error)     // gets the errors of clients
	ctx      context.Context // ends the connections
	cancel   context.CancelFunc
	served   sync.WaitGroup // the listener and its connections
	resumed  sync.Map       // names of clients that make no handshake
}

// serve starts to serve data on a socket at path. data stays the caller's. warn gets
// the errors of clients.
func serve(data *blockdev.Disk, path string, warn func(error)) (*server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	s := &server{data: data, listener: l, socket: path, warn: warn}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.served.Go(s.accept)
	return s, nil
}

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		if _, ok := s.resumed.LoadAndDelete(conn.RemoteAddr().String()); ok {
			s.serve(conn, s.data.Resume)
		} else {
			s.serve(conn, s.data.Serve)
		}
	}
}

// serve serves a connection. It must be called while the server has others, or its listener.
func (s *server) serve(conn net.Conn, how func(context.Context, net.Conn) error) {
	s.served.Go(func() {
		if err := how(s.ctx, conn); err != nil {
			s.warn(err)
		}
	})
}

// resume returns the client's end of a connection that needs no handshake, see qemu.Disk. Its other end has the
// server's name, as that of an ordinary connection has.
func (s *server) resume() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	client := os.NewFile(uintptr(fd), "client")
	fail := func(err error) (*os.File, error) {
		client.Close()
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil { // a name that the kernel chooses
		return fail(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fail(err)
	}
	s.resumed.Store(name.(*unix.SockaddrUnix).Name, true)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: s.socket}); err != nil {
		return fail(err)
	}
	return client, nil
}

// close ends all connections, and returns when their goroutines have ended.
func (s *server) close() {
	s.listener.Close()
	s.cancel()
	s.served.Wait()
}
