package instance

import (
	"context"
	"errors"
	"time"

	"provium/internal/guest"
	"provium/internal/qmp"
)

// Disks are the disks of a guest. QEMU flushes them when the vCPUs stop, which must not make permanent what the
// guest has not flushed.
type Disks interface {
	BeforeFlush(func()) // what is called before each flush
	HoldFlushes()       // before the stop
	IgnoreFlushes()     // after it
	ObeyFlushes() error // before the vCPUs go on
}

// noDisks are those of a guest without disks.
type noDisks struct{}

func (noDisks) BeforeFlush(func()) {}
func (noDisks) HoldFlushes()       {}
func (noDisks) IgnoreFlushes()     {}
func (noDisks) ObeyFlushes() error { return nil }

func (i *Instance) disks() Disks {
	if i.cfg.Disks == nil {
		return noDisks{}
	}
	return i.cfg.Disks
}

// StopVCPUs stops the vCPUs. It fails with the reason, which wraps a *GoneError, when the guest ends meanwhile.
func (i *Instance) StopVCPUs(ctx context.Context) error {
	i.setStopped(true)
	i.awaitEnd(ctx)
	i.disks().HoldFlushes()
	if err := i.stop(ctx); err != nil {
		i.setStopped(false)
		return i.whyGone(ctx, errors.Join(err, i.disks().ObeyFlushes()))
	}
	i.disks().IgnoreFlushes()
	return nil
}

// StartVCPUs starts the vCPUs again. It fails as StopVCPUs does.
func (i *Instance) StartVCPUs(ctx context.Context) error {
	i.awaitEnd(ctx)
	if err := i.disks().ObeyFlushes(); err != nil {
		return i.whyGone(ctx, err)
	}
	i.setStopped(false)
	return i.whyGone(ctx, i.machine.Cont(ctx))
}

// stop stops the vCPUs, after setStopped. A guest that has just ended a boot is at the beginning of the next one then.
func (i *Instance) stop(ctx context.Context) error {
	if err := i.machine.Stop(ctx); err != nil {
		return err
	}
	_, err := i.machine.Status(ctx) // what QEMU has said before was read then
	i.awaitEnd(ctx)
	return err
}

func (i *Instance) setStopped(is bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = is
}

// goneReason is a GoneError without the name of the VM.
type goneReason struct{ *GoneError }

func (e goneReason) Error() string { return e.Reason }
func (e goneReason) Unwrap() error { return e.GoneError }

// goneLimit is how long QEMU may take to end once its monitor has closed.
const goneLimit = 200 * time.Millisecond

// whyGone returns the reason of the guest's end in place of an error that says that QEMU's monitor has closed. If only
// the connection was lost, it returns the error.
func (i *Instance) whyGone(ctx context.Context, err error) error {
	if !errors.Is(err, qmp.ErrClosed) {
		return err
	}
	limited, cancel := i.Limited(ctx, goneLimit, "the end of QEMU")
	defer cancel()
	select {
	case <-i.machine.Done():
	case <-limited.Done():
		return err
	}
	<-i.ctx.Done() // is near
	var gone *GoneError
	if errors.As(context.Cause(i.ctx), &gone) {
		return goneReason{gone}
	}
	return err
}

// vcpuLimit is how long QEMU may take to stop or start the vCPUs.
const vcpuLimit = 30 * time.Second

// Halt stops a running guest while nothing is in flight on its link, so that the restored agent finds the next
// session at once. Continue must be called in any case.
func (i *Instance) Halt(ctx context.Context) error {
	if err := i.Settle(ctx); err != nil {
		return err
	}
	return i.HaltWithOthers(ctx)
}

// Settle must be called before HaltWithOthers, for one guest after the other. It empties the link of a deterministic
// guest: such guests go on together, and do the same each time only if one is asked at a time.
func (i *Instance) Settle(ctx context.Context) error {
	link, err := i.Client(ctx)
	if err != nil || !link.IsPaced() {
		return err
	}
	return i.emptyLink(ctx, link)
}

// HaltWithOthers is Halt where several guests are halted at once.
func (i *Instance) HaltWithOthers(ctx context.Context) error {
	link, err := i.Client(ctx)
	if err != nil {
		return err
	}
	if !link.IsPaced() {
		if err := i.emptyLink(ctx, link); err != nil {
			return err
		}
	}
	// A caller that gave up now would not know whether the guest runs.
	sure, cancel := i.Limited(context.WithoutCancel(ctx), vcpuLimit, "QEMU")
	defer cancel()
	if err := i.StopVCPUs(sure); err != nil {
		return errors.Join(err, i.Continue(ctx))
	}
	return nil
}

// emptyLink returns when nothing is on its way between host and guest.
func (i *Instance) emptyLink(ctx context.Context, link *guest.Client) error {
	limited, cancel := i.Limited(ctx, vcpuLimit, "the end of an operation that was given up")
	defer cancel()
	for {
		if err := link.AwaitIdle(limited); err != nil {
			return err
		}
		// A round trip proves that the link is empty.
		if err := link.Ping(ctx); err != nil {
			return err
		}
		if link.IsIdle() { // the guest was not asked whether it lives meanwhile
			return nil
		}
	}
}

// Continue undoes Halt, also when ctx is done.
func (i *Instance) Continue(ctx context.Context) error {
	again, cancel := i.Limited(context.WithoutCancel(ctx), vcpuLimit, "QEMU")
	defer cancel()
	return i.StartVCPUs(again)
}

// WakeUp ends suspend-to-RAM.
func (i *Instance) WakeUp(ctx context.Context) error {
	status, err := i.machine.Status(ctx)
	if err != nil {
		return err
	}
	if status != "suspended" {
		return errors.New("the guest is not suspended")
	}
	if !i.machine.CanWake() {
		return errors.New("the guest cannot be woken: QEMU puts a kernel that is an ELF vmlinux, or was unpacked to " +
			"one, back as it was at boot; boot a bzImage as it is (profile key `boot_compressed = true`)")
	}
	asleep, err := i.machine.Asleep(ctx)
	if err != nil {
		return err
	}
	if err := i.machine.Wakeup(ctx); err != nil {
		return err
	}
	// Giving up now would leave the guest stopped.
	sure, cancel := i.Limited(context.WithoutCancel(ctx), vcpuLimit, "QEMU")
	defer cancel()
	err = i.StopVCPUs(sure)
	if err == nil {
		err = i.machine.Awake(sure, asleep)
	}
	if err := errors.Join(err, i.StartVCPUs(sure)); err != nil {
		return err
	}
	i.SetAwake()
	return nil
}
