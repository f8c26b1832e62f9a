package hostfault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors of a supervised process.
const (
	linkFD = 3 // a socket over which it sends its listener
	gateFD = 4
)

// Supervisor answers the calls of a process.
type Supervisor struct {
	gate *gate
	link *os.File
	mine func(tid int) bool
	done chan struct{}
	err  error

	slow    *slowness
	waiting sync.WaitGroup
}

// slowness says which calls take longer, as on a slow disk.
type slowness struct {
	each        time.Duration // how much longer; 0: none does
	also        string        // beginning of the names of other programs than the supervised one
	own, others delayed
}

// delayed are the calls of a program that have taken longer.
type delayed struct {
	calls atomic.Int64
	spent time.Duration
}

// supervise starts a process that joins the supervision by join. cmd must have no extra
// files. slow says which calls take longer, mine whether a thread's calls count, given the process id.
func supervise(cmd *exec.Cmd, slow *slowness, mine func(pid, tid int) bool) (*Supervisor, error) {
	g, memory, err := newGate()
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("host faults: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "link"), os.NewFile(uintptr(pair[1]), "link")
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs, memory}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("host faults: %w", err)
	}
	s := &Supervisor{gate: g, link: ours, slow: slow, done: make(chan struct{})}
	s.mine = func(tid int) bool { return mine(cmd.Process.Pid, tid) }
	go s.serve()
	return s, nil
}

// Wait waits until no process is supervised any more.
func (s *Supervisor) Wait() error {
	<-s.done
	return s.err
}

func (s *Supervisor) serve() {
	defer close(s.done)
	defer s.link.Close()
	listener, err := receive(int(s.link.Fd()))
	if err != nil {
		s.err = err
		return
	}
	defer unix.Close(listener)
	defer s.waiting.Wait() // before it is closed
	runtime.LockOSThread()
	// The stopped thread and this one take turns: on one CPU that is fastest. Older kernels
	// do without.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifySetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			s.err = fmt.Errorf("host faults: poll: %w", err)
			return
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return // all processes have ended
		}
		if err := s.one(listener); err != nil {
			s.err = err
			return
		}
	}
}

// notifySetFlags is SECCOMP_IOCTL_NOTIF_SET_FLAGS.
const notifySetFlags = 0x40082104

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// one answers one call.
func (s *Supervisor) one(listener int) error {
	var n notification
	if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
		if err == unix.ENOENT || err == unix.EINTR {
			return nil // the thread has ended
		}
		return fmt.Errorf("host faults: receive: %w", err)
	}
	r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if errno := s.decide(&n); errno != 0 {
		r.errno, r.flags = -int32(errno), 0
	}
	if d := s.delay(&n); d > 0 {
		s.waiting.Go(func() {
			time.Sleep(d)
			_ = reply(listener, &r) // of an answer that fails, the next one does, too
		})
		return nil
	}
	return reply(listener, &r)
}

func reply(listener int, r *response) error {
	err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("host faults: answer: %w", err)
	}
	return nil
}

// slowInAll is how long the calls of a process that is supervised are delayed in all, at most.
const slowInAll = 20 * time.Second

// delay returns how long a call is to take longer: those that write to files do on a slow disk, and of other programs
// those that read them, too.
func (s *Supervisor) delay(n *notification) time.Duration {
	c, known := calls[int(n.nr)]
	if s.slow.each == 0 || !known {
		return 0
	}
	of := &s.slow.own
	if !s.mine(int(n.pid)) {
		name := filepath.Base(executable(int(n.pid)))
		if s.slow.also == "" || !strings.HasPrefix(name, s.slow.also) {
			return 0
		}
		of = &s.slow.others
	}
	if !c.writes() && (of == &s.slow.own || !c.reads()) || of.spent >= slowInAll ||
		!strings.HasPrefix(c.object(int(n.pid), &n.args), "/") {
		return 0
	}
	of.spent += s.slow.each
	of.calls.Add(1)
	return s.slow.each
}

// executable returns the path of the program that a thread runs, "" if it is gone.
func executable(tid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", tid))
	if err != nil {
		return ""
	}
	return path
}

// decide returns the error with which a call fails, and 0 for a call that is made.
func (s *Supervisor) decide(n *notification) unix.Errno {
	g := s.gate
	at := g.armed.Load()
	if at == 0 || !s.mine(int(n.pid)) {
		return 0
	}
	c := calls[int(n.nr)]
	already := unix.Errno(g.errno.Load())
	if already != 0 && (g.lasting.Load() == 0 || !slices.Contains(c.errnos, already)) {
		return 0 // the fault is over, or concerns other calls
	}
	object := c.object(int(n.pid), &n.args)
	if c.spared(object, &n.args) {
		return 0
	}
	if already != 0 {
		return already
	}
	if g.seen.Add(1) != at {
		return 0
	}
	errno := c.errnos[g.choice.Load()%uint64(len(c.errnos))]
	if errno == unix.EINTR {
		g.lasting.Store(0) // what is repeated for as long as it is interrupted would never end
	}
	text := fmt.Sprintf("%s(%s) = %s", c.name, object, unix.ErrnoName(errno))
	g.length.Store(uint64(copy(g.text[:], text)))
	g.choices.Store(uint64(len(c.errnos)))
	g.errno.Store(uint64(errno))
	return errno
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// errNotJoined is returned when a process has ended without being supervised.
var errNotJoined = errors.New("host faults: the process did not send its listener")

// receive takes the listener that a process sends.
func receive(link int) (listener int, err error) {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, got, _, _, err := unix.Recvmsg(link, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("host faults: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:got])
	if err != nil || len(messages) != 1 {
		return -1, errNotJoined
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errNotJoined
	}
	return fds[0], nil
}

// join puts this process under the supervision of the one that started it. It returns
// when the supervisor answers.
func join() (*gate, error) {
	g, err := openGate(gateFD)
	if err != nil {
		return nil, err
	}
	listener, err := install()
	if err != nil {
		return nil, err
	}
	// The message must not wait for an answer: send makes a call that the filter passes.
	if err := send(linkFD, listener); err != nil {
		return nil, err
	}
	unix.Close(listener)
	unix.Close(linkFD)
	unix.Close(gateFD)
	return g, nil
}

// send passes a descriptor over a socket.
func send(link, fd int) error {
	rights := unix.UnixRights(fd)
	one := []byte{1}
	part := unix.Iovec{Base: &one[0], Len: 1}
	message := struct {
		header unix.Msghdr
		sent   uint32
		_      uint32
	}{header: unix.Msghdr{Iov: &part, Iovlen: 1, Control: &rights[0], Controllen: uint64(len(rights))}}
	_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(link), uintptr(unsafe.Pointer(&message)), 1, 0, 0, 0)
	runtime.KeepAlive(&part)
	runtime.KeepAlive(rights)
	if errno != 0 {
		return fmt.Errorf("host faults: send the listener: %w", errno)
	}
	return nil
}
