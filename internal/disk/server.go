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
		s.serve(conn, s.data.Serve)
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

// resume returns the client's end of a connection that needs no handshake, see qemu.Disk.
func (s *server) resume() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "server"), os.NewFile(uintptr(pair[1]), "client")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	s.serve(conn, s.data.Resume)
	return theirs, nil
}

// close ends all connections, and returns when their goroutines have ended.
func (s *server) close() {
	s.listener.Close()
	s.cancel()
	s.served.Wait()
}
