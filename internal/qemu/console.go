package qemu

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// consolePipe moves what a console prints from its socket to a sink. Reading
// and delivering are one step under a lock, so that sync can tell when all
// that the guest has printed so far was delivered.
type consolePipe struct {
	file *os.File // non-blocking
	raw  syscall.RawConn
	sink io.Writer

	mu  sync.Mutex
	buf []byte
}

func newConsolePipe(f *os.File, sink io.Writer) (*consolePipe, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if sink == nil {
		sink = io.Discard
	}
	return &consolePipe{file: f, raw: raw, sink: sink, buf: make([]byte, 16<<10)}, nil
}

// run delivers until the other end is closed.
func (p *consolePipe) run() {
	_ = p.raw.Read(func(fd uintptr) bool { return p.drain(int(fd)) })
}

// sync delivers what has arrived so far.
func (p *consolePipe) sync() {
	_ = p.raw.Control(func(fd uintptr) { p.drain(int(fd)) })
}

// drain delivers what there is and tells whether the stream has ended.
func (p *consolePipe) drain(fd int) (ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		n, err := syscall.Read(fd, p.buf)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return false
		case err != nil || n == 0:
			return true
		default:
			_, _ = p.sink.Write(p.buf[:n])
		}
	}
}
