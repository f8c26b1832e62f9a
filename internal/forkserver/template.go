package forkserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
)

// The protocol of templates (program/template.c): each copy of the server has a socket, the last of
// its files. A request on it comes with the template's end of another one; its text is "FILE AT
// LENGTH", the numbers of proc.SharedMemory, the last two in hexadecimal. A request on that socket is
// for a copy of the template: the directory, how many arguments follow and these, then a word for
// each file that comes with it, all with a zero byte at their ends. The words begin with a letter:
// n, l, a, p for the number and the paths of proc.Replacement, m for memory ("AT LENGTH", in hexadecimal), s for
// the socket on which the copy is asked for templates. Each request is answered by a report.

// Template makes a template of the process.
func (p *process) Template(memory proc.SharedMemory) (proc.Template, error) {
	ours, theirs, err := seqpacket()
	if err != nil {
		return nil, fmt.Errorf("qemu template: %w", err)
	}
	defer theirs.Close()
	t := &template{server: p.server, conn: ours}
	text := fmt.Sprintf("%d %x %x", memory.File, memory.At, memory.Length)
	p.asking.Lock()
	defer p.asking.Unlock()
	if p.silent {
		err = errSilent
	} else {
		t.process, p.silent, err = p.server.make(p.control, text, []*os.File{theirs})
	}
	if err != nil {
		ours.Close() // which ends a template that is made later
		return nil, fmt.Errorf("qemu template: %w", err)
	}
	close(t.process.copied)
	p.server.mu.Lock()
	t.process.stands = true
	p.server.mu.Unlock()
	return t, nil
}

// template is a process that makes copies of itself.
type template struct {
	server  *server
	process *process

	asking sync.Mutex
	conn   *net.UnixConn
}

// Copy implements proc.Template.
func (t *template) Copy(c proc.Copy) (proc.Process, error) {
	p, err := t.copy(c)
	if err != nil {
		return nil, fmt.Errorf("qemu copy: %w", err)
	}
	return p, nil
}

func (t *template) copy(c proc.Copy) (*process, error) {
	said, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	ours, theirs, err := seqpacket()
	if err != nil {
		said.Close()
		return nil, err
	}
	defer theirs.Close()
	words := append([]string{c.Dir, fmt.Sprint(len(c.Args))}, c.Args...)
	words = append(words, "n2", "s")
	files := []*os.File{stderr, theirs}
	for _, r := range c.Replaced {
		words, files = append(words, replacementWord(r)), append(files, r.File)
	}
	if m := c.Memory; m != nil {
		words, files = append(words, fmt.Sprintf("m%x %x", m.At, m.Length)), append(files, m.File)
	}
	t.asking.Lock()
	defer t.asking.Unlock()
	p, silent, err := t.server.make(t.conn, strings.Join(words, "\x00")+"\x00", files)
	if err != nil {
		if silent { // it ends when it answers, and the server ends what it has made by then
			t.conn.Close()
		}
		said.Close()
		ours.Close()
		return nil, err
	}
	p.keepControl(ours)
	go p.copyOutput(said, c.Stderr)
	return p, nil
}

func replacementWord(r proc.Replacement) string {
	switch {
	case r.Listener != "":
		return "l" + r.Listener
	case r.Accepted != "":
		return "a" + r.Accepted
	case r.Connected != "":
		return "p" + r.Connected
	}
	return fmt.Sprintf("n%d", r.Number)
}

// Close implements proc.Template.
func (t *template) Close() {
	t.conn.Close()
	t.process.Kill()
}

// make sends a request for a process and takes the report on it. silent means that the report may still come.
func (s *server) make(conn *net.UnixConn, text string, files []*os.File) (p *process, silent bool, err error) {
	if len(text) > maxRequest || len(files) > maxFiles {
		return nil, false, errors.New("the request is too long")
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_ = conn.SetDeadline(time.Now().Add(s.limit))
	if _, _, err := conn.WriteMsgUnix([]byte(text), unix.UnixRights(fds...), nil); err != nil {
		return nil, false, err
	}
	r, err := receive(conn)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, true, errSilent
	case errors.Is(err, io.EOF):
		return nil, false, errors.New("the process has ended")
	case err != nil:
		return nil, false, err
	case r.kind != reportStarted:
		return nil, false, unix.Errno(r.status)
	case r.pidfd < 0:
		_ = unix.Kill(r.pid, unix.SIGKILL)
		return nil, false, unix.EMFILE
	}
	p = &process{server: s, pid: r.pid, pidfd: r.pidfd, ended: make(chan struct{}), copied: make(chan struct{})}
	return p, false, s.adopt(p)
}

// adopt enters a process that another one than the server has made, and has the server put it into a process
// group of its own.
func (s *server) adopt(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		_ = unix.Close(p.pidfd)
		return errServerEnded
	}
	if status, over := s.early[p.pid]; over {
		delete(s.early, p.pid)
		if hasEnded(p.pidfd) { // else another process had the number
			p.end(endError(status))
			return nil
		}
	}
	s.processes[p.pid] = p
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.limit))
	_, err := s.conn.Write([]byte(fmt.Sprintf("\x00%d\x00", p.pid)))
	if err != nil {
		p.Kill()
	}
	return err
}

// hasEnded reports whether the process of a pidfd has ended.
func hasEnded(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// seqpacket makes a pair of connected sockets, which keep messages apart.
func seqpacket() (ours *net.UnixConn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(pair[0]), "ours")
	defer file.Close()
	theirs = os.NewFile(uintptr(pair[1]), "theirs")
	conn, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
}
