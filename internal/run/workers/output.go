package workers

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// output is a pipe on which a worker prints. A nil one does nothing.
type output struct {
	read, write *os.File
	conn        syscall.RawConn
	over        chan struct{} // closed when nothing comes any more

	mu sync.Mutex
	to io.Writer
}

// newOutput makes a pipe, and enters its end for the process.
func newOutput(end *io.Writer, to io.Writer) (*output, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("runner output: %w", err)
	}
	conn, err := read.SyscallConn()
	if err != nil {
		read.Close()
		write.Close()
		return nil, fmt.Errorf("runner output: %w", err)
	}
	*end = write
	return &output{read: read, write: write, conn: conn, to: to, over: make(chan struct{})}, nil
}

// begin passes on what is printed if the process was started.
func (o *output) begin(started bool) {
	if o == nil {
		return
	}
	o.write.Close()
	if !started {
		o.read.Close()
		return
	}
	go func() {
		defer close(o.over)
		// take returns false while there may be more, and is called again when there is.
		_ = o.conn.Read(func(fd uintptr) bool { return o.take(int(fd)) }) // ends when the pipe is closed
	}()
}

// take passes on what was printed by now, and reports whether that is all there will be.
func (o *output) take(fd int) (all bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var p [8 << 10]byte
	for {
		n, err := unix.Read(fd, p[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		case err != nil || n == 0:
			return true
		default:
			_, _ = o.to.Write(p[:n]) // the worker must not notice that it fails
		}
	}
}

// set has what is printed from now on go to another writer.
func (o *output) set(to io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = to
}

// settle returns when what was printed by now is passed on.
func (o *output) settle() {
	if o != nil {
		_ = o.conn.Control(func(fd uintptr) { o.take(int(fd)) }) // fails when nothing can come any more
	}
}

// end returns when all was passed on, or the limit is over.
func (o *output) end(limit <-chan time.Time) {
	if o == nil {
		return
	}
	select {
	case <-o.over:
	case <-limit:
	}
	o.read.Close()
	<-o.over
}
