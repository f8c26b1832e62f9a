package handle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/guest"
)

// VM is what this package sees of a virtual machine.
type VM interface {
	// Name returns the name given at declaration.
	Name() string

	// BeginOp begins an operation on the running guest. It returns the link to the
	// agent and the epoch of what that agent holds. It waits while the guest
	// reboots, and fails with the reason when the guest is not running or ends.
	// After success, EndOp must be called with the same name.
	BeginOp(ctx context.Context, op string) (*guest.Client, *Epoch, error)

	// EndOp ends an operation.
	EndOp(op string)

	// Epoch returns the epoch of the running guest without waiting for its agent.
	// It fails like BeginOp, naming op, when no guest is running.
	Epoch(op string) (*Epoch, error)

	// Opened returns the list of what is open in the guests of the VM.
	Opened() *Opened
}

// object is something that the agent holds, and which a test uses by its handle.
type object struct {
	vm     VM
	epoch  *Epoch
	what   string // "process", "worker", "system call"
	handle uint64
}

// VM returns the machine that the object is in.
func (o *object) VM() VM { return o.vm }

// Handle returns the agent's number for the object.
func (o *object) Handle() uint64 { return o.handle }

// NoAgentError is an operation with a time limit that no agent was there to carry out in
// that time. Nothing was done.
type NoAgentError struct {
	VM    string
	Op    string
	Limit time.Duration
}

func (e *NoAgentError) Error() string {
	return fmt.Sprintf("%s timed out after %v: vm `%s` boots or reboots, and no agent has answered yet", e.Op, e.Limit,
		e.VM)
}

var errNoAgent = errors.New("no agent in time")

// begin is BeginOp for an operation with a time limit, 0 for none. The wait for an agent
// counts: left is what it leaves of the limit.
func begin(ctx context.Context, vm VM, op string, limit time.Duration) (
	c *guest.Client, epoch *Epoch, left time.Duration, err error) {
	if limit <= 0 {
		c, epoch, err = vm.BeginOp(ctx, op)
		return c, epoch, 0, err
	}
	begun := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, limit, errNoAgent)
	defer cancel()
	if c, epoch, err = vm.BeginOp(limited, op); errors.Is(err, errNoAgent) {
		err = &NoAgentError{VM: vm.Name(), Op: op, Limit: limit}
	}
	// No time left is a limit, too.
	return c, epoch, max(limit-time.Since(begun), 1), err
}

// do carries out an operation on the object. It fails when the guest that had the
// object is gone.
func (o *object) do(ctx context.Context, op string, do func(*guest.Client, *Epoch) error) error {
	return o.doWithin(ctx, op, 0, func(c *guest.Client, epoch *Epoch, _ time.Duration) error { return do(c, epoch) })
}

// doWithin is do for an operation with a time limit, 0 for none. do gets what is left of
// it.
func (o *object) doWithin(ctx context.Context, op string, limit time.Duration,
	do func(*guest.Client, *Epoch, time.Duration) error) error {
	c, epoch, left, err := begin(ctx, o.vm, op, limit)
	if err != nil {
		return err
	}
	defer o.vm.EndOp(op)
	if err := o.checkIn(epoch, op); err != nil {
		return err
	}
	return Named(o.vm, op, "", atLimit(rename(do(c, epoch, left), op), limit))
}

// check returns an error when the guest that had the object is gone.
func (o *object) check(op string) error {
	epoch, err := o.vm.Epoch(op)
	if err != nil {
		return err
	}
	return o.checkIn(epoch, op)
}

func (o *object) checkIn(epoch *Epoch, op string) error {
	if epoch.has(o.epoch, o.handle) {
		return nil
	}
	return goneError(op, o.what, o.vm)
}

func goneError(op, what string, vm VM) error {
	return fmt.Errorf("%s: the %s is gone: vm `%s` was reset, booted or restored since, or its agent replaced", op,
		what, vm.Name())
}

// rename replaces the operation in an error of the guest by the name that its caller
// knows.
func rename(err error, op string) error {
	var failed *guest.OpError
	if errors.As(err, &failed) {
		failed.Op = op
	}
	return err
}
