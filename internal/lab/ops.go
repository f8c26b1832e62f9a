package lab

import (
	"context"
	"errors"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/stream"
	"provium/internal/topology"
)

// BeginOp implements handle.VM: it begins an operation on the agent. It waits for the
// end of a snapshot and while the guest reboots. It fails at once when the VM is not
// booted or its guest ends, with the reason.
func (v *VM) BeginOp(ctx context.Context, op string) (*guest.Client, *handle.Epoch, error) {
	inst, err := v.serving(op)
	if err != nil {
		return nil, nil, err
	}
	if inst.IsSuspended() {
		return nil, nil, &topology.SuspendedError{VM: v.name, Op: op}
	}
	if err := v.whenThawed(ctx, func() { v.inFlight[op]++ }); err != nil {
		return nil, nil, err
	}
	link, epoch, err := inst.Session(ctx)
	if err != nil {
		v.EndOp(op)
		return nil, nil, err
	}
	return link, epoch, nil
}

// BeginVisit begins operations of somebody beside the test, which make the VM no busier: the
// context that it returns ends when a snapshot is to be taken. end must be called soon then.
func (v *VM) BeginVisit(ctx context.Context, op string) (_ context.Context, link *guest.Client, end func(),
	err error) {
	inst, err := v.serving(op)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx = guest.WithCall(ctx, guest.Call{Text: op, Limit: -1, Beside: true})
	if err := v.whenThawed(ctx, func() { ctx, end = v.visits.Begin(ctx) }); err != nil {
		return nil, nil, nil, err
	}
	if link, _, err = inst.Session(ctx); err != nil {
		end()
		return nil, nil, nil, err
	}
	return ctx, link, end, nil
}

// errVisitOver ends visits.
var errVisitOver = errors.New("the test needs the guest for itself, for a snapshot")

// whenThawed calls enter after waiting for the end of a snapshot, with v.mu held.
func (v *VM) whenThawed(ctx context.Context, enter func()) error {
	for {
		v.mu.Lock()
		frozen := v.frozen
		if frozen == nil {
			enter()
			v.mu.Unlock()
			return nil
		}
		v.mu.Unlock()
		select {
		case <-frozen:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// EndOp implements handle.VM: it ends an operation that BeginOp began.
func (v *VM) EndOp(op string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.inFlight[op]--; v.inFlight[op] <= 0 {
		delete(v.inFlight, op)
	}
}

// Epoch implements handle.VM: it returns the epoch of the running guest.
func (v *VM) Epoch(op string) (*handle.Epoch, error) {
	inst, err := v.serving(op)
	if err != nil {
		return nil, err
	}
	return inst.Epoch(), nil
}

// Opened implements handle.VM: it returns the list of what is open in the guests.
func (v *VM) Opened() *handle.Opened { return &v.opened }

// lastEpoch returns the epoch of the present guest in whatever state it is, nil when
// there is none.
func (v *VM) lastEpoch() *handle.Epoch {
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if inst == nil {
		return nil
	}
	return inst.Epoch()
}

// IsQuiescent reports whether no operation is in flight, nothing is open, and every
// asynchronous system call was awaited.
func (v *VM) IsQuiescent() bool {
	v.mu.Lock()
	busy := len(v.inFlight) > 0
	v.mu.Unlock()
	return !busy && v.OpenStreamCount() == 0 && v.OpenFileCount() == 0 && !v.opened.HasCalls(v.lastEpoch())
}

// OpenFileCount returns the number of Files open in the present guest. Operations on
// whole files leave none open.
func (v *VM) OpenFileCount() int { return v.opened.Files(v.lastEpoch()) }

// OpenStreamCount returns the number of open streams that concern the VM.
func (v *VM) OpenStreamCount() int { return len(v.Streams()) }

// Streams returns the open streams that concern the VM, in order of opening, then the
// captures on its bridges. Streams of an agent that is gone are left out.
func (v *VM) Streams() []*stream.Stream {
	return append(v.opened.Streams(v.lastEpoch()), v.host.network().Captures(v)...)
}

// guestOp runs one operation on the agent.
func (v *VM) guestOp(ctx context.Context, op string, do func(*guest.Client) error) error {
	link, _, err := v.BeginOp(ctx, op)
	if err != nil {
		return handle.Named(v, op, "", err)
	}
	defer v.EndOp(op)
	return handle.Named(v, op, "", do(link))
}

// guestValue is guestOp for operations with a value.
func guestValue[T any](ctx context.Context, v *VM, op string, do func(*guest.Client) (T, error)) (T, error) {
	var value T
	err := v.guestOp(ctx, op, func(c *guest.Client) (err error) {
		value, err = do(c)
		return err
	})
	return value, err
}

// Ping makes one round trip to the agent: the guest's sign of life.
func (v *VM) Ping(ctx context.Context) error {
	return v.guestOp(ctx, "ping", func(c *guest.Client) error { return c.Ping(ctx) })
}

// Batch carries out operations one after the other in one round trip.
func (v *VM) Batch(ctx context.Context, ops []guest.Op) ([]guest.Result, error) {
	all, err := guestValue(ctx, v, "batch", func(c *guest.Client) ([]guest.Result, error) { return c.Batch(ctx, ops) })
	for i := range all {
		all[i].Err = handle.Named(v, "batch", "", all[i].Err)
	}
	return all, err
}

// SpawnWorker starts a worker in the guest.
func (v *VM) SpawnWorker(ctx context.Context) (*handle.Worker, error) {
	return handle.SpawnWorker(ctx, v)
}
