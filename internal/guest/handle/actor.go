package handle

import (
	"context"
	"time"

	"provium/internal/guest"
)

// Caller is who makes operations in a guest: a VM or one of its workers.
type Caller interface {
	VM() VM
	AsActor() *Actor
}

// Actor does the work of a test in a guest: it runs commands, uses files and makes
// system calls. A VM's actor is the agent, with an executor of its own for system
// calls; a worker is an actor with its own credentials, namespaces and descriptors. An
// Actor is safe for concurrent use.
type Actor struct {
	vm     VM
	worker *Worker // nil: the agent
}

// NewActor returns the actor of a VM.
func NewActor(vm VM) Actor { return Actor{vm: vm} }

// VM returns the machine that the actor is in.
func (a *Actor) VM() VM { return a.vm }

// AsActor returns a. Types that embed an Actor can be used as one through it.
func (a *Actor) AsActor() *Actor { return a }

// executor returns the handle of the executor that makes the system calls, 0 for the
// VM's.
func (a *Actor) executor() uint64 {
	if a.worker == nil {
		return 0
	}
	return a.worker.handle
}

func (a *Actor) isClosed() bool { return a.worker != nil && a.worker.isClosed() }

// do carries out an operation of the actor.
func (a *Actor) do(ctx context.Context, op string, do func(*guest.Client, *Epoch) error) error {
	return a.doWithin(ctx, op, 0, do)
}

// doWithin is do for an operation with a time limit, 0 for none, which the wait for an
// agent must not exceed.
func (a *Actor) doWithin(ctx context.Context, op string, limit time.Duration,
	do func(*guest.Client, *Epoch) error) error {
	if a.worker != nil {
		if a.worker.isClosed() {
			return errWorkerClosed
		}
		return a.worker.object.doWithin(ctx, op, limit, func(c *guest.Client, epoch *Epoch, _ time.Duration) error {
			return do(c, epoch)
		})
	}
	c, epoch, _, err := begin(ctx, a.vm, op, limit)
	if err != nil {
		return Named(a.vm, op, "", err)
	}
	defer a.vm.EndOp(op)
	return Named(a.vm, op, "", do(c, epoch))
}

// create carries out an operation that creates an object, and returns the object. The
// error of a refusal names op.
func (a *Actor) create(ctx context.Context, op, what string,
	do func(*guest.Client) (handle uint64, err error)) (object, error) {
	return a.createWithin(ctx, op, what, 0, do)
}

// createWithin is create for an operation with a time limit, as doWithin has it.
func (a *Actor) createWithin(ctx context.Context, op, what string, limit time.Duration,
	do func(*guest.Client) (handle uint64, err error)) (object, error) {
	o := object{vm: a.vm, what: what}
	err := a.doWithin(ctx, op, limit, func(c *guest.Client, epoch *Epoch) (err error) {
		o.epoch = epoch
		if o.handle, err = do(c); err == nil {
			epoch.created(o.handle)
		}
		return rename(err, op)
	})
	return o, err
}

// Run runs a command to its end. Exit codes, signals and timeouts are no errors.
func (a *Actor) Run(ctx context.Context, r guest.RunRequest) (*guest.RunResult, error) {
	if a.worker != nil {
		return a.worker.run(ctx, r)
	}
	c, _, left, err := begin(ctx, a.vm, "run", r.Timeout)
	if err != nil {
		return nil, err
	}
	defer a.vm.EndOp("run")
	limit := r.Timeout
	r.Timeout = left
	result, err := c.Run(ctx, r)
	return result, Named(a.vm, "run", "", atLimit(err, limit))
}

// KernelLog returns the kernel's log, for a guest.LogFilter.
func (a *Actor) KernelLog(ctx context.Context) (log []byte, err error) {
	err = a.do(ctx, "dmesg", func(c *guest.Client, _ *Epoch) (err error) {
		log, err = c.KernelLog(ctx)
		return rename(err, "dmesg")
	})
	return log, err
}

// RunAsync starts a command and returns at once.
func (a *Actor) RunAsync(ctx context.Context, r guest.RunRequest) (*Process, error) {
	if a.worker != nil {
		return a.worker.start(ctx, "run_async", r, &a.worker.procs)
	}
	return a.start(ctx, "run_async", r)
}
