package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"provium/internal/guest"
)

// The types of system calls, for callers that see only this package.
type (
	Syscall       = guest.Syscall
	SyscallResult = guest.SyscallResult
	Nested        = guest.Nested
	SyscallOp     = guest.SyscallOp
)

// caller makes system calls: the VM, or one of its workers.
type caller interface {
	VM() *VM
	// call runs an operation with the executor's handle.
	call(ctx context.Context, op string, do func(c *guest.Client, executor uint64) error) error
}

// VM is v: it makes calls itself.
func (v *VM) VM() *VM { return v }

func (v *VM) call(ctx context.Context, op string, do func(*guest.Client, uint64) error) error {
	return v.guestOp(ctx, op, func(c *guest.Client) error { return do(c, 0) })
}

// Caller is who makes system calls: a *VM or a *Worker.
type Caller = caller

// MakeSyscall makes a system call and returns what it returned. A call that
// fails is no error.
func MakeSyscall(ctx context.Context, by Caller, op string, s Syscall) (r *SyscallResult, err error) {
	err = by.call(ctx, op, func(c *guest.Client, executor uint64) (err error) {
		s.Executor = executor
		inst, err := by.VM().running(op, Booted)
		if err != nil {
			return err
		}
		gen := inst.generation()
		r, err = c.Syscall(ctx, &s)
		gen.noteLife(&s, r, err)
		return err
	})
	return r, err
}

// ReadMem returns bytes of the caller's own memory, or an errno.
func ReadMem(ctx context.Context, by Caller, address uint64, n int) (data []byte, errno int, err error) {
	err = by.call(ctx, "read_mem", func(c *guest.Client, executor uint64) (err error) {
		data, errno, err = c.ReadMem(ctx, executor, address, n)
		return err
	})
	return data, errno, err
}

// FDStream opens a stream of what a descriptor of the caller gives. kind is
// "fd_stream" or "file_tail_stream".
func FDStream(ctx context.Context, by Caller, kind string, fd int64, site Site) (*Stream, error) {
	return openStream(ctx, by, kind, fmt.Sprint(fd), site, func(c *guest.Client, executor uint64) (*guest.Stream, error) {
		return c.FDTail(ctx, executor, fd)
	})
}

// AsyncSyscall is a system call that has not returned, or whose result nobody
// has asked for. It is safe for concurrent use.
type AsyncSyscall struct {
	held
	lens []int

	mu      sync.Mutex
	awaited bool // or closed
}

// StartSyscall has a call made beside others and returns at once.
func StartSyscall(ctx context.Context, by Caller, s Syscall) (*AsyncSyscall, error) {
	a := &AsyncSyscall{lens: s.Lens()}
	h, err := by.VM().make(ctx, "syscall_async", "system call", func(c *guest.Client) (handle uint64, err error) {
		err = by.call(ctx, "syscall_async", func(_ *guest.Client, executor uint64) error {
			s.Executor = executor
			handle, err = c.SyscallAsync(ctx, &s)
			return err
		})
		return handle, err
	})
	if err != nil {
		return nil, err
	}
	a.held = h
	a.vm.mu.Lock()
	a.vm.calls[a] = true
	a.vm.mu.Unlock()
	return a, nil
}

// VM is the machine the call is made in.
func (a *AsyncSyscall) VM() *VM { return a.vm }

// Await waits for the call's return, at most for limit (0: for ever), and
// gives the result, once.
func (a *AsyncSyscall) Await(ctx context.Context, limit time.Duration) (r *SyscallResult, err error) {
	a.mu.Lock()
	if a.awaited {
		a.mu.Unlock()
		return nil, errors.New("handle already awaited")
	}
	a.awaited = true
	a.mu.Unlock()
	err = a.op(ctx, "await", func(c *guest.Client) (err error) {
		r, err = c.AwaitSyscall(ctx, a.handle, a.lens, limit)
		return err
	})
	var failed *OpError
	if err != nil && (ctx.Err() != nil || errors.As(err, &failed) && failed.Name == "ETIMEDOUT") {
		a.mu.Lock()
		a.awaited = false
		a.mu.Unlock()
		return nil, err
	}
	a.forget()
	return r, err
}

// String names it.
func (a *AsyncSyscall) String() string { return fmt.Sprintf("system call(%d)", a.handle) }

// Done tells whether the call was awaited or closed.
func (a *AsyncSyscall) Done() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.awaited
}

// Close interrupts the call and gives its result up, unless that was awaited.
func (a *AsyncSyscall) Close(ctx context.Context) error {
	a.mu.Lock()
	done := a.awaited
	a.awaited = true
	a.mu.Unlock()
	if done {
		return nil
	}
	defer a.forget()
	if a.check("close") != nil {
		return nil // it went with its guest
	}
	return a.op(ctx, "close", func(c *guest.Client) error { return c.DropSyscall(ctx, a.handle) })
}

// forget takes it off the calls under way.
func (a *AsyncSyscall) forget() {
	a.vm.mu.Lock()
	defer a.vm.mu.Unlock()
	delete(a.vm.calls, a)
}
