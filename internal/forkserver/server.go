package forkserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
)

// The protocol of the library (program/forkserver.c): a request is one message, the
// directory and the arguments, each with a zero byte at its end, and the files with the
// numbers 0, 1, 2, …, the last of which is for templates (template.go); a report is three
// 32-bit numbers in the order of the machine: kind, process id, and status or error number.
// The report of a start comes with a pidfd. A request with an empty directory is for a
// process group of its own for the process whose number is its argument; it has no report.
const (
	maxFiles   = 32
	maxRequest = 100 << 10

	reportSize    = 12
	reportStarted = 1
	reportEnded   = 2
	reportRefused = 3

	marker      = "provium-fork-server"
	variable    = "PROVIUM_FORK_SERVER"
	titleLength = 16 << 10 // room for the arguments that process lists show
)

// answerLimit is how long a server may take to be ready, and a process to answer a request. The library does not
// work in a program that needs longer.
const answerLimit = 10 * time.Second

var (
	errServerEnded = errors.New("the fork server has ended")
	errSilent      = errors.New("the process does not answer")
)

// request asks for one process.
type request struct {
	text   []byte
	files  []*os.File
	stderr io.Writer
}

// server is a process that forks copies of itself.
type server struct {
	child proc.Process
	conn  *net.UnixConn
	limit time.Duration // for an answer

	asking sync.Mutex // held from a request to its report
	answer chan error

	mu        sync.Mutex
	pending   *process         // of the request; nil: nobody waits for it any more
	silent    bool             // it owes a report on a request that nobody waits for
	processes map[int]*process // those that have not ended
	// early are those that ended before it was known who they are: they are copies of a template.
	early map[int]unix.WaitStatus
	gone  bool
	// unreported are those that have ended without a word of the server.
	unreported map[int]bool

	done chan struct{} // closed when the reader has ended
}

// startServer starts a server for a program and returns when it is ready.
func startServer(launch func(*exec.Cmd) (proc.Process, error), program string, env []string, library []byte) (
	s *server, err error) {
	fd, err := unix.MemfdCreate("forkserver.so", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "forkserver.so")
	defer file.Close()
	if _, err := file.Write(library); err != nil {
		return nil, err
	}
	conn, theirs, err := seqpacket()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(program, marker+strings.Repeat(" ", titleLength))
	cmd.ExtraFiles = []*os.File{file, theirs}
	cmd.Env = preload(env)
	child, err := launch(cmd)
	if err != nil {
		conn.Close()
		return nil, err
	}
	theirs.Close()
	s = &server{child: child, conn: conn, limit: answerLimit, answer: make(chan error, 1),
		processes: map[int]*process{}, early: map[int]unix.WaitStatus{}, unreported: map[int]bool{},
		done: make(chan struct{})}
	_ = s.conn.SetReadDeadline(time.Now().Add(s.limit))
	first, err := receive(s.conn)
	if err == nil && first.kind != reportStarted {
		err = fmt.Errorf("fork server report of kind %d", first.kind)
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	if err != nil {
		s.end()
		return nil, err
	}
	go s.read()
	return s, nil
}

// preload returns env with the library, which is file 3, and its socket, which is file 4.
func preload(env []string) []string {
	const name = "LD_PRELOAD="
	out := []string{variable + "=4"}
	library := "/proc/self/fd/3"
	for _, e := range env {
		if before, ok := strings.CutPrefix(e, name); ok {
			library += ":" + before
			continue
		}
		out = append(out, e)
	}
	return append(out, name+library)
}

// end ends the process.
func (s *server) end() {
	s.conn.Close()
	s.child.Kill()
	_ = s.child.Wait() // it was killed
}

// close ends the server and its copies, and waits for that.
func (s *server) close() {
	_ = s.conn.CloseWrite()
	s.child.Kill()
	<-s.done
}

// isBusy reports whether a copy runs that is not a template.
func (s *server) isBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if !p.stands {
			return true
		}
	}
	return false
}

