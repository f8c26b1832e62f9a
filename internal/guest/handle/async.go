package handle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"provium/internal/guest"
)

// AsyncSyscall is a system call that was started and not awaited yet. It is safe for
// concurrent use.
type AsyncSyscall struct {
	object
	by     *Actor
	number int64
	lens   []int // of its buffers

	mu   sync.Mutex
	done bool // awaited, or closed
}

var errAwaited = errors.New("handle already awaited")

// SyscallAsync starts a system call beside others and returns at once.
func (a *Actor) SyscallAsync(ctx context.Context, s guest.Syscall) (*AsyncSyscall, error) {
	const op = "syscall_async"
	call := &AsyncSyscall{object: object{vm: a.vm, what: "system call"}, by: a, number: s.Nr,
		lens: s.Lens()}
	err := a.do(ctx, op, func(c *guest.Client, epoch *Epoch) (err error) {
		s.Executor = a.executor()
		if call.handle, err = c.SyscallAsync(ctx, &s); err != nil {
			return rename(err, op)
		}
		call.epoch = epoch
		epoch.created(call.handle)
		// Before the operation ends: a snapshot sees one or the other.
		a.vm.Opened().addCall(call)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return call, nil
}

// Await waits for the return of the call, at most for limit (0: no limit), and returns
// the result. Only one Await returns a result; at the limit the call can be awaited
// again.
func (a *AsyncSyscall) Await(ctx context.Context, limit time.Duration) (r *guest.SyscallResult, err error) {
	a.mu.Lock()
	if a.done {
		a.mu.Unlock()
		return nil, errAwaited
	}
	a.done = true
	a.mu.Unlock()
	err = a.doWithin(ctx, "await", limit, func(c *guest.Client, _ *Epoch, left time.Duration) (err error) {
		r, err = c.AwaitSyscall(ctx, a.handle, a.lens, left)
		return err
	})
	var failed *guest.OpError
	var none *NoAgentError
	var silent *guest.SilentError
	timedOut := errors.As(err, &failed) && failed.Name == "ETIMEDOUT"
	if err != nil && (ctx.Err() != nil || errors.As(err, &none) || errors.As(err, &silent) || timedOut) {
		a.mu.Lock()
		a.done = false
		a.mu.Unlock()
		return nil, err
	}
	a.vm.Opened().removeCall(a)
	return r, err
}

// String returns "system call(N)".
func (a *AsyncSyscall) String() string { return fmt.Sprintf("system call(%d)", a.handle) }

// Number returns the number of the call that the kernel knows it by.
func (a *AsyncSyscall) Number() int64 { return a.number }

// Worker returns the worker that makes the call, nil for the VM.
func (a *AsyncSyscall) Worker() *Worker { return a.by.worker }

// Done reports whether the call was awaited or closed.
func (a *AsyncSyscall) Done() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// Close interrupts the call and drops its result, unless that was awaited. It does
// nothing in the guest when that is gone.
func (a *AsyncSyscall) Close(ctx context.Context) error {
	a.mu.Lock()
	done := a.done
	a.done = true
	a.mu.Unlock()
	if done {
		return nil
	}
	defer a.vm.Opened().removeCall(a)
	if a.check("close") != nil {
		return nil
	}
	return a.do(ctx, "close", func(c *guest.Client, _ *Epoch) error { return c.DropSyscall(ctx, a.handle) })
}
