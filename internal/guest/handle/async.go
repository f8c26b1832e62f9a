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
	lens []int // of its buffers

	mu   sync.Mutex
	done bool // awaited, or closed
}

var errAwaited = errors.New("handle already awaited")

// SyscallAsync starts a system call beside others and returns at once.
func (a *Actor) SyscallAsync(ctx context.Context, s guest.Syscall) (*AsyncSyscall, error) {
	call := &AsyncSyscall{lens: s.Lens()}
	var err error
	call.object, err = a.create(ctx, "syscall_async", "system call", func(c *guest.Client) (uint64, error) {
		s.Executor = a.executor()
		return c.SyscallAsync(ctx, &s)
	})
	if err != nil {
		return nil, err
	}
	call.vm.Opened().addCall(call)
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
	timedOut := errors.As(err, &failed) && failed.Name == "ETIMEDOUT"
	if err != nil && (ctx.Err() != nil || errors.As(err, &none) || timedOut) {
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
