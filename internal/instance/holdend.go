package instance

import "context"

// This file keeps the memory of a guest that resets itself or powers off until the log of its kernel was read: the
// machine stands still in place of the reset, over whose memory QEMU loads the next kernel, and of the power-off, with
// which the memory goes. A guest that has pvpanic's driver stands still at a panic, too.
//
// A guest that is recorded stands still only after the words of a panic, see qemu.Machine.HoldsEnd.

// panicWords are what a kernel begins to say of a panic with.
const panicWords = "Kernel panic - not syncing"

// guestReset is the reason in QEMU's event of a guest that stands still in place of a reset.
const guestReset = "guest-reset"

// mayEnd is called when the console shows a kernel's words of a panic, which anybody can write
// there. It must not block.
func (i *Instance) mayEnd() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.holding && !i.expected {
		i.holdEnd(true)
	}
}

// holdEnd sets whether the machine of a recorded guest stands still where the guest ends, in the background. The
// caller must hold i.mu.
func (i *Instance) holdEnd(hold bool) {
	if !i.cfg.QEMU.Shape.Record || i.holding == hold || i.ctx.Err() != nil {
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

// standstill is a guest that stands still where it has ended.
type standstill struct {
	isReset bool          // it goes on after a reset
	reset   chan struct{} // closed at the reset
	isMade  bool          // reset is closed; guarded by Instance.mu
	over    chan struct{} // closed when the guest goes on, or its QEMU is about to end
}

// onEnd handles a guest that ends its machine. It must not block.
func (i *Instance) onEnd(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended != nil && !i.ended.isMade {
		return // it has asked again before its CPUs stood still
	}
	s := &standstill{isReset: reason == guestReset, reset: make(chan struct{}), over: make(chan struct{})}
	if !s.isReset {
		i.setReasonLocked("guest powered off")
	}
	if i.ctx.Err() != nil || i.cfg.QEMU.Shape.Record && !i.mayStand {
		return // QEMU ends
	}
	i.ended = s
	if s.isReset {
		i.disks().HoldFlushes() // QEMU flushes now
	}
	i.work.Go(func() {
		defer close(s.over)
		select {
		case <-i.ready:
		case <-i.ctx.Done():
			return
		}
		i.lookAtEnd()
		i.lastWords()
		if s.isReset {
			i.makeReset(s)
		} else if i.machine.Quit(i.ctx) != nil {
			i.machine.Kill()
		}
	})
}

// makeReset has a guest that stands still go on after its reset, unless that was the end of it.
func (i *Instance) makeReset(s *standstill) {
	if _, err := i.machine.Status(i.ctx); err != nil { // it has flushed when it answers
		i.failUnlessOver(err)
		return
	}
	i.disks().IgnoreFlushes()
	i.mu.Lock()
	over, isMade := i.reason != "", s.isMade
	i.mu.Unlock()
	if over {
		return // it is being looked at, and is ended then
	}
	if !isMade { // nobody has pressed the reset button meanwhile
		if err := i.machine.Reset(i.ctx); err != nil {
			i.failUnlessOver(err)
			return
		}
	}
	select {
	case <-s.reset:
	case <-i.ctx.Done():
		return
	}
	i.mu.Lock()
	stopped := i.stopped
	i.mu.Unlock()
	if stopped {
		return // it goes on when its stop ends
	}
	err := i.disks().ObeyFlushes()
	if err == nil {
		err = i.machine.Cont(i.ctx)
	}
	if err != nil {
		i.failUnlessOver(err)
	}
}

// failUnlessOver ends a guest that cannot go on.
func (i *Instance) failUnlessOver(err error) {
	if i.ctx.Err() == nil {
		i.fail(err.Error())
	}
}

// takeReset reports whether a reset of the machine is that of a guest that stands still.
func (i *Instance) takeReset() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.ended
	if s == nil || s.isMade {
		return false
	}
	s.isMade = true
	close(s.reset)
	return s.isReset
}

// awaitEnd waits while the guest stands still where it has ended. What QEMU has said of that must have been read.
func (i *Instance) awaitEnd(ctx context.Context) {
	i.mu.Lock()
	s := i.ended
	i.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case <-s.over:
	case <-ctx.Done():
	}
}
