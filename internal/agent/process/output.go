package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// output is one output of a command on its way to the host.
type output struct {
	op        *session.Op
	stream    uint16
	fd        int // our end of the pipe, -1 when closed
	writer    int // the other end, -1 when closed
	b         *session.Buffer
	n         int // bytes in b
	total     int64
	truncated bool
	wide      bool
}

// A pipe that gave widenAt bytes at once is made widePipe bytes wide.
const (
	widenAt  = 32 << 10
	widePipe = 512 << 10
)

// open creates the pipe. The command gets s.writer, which stays open here as well
// until the command has ended. Otherwise its exit would wake the agent for the end
// of each output, and then once more for its own.
func (s *output) open(o *session.Op, stream uint16) error {
	var p [2]int
	if err := sys.Pipe(&p); err != nil {
		return err
	}
	s.op, s.stream, s.fd, s.writer = o, stream, p[0], p[1]
	return nil
}

func (s *output) closeWriter() {
	if s.writer >= 0 {
		sys.CloseNow(s.writer)
		s.writer = -1
	}
}

func (s *output) close() {
	if s.op == nil {
		return
	}
	s.closeWriter()
	if s.fd >= 0 {
		// The other end is still open elsewhere, as a rule in a background
		// child. That must neither block nor die of SIGPIPE because its output
		// is no longer wanted.
		discard(s.fd)
		s.fd = -1
	}
	if s.b != nil {
		s.op.Release(s.b)
		s.b = nil
	}
}

// discard reads fd to its end in the background, where it costs no thread.
func discard(fd int) {
	if unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return
	}
	f := os.NewFile(uintptr(fd), "output")
	go func() {
		defer f.Close()
		p := make([]byte, 512)
		for {
			if _, err := f.Read(p); err != nil {
				return
			}
		}
	}()
}

// take reads once, up to limit bytes if that is not negative. It returns how many
// came, 0 at the end of the output.
func (s *output) take(limit int) (int, error) {
	if s.b == nil {
		s.b = s.op.Buffer()
	}
	room := s.b.Payload()[s.n:]
	if limit >= 0 {
		room = room[:min(limit, len(room))]
	}
	k, err := sys.ReadNow(s.fd, room)
	if err != nil {
		return 0, err
	}
	if k == 0 {
		sys.CloseNow(s.fd)
		s.fd = -1
		return 0, nil
	}
	if k >= widenAt && !s.wide {
		// A command that prints much gets a wider pipe: fewer switches between it
		// and the agent. Without the permission it stays as it is.
		s.wide = true
		_, _ = sys.Call(unix.SYS_FCNTL, uintptr(s.fd), unix.F_SETPIPE_SZ, widePipe)
	}
	if left := wire.MaxOutput - s.total; int64(k) > left {
		s.truncated = true
		s.n += int(left)
		s.total += left
	} else {
		s.n += k
		s.total += int64(k)
	}
	if s.n == wire.ChunkSize {
		return k, s.flush()
	}
	return k, nil
}

func (s *output) flush() error {
	if s.n == 0 {
		return nil
	}
	n := s.n
	s.n = 0
	return s.op.Stream(s.stream, s.b, n)
}

func (s *output) rest() []byte {
	if s.n == 0 {
		return nil
	}
	return append([]byte(nil), s.b.Payload()[:s.n]...)
}

// collect takes both outputs until the process has ended, and then what is in
// the pipes at that moment. It waits in the runtime's poller, on an epoll
// instance of its own: one goroutine, no thread, one wake-up for what happens
// at the same time.
func (t *Table) collect(pidfd int, out, err2 *output) (err error) {
	w, err := t.waiters.Get()
	if err != nil {
		return err
	}
	sources := [...]int{pidfd, out.fd, err2.fd}
	for i, fd := range sources {
		if err := w.Watch(fd, int32(i)); err != nil {
			w.Close()
			return err
		}
	}
	defer func() {
		// What is closed has left by itself.
		for _, fd := range [...]int{pidfd, out.fd, err2.fd} {
			if fd >= 0 && w.Unwatch(fd) != nil {
				err = errors.Join(err, w.Close())
				return
			}
		}
		t.waiters.Put(w)
	}()
	outputs := [...]*output{nil, out, err2}
	var events [len(sources)]unix.EpollEvent
	for {
		n, err := w.Await(events[:])
		if err != nil {
			return err
		}
		ended := false
		for _, e := range events[:n] {
			ended = ended || e.Fd == 0
		}
		for _, e := range events[:n] {
			// At its end an output is closed, which takes it off the epoll.
			if s := outputs[e.Fd]; s != nil && s.fd >= 0 && !ended {
				if _, err := s.take(-1); err != nil {
					return err
				}
			}
		}
		if ended {
			return errors.Join(out.drain(), err2.drain())
		}
	}
}

// drain takes what is in the pipe now. It does not wait for what a process that
// outlives the command adds meanwhile.
func (s *output) drain() error {
	s.closeWriter()
	if s.fd < 0 {
		return nil
	}
	left, err := sys.PipeBytes(s.fd)
	if err != nil {
		return err
	}
	for left > 0 {
		k, err := s.take(left)
		if err != nil || k == 0 {
			return err
		}
		left -= k
	}
	// Without POLLIN only a hang-up is reported: the other end is closed.
	fd := []unix.PollFd{{Fd: int32(s.fd)}}
	if n, err := sys.PollNow(fd); err == nil && n == 1 {
		sys.CloseNow(s.fd)
		s.fd = -1
	}
	return nil
}
