// Package consolepipe moves what a guest's console prints to where it is kept, and what is typed to the
// guest. It does not look at the text (package console).
package consolepipe

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Pipe moves what a console prints from its socket to a sink. Reading
// and delivering are one step under a lock, so that Sync can tell when all
// that the guest has printed so far was delivered. It is safe for concurrent use.
type Pipe struct {
	file *os.File // non-blocking
	raw  syscall.RawConn
	sink io.Writer
	turn chan struct{} // has a token while a write is under way

	mu  sync.Mutex
	buf []byte
	n   int64 // delivered, in bytes
	sum uint32
}

// New returns the pipe of a socket, which must be non-blocking and is the pipe's from then on. A sink of nil drops
// all.
func New(f *os.File, sink io.Writer) (*Pipe, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if sink == nil {
		sink = io.Discard
	}
	return &Pipe{file: f, raw: raw, sink: sink, turn: make(chan struct{}, 1), buf: make([]byte, 16<<10)}, nil
}

// Run delivers until the other end is closed.
func (p *Pipe) Run() {
	_ = p.raw.Read(func(fd uintptr) bool { return p.drain(int(fd)) })
}

// Sync delivers what has arrived so far.
func (p *Pipe) Sync() {
	_ = p.raw.Control(func(fd uintptr) { p.drain(int(fd)) })
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Digest returns a short text of all that pipes have delivered.
func Digest(pipes ...*Pipe) string {
	all := make([]string, 0, len(pipes))
	for _, p := range pipes {
		p.mu.Lock()
		all = append(all, fmt.Sprintf("%08x+%d", p.sum, p.n))
		p.mu.Unlock()
	}
	return strings.Join(all, " ")
}

// Close closes the socket.
func (p *Pipe) Close() error { return p.file.Close() }

// drain delivers what has arrived and reports whether the stream has ended.
func (p *Pipe) drain(fd int) (ended bool) {
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
			p.n += int64(n)
			p.sum = crc32.Update(p.sum, castagnoli, p.buf[:n])
			_, _ = p.sink.Write(p.buf[:n])
		}
	}
}

// Write sends data to the guest until ctx ends, whose cause it then returns. Writes
// are done one after the other, since a file has one deadline.
func (p *Pipe) Write(ctx context.Context, data []byte) (int, error) {
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
