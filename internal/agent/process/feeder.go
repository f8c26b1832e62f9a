package process

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// feeder writes a process's standard input: pieces in the order of the calls, then
// its end. It is safe for concurrent use.
type feeder struct {
	f    *os.File // non-blocking
	turn chan struct{}

	mu     sync.Mutex
	closed bool // by its user: nothing more is accepted
	gone   bool // the process has ended
	queued int  // writers in line or at work
}

// newFeeder takes over f and writes the initial bytes in the background.
func newFeeder(f *os.File, initial []byte) *feeder {
	s := &feeder{f: f, turn: make(chan struct{}, 1)}
	if len(initial) > 0 {
		s.turn <- struct{}{}
		s.queued++
		go func() {
			_, _ = f.Write(initial) // no operation waits for it
			s.leave()
		}()
	}
	return s
}

var (
	errStdinClosed = wire.ErrnoText(uint32(unix.EPIPE), "standard input is closed")
	// errStdinClosedGone is of a process that has ended since, as most do then.
	errStdinClosedGone = wire.ErrnoText(uint32(unix.EPIPE), "standard input is closed, and the process has exited")
	errStdinGone       = wire.ErrnoText(uint32(unix.EPIPE), "the process has exited or closed its standard input")
)

// write returns when all of p is written, or the process does not read any more.
func (s *feeder) write(ctx context.Context, p []byte) (int, error) {
	s.mu.Lock()
	switch {
	case s.closed && s.gone:
		s.mu.Unlock()
		return 0, errStdinClosedGone
	case s.closed:
		s.mu.Unlock()
		return 0, errStdinClosed
	case s.gone:
		s.mu.Unlock()
		return 0, errHasExited
	}
	s.queued++
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.mu.Lock()
		s.queued--
		s.mu.Unlock()
		return 0, context.Canceled
	}
	defer s.leave()
	// Cancelling wakes the writer; a later one starts afresh.
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.f.SetWriteDeadline(sys.Past)
		close(woken)
	})
	n, err := s.f.Write(p)
	if !stop() {
		<-woken
		_ = s.f.SetWriteDeadline(sys.Never)
	}
	switch {
	case err == nil:
		return n, nil
	case ctx.Err() != nil:
		return n, context.Canceled
	}
	return n, errStdinGone
}

// leave lets the next writer in, or ends the input behind the last.
func (s *feeder) leave() {
	<-s.turn
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued--; s.queued == 0 && s.closed {
		s.f.Close()
	}
}

// close ends the input behind what is being written.
func (s *feeder) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		if s.closed = true; s.queued == 0 {
			s.f.Close()
		}
	}
}

// stop ends the input at once, since the process has ended.
func (s *feeder) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.f.Close()
}
