package forkserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process is a copy that a server has made.
type process struct {
	server *server
	pid    int
	stands bool          // it is a template; of server.mu
	ended  chan struct{} // closed when it has ended
	copied chan struct{} // closed when all its output was delivered

	asking  sync.Mutex    // held from a request for a template to its report
	control *net.UnixConn // for such requests; nil of a template
	silent  bool          // it owes a report, and is not asked again

	mu    sync.Mutex
	pidfd int   // -1 when it has ended
	err   error // how it ended
}

func (p *process) PID() int { return p.pid }

func (p *process) Dir() string { return fmt.Sprintf("/proc/%d", p.pid) }

// Kill sends SIGKILL. The server ends what the process has left in its process group.
func (p *process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) // it may have ended
	}
}

func (p *process) Wait() error {
	var reports sync.WaitGroup
	reports.Go(p.awaitReport)
	<-p.ended
	<-p.copied
	reports.Wait()
	return p.err
}

// reportLimit is how long a server may take to say how a process has ended.
const reportLimit = time.Second

// awaitReport ends a process whose server does not say that it has ended, such as one that somebody has stopped.
func (p *process) awaitReport() {
	p.mu.Lock()
	fd := -1
	if p.pidfd >= 0 {
		fd, _ = unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	}
	p.mu.Unlock()
	if fd < 0 || unix.SetNonblock(fd, true) != nil {
		return
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err == nil {
		err = conn.Read(func(fd uintptr) bool { return hasEnded(int(fd)) })
	}
	limit := time.NewTimer(reportLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		if err == nil {
			p.server.giveUp(p)
		}
	}
}

// copyOutput delivers what the process writes to standard error.
func (p *process) copyOutput(said *os.File, to io.Writer) {
	defer close(p.copied)
	if said == nil {
		return
	}
	_, _ = io.Copy(to, said) // ends with the process
	said.Close()
}

// end records how the process has ended.
func (p *process) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.Close(p.pidfd)
	p.pidfd, p.err = -1, err
	if p.control != nil {
		p.control.Close()
	}
	close(p.ended)
}

// keepControl keeps the connection on which the process is asked for templates.
func (p *process) keepControl(conn *net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 { // it has ended
		conn.Close()
		return
	}
	p.control = conn
}

// awaitEnd waits for the end of a process whose server has ended.
func (p *process) awaitEnd() {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			break
		}
	}
	p.end(errServerEnded)
}

// endError returns what os/exec says of a process that has ended like this.
func endError(status unix.WaitStatus) error {
	switch {
	case status.Signaled():
		text := "signal: " + status.Signal().String()
		if status.CoreDump() {
			text += " (core dumped)"
		}
		return errors.New(text)
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}
