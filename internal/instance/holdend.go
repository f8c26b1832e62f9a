package instance

import "context"

// This file keeps the memory of a guest that reboots after a panic, over which QEMU loads the next
// kernel: the machine stands still in place of the reset. A guest that has pvpanic's driver stands
// still before that.

// panicWords are what a kernel begins to say of a panic with.
const panicWords = "Kernel panic - not syncing"

// guestReset is the reason in QEMU's event of a guest that stands still in place of a reset.
const guestReset = "guest-reset"

// mayEnd is called when the console shows a kernel's words of a panic, which anybody can write
// there. It must not block.
func (i *Instance) mayEnd() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.holding || i.expected {
		return
	}
	i.holdEnd(true)
}

// holdEnd sets whether the machine stands still where the guest ends, in the background. The caller
// must hold i.mu.
func (i *Instance) holdEnd(hold bool) {
	if i.holding == hold || i.ctx.Err() != nil {
		return
	}
	i.holding, i.mayStand = hold, true
	i.work.Go(func() {
		<-i.ready
		i.holds.Lock() // of two, the latter one says what the present state is
		defer i.holds.Unlock()
		expected := i.cfg.Hooks.ExpectsPanic()
		i.mu.Lock()
		i.holding = i.holding && !expected
		hold := i.holding
		i.mu.Unlock()
		// A QEMU that refuses resets the guest; then its log is on the console only.
		_ = i.machine.HoldEnd(i.ctx, hold)
	})
}

// onEnd handles a guest that ends its machine. It must not block.
func (i *Instance) onEnd(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if reason != guestReset {
		i.setReasonLocked("guest powered off")
		if i.mayStand && i.ctx.Err() == nil {
			i.work.Go(i.kill)
		}
		return
	}
	if i.ctx.Err() != nil {
		return
	}
	i.work.Go(func() {
		i.machine.SyncConsole()
		i.lastWords()
		i.mu.Lock()
		over := i.reason != ""
		i.owesReset = !over
		i.mu.Unlock()
		if over {
			return // it is being looked at, and is ended then
		}
		if err := i.machine.Reset(i.ctx); err != nil && i.ctx.Err() == nil {
			i.fail(err.Error())
		}
	})
}

// payReset reports whether a reset is that of a guest that had to stand still, and lets it go on.
func (i *Instance) payReset() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	owed := i.owesReset
	i.owesReset = false
	if owed && i.ctx.Err() == nil {
		i.work.Go(func() { i.goOnAfterReset(i.ctx) })
	}
	return owed
}

func (i *Instance) goOnAfterReset(ctx context.Context) {
	if err := i.machine.Cont(ctx); err != nil && ctx.Err() == nil {
		i.fail(err.Error())
	}
}
