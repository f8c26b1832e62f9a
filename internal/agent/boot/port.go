package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// PortName is the name of the virtio-serial port that is the agent link.
const PortName = "org.provium.agent"

// pacePort is the name of the port by which the host of a deterministic guest chooses when its ticker meets it.
const pacePort = "org.provium.pace"

// Port is the open agent link. One goroutine may read while others, one at a
// time, write. The descriptor does not block and waits in the runtime's
// poller: a thread that blocked in a read instead would keep a scheduler slot,
// and the runtime's monitor awake looking at it, which on one virtual CPU takes
// the time from the very commands the agent runs. Nobody ever blocks in a
// write either, so no poll can take the wake-up it waits for.
type Port struct {
	file *os.File
	raw  syscall.RawConn
	soon bool // the next read may look a few times before it waits
	sync bool // the guest is deterministic, and meets its host at sync points

	moved atomic.Uint32 // how often something was read or written
}

const (
	// syncChunk is what a deterministic guest's agent writes between two sync points, so that it
	// fits into the host's socket.
	syncChunk = 32 << 10
	// How much of the guest's time passes from one sync point to the next: the shortest while its
	// host has something to do with it, the longest after some time without.
	syncSoon, syncLate = 100 * time.Millisecond, time.Second
)

// patience is how long a read looks for bytes that are expected soon.
const patience = 200 * time.Microsecond

// pageSize is the most that one read of a port returns.
const pageSize = 4096

// ExpectSoon tells the next Read that more is likely to come at once: it then
// looks for it for a short time before it waits. Between two small requests in
// a row, going to sleep and waking up takes longer than all the rest. It is
// for the reader, when nothing else is to be done.
func (p *Port) ExpectSoon() { p.soon = true }

// OpenPort finds the port, waiting for the kernel to announce it if it is not there yet, and opens it. It gives up
// when no device has come for limit seconds; 0 waits for ever. say gets what is waited for.
func (s *System) OpenPort(limit int, say func(error)) (p *Port, err error) {
	sync := s.hasWord(syncOption)
	w := wait{what: "the port " + PortName, limit: limit, there: s.virtioPorts, say: say}
	err = w.until(func() (bool, error) {
		name, err := s.findPort(PortName)
		if name == "" || err != nil {
			return false, err
		}
		fd, err := unix.Openat(s.dev, name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, portError(name, err)
		}
		p = &Port{file: os.NewFile(uintptr(fd), name), sync: sync}
		if p.raw, err = p.file.SyscallConn(); err != nil {
			return false, fmt.Errorf("open port %s: %w", name, err)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if sync {
		go p.tick()
	}
	return p, nil
}

// tick passes a sync point from time to time.
func (p *Port) tick() {
	every := syncSoon
	for {
		before := p.moved.Load()
		time.Sleep(every)
		sys.SyncTick()
		if every = min(2*every, syncLate); p.moved.Load() != before {
			every = syncSoon
		}
	}
}

// ErrServed is returned when another process has the port.
var ErrServed = errors.New("another agent serves this guest")

// portError returns the error of opening a port, with the way out.
func portError(name string, err error) error {
	switch err {
	case unix.EBUSY:
		return fmt.Errorf("open port %s: %w (%w)", name, ErrServed, err)
	case unix.EACCES:
		return fmt.Errorf("open port %s: %w: let the agent's user (uid %d) read and write /dev/%s, or start it as root",
			name, err, os.Getuid(), name)
	}
	return fmt.Errorf("open port %s: %w", name, err)
}

// OpenPacePort opens the port of the ticker.
func (s *System) OpenPacePort() (fd int, err error) {
	name, err := s.findPort(pacePort)
	if err == nil && name == "" {
		err = unix.ENODEV
	}
	if err == nil {
		fd, err = unix.Openat(s.dev, name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("port %s: %w", pacePort, err)
	}
	return fd, nil
}

// findPort looks for a port by its name; "" when it is not there.
func (s *System) findPort(wanted string) (string, error) {
	const class = "class/virtio-ports"
	fd, err := unix.Openat(s.sys, class, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return "", nil // the driver is not loaded yet
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", class, err)
	}
	d := os.NewFile(uintptr(fd), class)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", class, err)
	}
	for _, n := range names {
		if firstLine(fd, n+"/name") == wanted {
			return n, nil
		}
	}
	return "", nil
}

// Read reads what is there, waiting for something. It returns io.EOF while no
// host is connected; AwaitHost then waits for one.
func (p *Port) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var n uintptr
	var errno syscall.Errno
	soon := p.soon
	p.soon = false
	done := 0
	err := p.raw.Read(func(fd uintptr) bool {
		n, errno = transfer(unix.SYS_READ, fd, b)
		// The driver returns a page at a time. After a full one there is
		// likely to be another.
		for errno == 0 && n == pageSize && len(b) > pageSize {
			done += int(n)
			b = b[n:]
			n, errno = transfer(unix.SYS_READ, fd, b)
		}
		if done > 0 {
			if errno == 0 {
				done += int(n)
			}
			return true // what is wrong now will be so for the next read
		}
		if errno == unix.EAGAIN && soon {
			soon = false
			for begun := time.Now(); errno == unix.EAGAIN && time.Since(begun) < patience; {
				n, errno = transfer(unix.SYS_READ, fd, b)
			}
		}
		if errno == unix.EAGAIN && p.sync {
			sys.SyncEmpty()
			n, errno = transfer(unix.SYS_READ, fd, b)
		}
		return errno != unix.EAGAIN
	})
	p.moved.Add(1)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read port: %w", err)
	case done > 0:
		return done, nil
	case errno != 0:
		return 0, fmt.Errorf("read port: %w", errno)
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}

// Write writes all of b, waiting for the host as long as it takes.
func (p *Port) Write(b []byte) (int, error) {
	p.moved.Add(1)
	done := 0
	var errno syscall.Errno
	err := p.raw.Write(func(fd uintptr) bool {
		for done < len(b) {
			piece := b[done:]
			if p.sync {
				piece = piece[:min(len(piece), syncChunk)]
			}
			var n uintptr
			if n, errno = transfer(unix.SYS_WRITE, fd, piece); errno != 0 {
				return errno != unix.EAGAIN
			}
			done += int(n)
			if p.sync {
				sys.SyncSent()
			}
		}
		return true
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return done, fmt.Errorf("write port: %w", err)
	}
	return done, nil
}

// transfer reads or writes without telling the scheduler, which is right for
// a descriptor that does not block.
func transfer(call, fd uintptr, b []byte) (uintptr, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return n, errno
		}
	}
}

// AwaitHost returns once a host is connected or bytes of one are there. It is
// for the reader, after io.EOF.
func (p *Port) AwaitHost() error {
	var failed error
	err := p.raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		failed = sys.Retry(func() error {
			_, err := unix.Poll(fds, 0)
			return err
		})
		return failed != nil || fds[0].Revents&unix.POLLIN != 0 || fds[0].Revents&unix.POLLHUP == 0
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("await host: %w", err)
	}
	return nil
}

// Close closes the port.
func (p *Port) Close() error { return p.file.Close() }
