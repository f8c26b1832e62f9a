package disk

import (
	"context"
	"fmt"
	"net"
	"sync"

	"provium/internal/blockdev"
)

// server serves the contents of a disk on a socket, through which machines use them.
type server struct {
	data     *blockdev.Disk
	listener net.Listener
	socket   string
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
	s := &server{data: data, listener: l, socket: path}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		s.accept(ctx, warn)
	}()
	return s, nil
}

func (s *server) accept(ctx context.Context, warn func(error)) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.served.Add(1)
		go func() {
			defer s.served.Done()
			if err := s.data.Serve(ctx, conn); err != nil {
				warn(err)
			}
		}()
	}
}

// close ends all connections, and returns when their goroutines have ended.
func (s *server) close() {
	s.listener.Close()
	s.cancel()
	s.served.Wait()
}
