package qemu

import (
	"context"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// consolePipe moves what a console prints from its socket to a sink. Reading
// and delivering are one step under a lock, so that sync can tell when all
// that the guest has printed so far was delivered.
type consolePipe struct {
	file *os.File // non-blocking
	raw  syscall.RawConn
	sink io.Writer
	turn chan struct{} // has a token while a write is under way

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
	return &consolePipe{file: f, raw: raw, sink: sink, turn: make(chan struct{}, 1), buf: make([]byte, 16<<10)}, nil
}

// run delivers until the other end is closed.
func (p *consolePipe) run() {
	_ = p.raw.Read(func(fd uintptr) bool { return p.drain(int(fd)) })
}

// sync delivers what has arrived so far.
func (p *consolePipe) sync() {
	_ = p.raw.Control(func(fd uintptr) { p.drain(int(fd)) })
}

// drain delivers what has arrived and reports whether the stream has ended.
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

// write sends data to the guest until ctx ends, whose cause it then returns. Writes
// are done one after the other, since a file has one deadline.
func (p *consolePipe) write(ctx context.Context, data []byte) (int, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err := p.file.SetWriteDeadline(time.Time{}); err != nil {
		return 0, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = p.file.SetWriteDeadline(time.Unix(1, 0)) // a closed file is not written
	})
	n, err := p.file.Write(data)
	if !stop() {
		<-interrupted // it must not meet the next write
		if err != nil {
			err = context.Cause(ctx)
		}
	}
	return n, err
}