// launch has a copy made.
func (s *server) launch(r *request) (proc.Process, error) {
	p := &process{server: s, ended: make(chan struct{}), copied: make(chan struct{})}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []*os.File{null, null, null}
	var said *os.File
	if r.stderr != nil {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer write.Close()
		said, files[2] = read, write
	}
	control, theirs, err := seqpacket()
	if err != nil {
		if said != nil {
			said.Close()
		}
		return nil, err
	}
	defer theirs.Close()
	p.control = control
	var fds []int
	for _, f := range append(append(files, r.files...), theirs) {
		fds = append(fds, int(f.Fd()))
	}
	if err := s.ask(r.text, fds, p); err != nil {
		control.Close()
		if said != nil {
			said.Close()
		}
		return nil, err
	}
	go p.copyOutput(said, r.stderr)
	return p, nil
}

// ask sends a request and completes p with the report on it. A server that does not answer, such as one that somebody
// has stopped, is not asked again until it does.
func (s *server) ask(text []byte, fds []int, p *process) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.mu.Lock()
	if s.gone || s.silent {
		defer s.mu.Unlock()
		if s.gone {
			return errServerEnded
		}
		return errSilent
	}
	s.pending = p
	s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.limit))
	if _, _, err := s.conn.WriteMsgUnix(text, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	limit := time.NewTimer(s.limit)
	defer limit.Stop()
	select {
	case err := <-s.answer:
		return err
	case <-limit.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err := <-s.answer: // it came just now
		return err
	default:
	}
	s.pending, s.silent = nil, true
	return errSilent
}

// read takes reports until the server has ended.
func (s *server) read() {
	defer close(s.done)
	for {
		r, err := receive(s.conn)
		if err != nil {
			break
		}
		s.take(r)
	}
	s.end()
	s.mu.Lock()
	left := s.processes
	s.processes, s.gone = nil, true
	s.mu.Unlock()
	select {
	case s.answer <- errServerEnded: // whoever asks
	default:
	}
	for _, p := range left {
		p.awaitEnd() // the kernel kills them with the server
	}
}

// take takes one report.
func (s *server) take(r report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case (r.kind == reportStarted || r.kind == reportRefused) && s.silent: // nobody waits for it any more
		s.silent = false
		if r.pidfd >= 0 {
			_ = unix.PidfdSendSignal(r.pidfd, unix.SIGKILL, nil, 0) // it may have ended
			unix.Close(r.pidfd)
		}
	case r.kind == reportStarted:
		if r.pidfd < 0 { // our limit of open files is reached: it could not be ended later
			_ = unix.Kill(r.pid, unix.SIGKILL)
			s.answer <- fmt.Errorf("fork server: %w", unix.EMFILE)
			return
		}
		s.pending.pid, s.pending.pidfd = r.pid, r.pidfd
		s.processes[r.pid] = s.pending
		s.answer <- nil
	case r.kind == reportRefused:
		s.answer <- fmt.Errorf("fork server: %w", unix.Errno(r.status))
	case r.kind == reportEnded:
		if p := s.processes[r.pid]; p != nil {
			delete(s.processes, r.pid)
			p.end(endError(unix.WaitStatus(r.status)))
		} else if s.unreported[r.pid] { // its number was not free until now
			delete(s.unreported, r.pid)
		} else {
			s.early[r.pid] = unix.WaitStatus(r.status)
		}
	}
}

// giveUp ends a process that has ended, though the server has not said so.
func (s *server) giveUp(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.processes[p.pid] == p {
		delete(s.processes, p.pid)
		s.unreported[p.pid] = true
		p.end(errSilent)
	}
}

// report is a message of the server.
type report struct {
	kind, pid, status int
	pidfd             int // -1 without one
}

func receive(conn *net.UnixConn) (report, error) {
	var p [reportSize]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, rights, _, _, err := conn.ReadMsgUnix(p[:], oob)
	switch {
	case err != nil:
		return report{}, err
	case n == 0:
		return report{}, io.EOF
	case n != reportSize:
		return report{}, fmt.Errorf("fork server report of %d bytes", n)
	}
	number := func(at int) int { return int(int32(binary.NativeEndian.Uint32(p[at:]))) }
	r := report{kind: number(0), pid: number(4), status: number(8), pidfd: -1}
	messages, err := unix.ParseSocketControlMessage(oob[:rights])
	if err != nil {
		return report{}, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil || len(fds) != 1 {
			return report{}, errors.Join(err, errors.New("fork server report with unknown files"))
		}
		unix.CloseOnExec(fds[0])
		r.pidfd = fds[0]
	}
	return r, nil
}
