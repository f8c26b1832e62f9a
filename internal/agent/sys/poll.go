package sys

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Past and Never are deadlines: one wakes a reader or writer at once, the other
// lets it wait.
var (
	Past  = time.Unix(1, 0)
	Never time.Time
)

// Pollable adds a descriptor to the runtime's poller. The File owns it; after a
// failure it is closed.
func Pollable(fd int, name string) (*os.File, syscall.RawConn, error) {
	if _, err := Call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		CloseNow(fd)
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
	}
	return f, raw, err
}

// AwaitExit waits for the end of a pidfd's process without holding a thread, and
// closes the pidfd.
func AwaitExit(pidfd int) {
	f, raw, err := Pollable(pidfd, "pidfd")
	if err != nil {
		return // the reaping waits then, on a thread
	}
	defer f.Close()
	_ = raw.Read(func(fd uintptr) bool {
		n, err := PollNow([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}})
		return n > 0 || err != nil
	})
}

// Waiter is an epoll instance in the runtime's poller: one goroutine waits for
// several descriptors without holding a thread.
type Waiter struct {
	fd   int
	file *os.File // owns fd
	raw  syscall.RawConn
}

// Watch adds a descriptor. Its events carry the mark.
func (w *Waiter) Watch(fd int, mark int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: mark}
	return epollControl(w.fd, unix.EPOLL_CTL_ADD, fd, &e)
}

// Unwatch removes a descriptor that is open.
func (w *Waiter) Unwatch(fd int) error { return epollControl(w.fd, unix.EPOLL_CTL_DEL, fd, nil) }

// Await returns how many events have come, at least one unless it fails.
func (w *Waiter) Await(events []unix.EpollEvent) (n int, err error) {
	var failed error
	err = w.raw.Read(func(fd uintptr) bool {
		n, failed = epollNow(int(fd), events)
		return n > 0 || failed != nil
	})
	return n, errors.Join(err, failed)
}

// Close closes a Waiter that must not be used again, for instance since a
// descriptor could not be removed.
func (w *Waiter) Close() error { return w.file.Close() }

// Waiters keeps a few Waiters that are not in use: creating and closing one
// costs more than all the rest of the waiting. It is safe for concurrent use.
type Waiters struct{ idle chan *Waiter }

// NewWaiters returns an empty pool.
func NewWaiters() *Waiters { return &Waiters{idle: make(chan *Waiter, 4)} }

// Get returns a Waiter that watches nothing.
func (p *Waiters) Get() (*Waiter, error) {
	select {
	case w := <-p.idle:
		return w, nil
	default:
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &Waiter{fd: fd}
	w.file, w.raw, err = Pollable(fd, "epoll")
	return w, err
}

// Put takes back a Waiter that watches nothing.
func (p *Waiters) Put(w *Waiter) {
	select {
	case p.idle <- w:
	default:
		w.file.Close()
	}
}

// Close closes the idle Waiters.
func (p *Waiters) Close() {
	for {
		select {
		case w := <-p.idle:
			w.file.Close()
		default:
			return
		}
	}
}
