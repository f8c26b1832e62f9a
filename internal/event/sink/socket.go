package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/event"
)

const (
	// clientRoom is how many bytes may wait for one client.
	clientRoom = 16 << 20
	// clientPatience is how long a client may take nothing once the run is over.
	clientPatience = 2 * time.Second
)

// Socket gives a stream to all clients of a unix socket, each from the moment at which it
// connects. A client that is slow loses events and gets [event.EventsLost] in their place;
// none holds up the run or another one.
type Socket struct {
	listener *net.UnixListener
	format   event.Format
	room     int           // for each client, in bytes
	patience time.Duration // with each client at the end
	accepts  sync.WaitGroup

	mu      sync.Mutex
	clients map[*client]bool
	closed  bool
}

type client struct {
	conn  net.Conn
	queue *queue
	lost  uint64 // events since the last that the client got
}

// Listen makes a socket at path. An existing file that is no socket, or a socket that
// another program serves, is an error; one that nobody serves is replaced.
func Listen(path string, format event.Format) (*Socket, error) {
	if err := clearPath(path); err != nil {
		return nil, fmt.Errorf("event socket `%s`: %w", path, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("event socket: %w", err)
	}
	s := &Socket{listener: listener, format: format, room: clientRoom, patience: clientPatience,
		clients: map[*client]bool{}}
	// Events tell what guests print: for the user alone.
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("event socket: %w", err)
	}
	s.accepts.Add(1)
	go s.accept()
	return s, nil
}

// clearPath removes a socket that nobody serves.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file exists and is no socket")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return errors.New("another program serves it")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

func (s *Socket) accept() {
	defer s.accepts.Done()
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptors are left
			continue
		}
		s.mu.Lock()
		c := &client{conn: conn, queue: newQueue(conn, s.room)}
		if s.closed {
			conn.Close()
		} else {
			s.clients[c] = true
		}
		s.mu.Unlock()
	}
}

// Put implements [event.Sink].
func (s *Socket) Put(b *event.Batch) error {
	p, err := b.Bytes(s.format)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		if err := c.give(b, p, s.format); err != nil {
			c.conn.Close()
			delete(s.clients, c) // it is gone
		}
	}
	return nil
}

// give queues a batch, which is p in the client's format, or counts what is lost.
func (c *client) give(b *event.Batch, p []byte, f event.Format) error {
	if c.lost > 0 {
		note, err := event.NewBatch(b.Events[0].TS, event.Encoded{Event: event.EventsLost{Count: c.lost}}).Bytes(f)
		if err != nil {
			return err
		}
		p = append(note, p...)
	}
	fits, err := c.queue.offer(p)
	if fits {
		c.lost = 0
	} else {
		c.lost += uint64(len(b.Events))
	}
	return err
}

// Clients returns the number of clients.
func (s *Socket) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// Close removes the socket. It returns when each client has got what waits for it, or has
// taken nothing for 2 s.
func (s *Socket) Close() error {
	err := s.listener.Close()
	s.accepts.Wait()
	s.mu.Lock()
	s.closed = true
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	var ends sync.WaitGroup
	for c := range clients {
		ends.Add(1)
		go func() {
			defer ends.Done()
			_ = c.queue.drain(s.patience) // what a slow client misses is its own affair
			c.conn.Close()
		}()
	}
	ends.Wait()
	if err != nil {
		return fmt.Errorf("event socket close: %w", err)
	}
	return nil
}
