package sys

import (
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// interruptSignal makes a blocked system call return EINTR. The Go runtime handles it
// and ignores it.
const interruptSignal = unix.SIGIO

// interruptStep is the time between two signals: one that comes before the call sleeps
// is lost.
const interruptStep = 10 * time.Millisecond

// PrepareInterrupts must be called before the first Interruptible is used. It may be
// called again.
func PrepareInterrupts() error {
	// The runtime asks the kernel to restart calls that a signal interrupts. For this
	// signal it must not.
	var act struct{ handler, flags, restorer, mask uintptr }
	const setSize, saRestart = 8, 0x10000000
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruptSignal), 0,
		uintptr(unsafe.Pointer(&act)), setSize, 0, 0)
	if errno == 0 {
		act.flags &^= saRestart
		_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruptSignal),
			uintptr(unsafe.Pointer(&act)), 0, setSize, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// Interruptible makes the system calls of one operation, which may block. When the
// operation's context ends, the call under way is interrupted, and no further call
// is begun. Its methods must be called from one goroutine at a time.
type Interruptible struct {
	ctx   context.Context
	stop  func() bool
	done  chan struct{} // closed by Close
	ended chan struct{} // closed when the goroutine that signals has ended

	mu     sync.Mutex
	thread int // which is in a call; 0 for none
}

// NewInterruptible returns an Interruptible, which must be closed.
func NewInterruptible(ctx context.Context) *Interruptible {
	i := &Interruptible{ctx: ctx, done: make(chan struct{}), ended: make(chan struct{})}
	i.stop = context.AfterFunc(ctx, i.interrupt)
	return i
}

// Close must be called after the last call.
func (i *Interruptible) Close() {
	if !i.stop() {
		close(i.done)
		<-i.ended
	}
}

// interrupt signals the thread that is in a call, until Close.
func (i *Interruptible) interrupt() {
	defer close(i.ended)
	tick := time.NewTicker(interruptStep)
	defer tick.Stop()
	pid := unix.Getpid()
	for {
		i.mu.Lock()
		if i.thread != 0 {
			_ = unix.Tgkill(pid, i.thread, interruptSignal)
		}
		i.mu.Unlock()
		select {
		case <-i.done:
			return
		case <-tick.C:
		}
	}
}

func (i *Interruptible) enter(thread int) {
	i.mu.Lock()
	i.thread = thread
	i.mu.Unlock()
}

// Do makes a system call. It repeats one that another signal has interrupted, such as
// the runtime's own. Once the context has ended it returns context.Canceled, unless the
// call has succeeded.
func (i *Interruptible) Do(call func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, _, _ := unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0)
	i.enter(int(thread))
	defer i.enter(0)
	for {
		if i.ctx.Err() != nil {
			return context.Canceled
		}
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Open opens a file, closed on exec.
func (i *Interruptible) Open(path string, flags int, perm uint32) (fd int, err error) {
	err = i.Do(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, perm)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Read reads once.
func (i *Interruptible) Read(fd int, p []byte) (n int, err error) {
	err = i.Do(func() error {
		n, err = unix.Read(fd, p)
		return err
	})
	return max(n, 0), err
}

// Write writes once.
func (i *Interruptible) Write(fd int, p []byte) (n int, err error) {
	err = i.Do(func() error {
		n, err = unix.Write(fd, p)
		return err
	})
	return max(n, 0), err
}
