package qmp

import (
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reading is the connection as the goroutine that reads has it. It knows whether all that QEMU has sent was handled.
type reading struct {
	conn net.Conn
	raw  syscall.RawConn // nil for a connection without a descriptor

	mu   sync.Mutex
	idle *sync.Cond // signalled when busy becomes false
	busy bool       // what was read is being handled
	over bool
}

func newReading(conn net.Conn) *reading {
	r := &reading{conn: conn}
	r.idle = sync.NewCond(&r.mu)
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	return r
}

// Read implements io.Reader. What earlier calls have returned was handled.
func (r *reading) Read(p []byte) (n int, err error) {
	r.set(false)
	if r.raw == nil {
		n, err = r.conn.Read(p)
		r.set(true)
		return n, err
	}
	var failed error
	err = r.raw.Read(func(fd uintptr) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for {
			if n, failed = unix.Read(int(fd), p); failed != unix.EINTR {
				break
			}
		}
		if failed == unix.EAGAIN {
			return false
		}
		r.busy = true // from the same moment on in which it is no longer in the socket
		return true
	})
	switch {
	case err != nil: // it was closed
		return 0, err
	case failed != nil:
		return 0, failed
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (r *reading) set(busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = busy
	r.idle.Broadcast()
}

func (r *reading) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.idle.Broadcast()
}

// await waits until all was handled that had been sent when it was called, or the connection has ended.
func (r *reading) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.over && (r.busy || r.unread() > 0) {
		r.idle.Wait()
	}
}

// unread returns how many bytes are in the socket.
func (r *reading) unread() (n int) {
	if r.raw != nil {
		_ = r.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}
