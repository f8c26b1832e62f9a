package instance

import (
	"context"
	"time"

	"provium/internal/guest"
)

// panicGrace is how long the agent of a guest whose kernel seems to have panicked may
// take to show that it has not: anybody may write a kernel's words to the console.
const panicGrace = 2 * time.Second

// panicCheck is a panic on the console that is not known to be one yet.
type panicCheck struct {
	finding Finding
	settled bool          // guarded by Instance.mu
	done    chan struct{} // closed when it is settled
}

// mayHavePanicked takes a report of a panic. A guest whose agent answers after that has not
// panicked. over says that no agent can answer any more. The caller must call what it returns,
// unless that is nil, without a lock: the guest's memory may be kept then.
func (i *Instance) mayHavePanicked(f Finding, over bool) (finish func()) {
	i.mu.Lock()
	link := i.link
	if link == nil || over {
		i.mu.Unlock()
		return i.believePanic(f)
	}
	defer i.mu.Unlock()
	if i.check != nil {
		return nil // one report tells as much as two
	}
	c := &panicCheck{finding: f, done: make(chan struct{})}
	i.check = c
	i.work.Go(func() {
		_, real := i.panicInLog()
		if finish := i.settle(c, real || !i.isAlive(link)); finish != nil {
			finish()
		}
	})
	return nil
}

// isAlive reports whether the agent answers. The time that a guest is stopped does not
// count.
func (i *Instance) isAlive(link *guest.Client) bool {
	for {
		ctx, cancel := i.Limited(i.ctx, i.cfg.PanicGrace, "a sign of life")
		err := link.Ping(ctx)
		cancel()
		if err == nil {
			return true
		}
		if i.ctx.Err() != nil || link.Err() != nil {
			return false
		}
		if status, err := i.machine.Status(i.ctx); err != nil || status == "running" {
			return false
		}
	}
}

// settle ends a check, once. The caller must call what it returns, unless that is nil, without a lock.
func (i *Instance) settle(c *panicCheck, real bool) (finish func()) {
	f := c.finding
	f.Expected = real && i.cfg.Hooks.ExpectsPanic()
	i.mu.Lock()
	if c.settled {
		i.mu.Unlock()
		return nil
	}
	c.settled = true
	i.check = nil
	if !real {
		i.holdEnd(false)
		close(c.done)
		i.mu.Unlock()
		return nil
	}
	end := i.believePanicLocked(f)
	i.mu.Unlock()
	if end == nil {
		i.cfg.Hooks.Finding(f)
		close(c.done)
		return nil
	}
	return func() {
		end()
		close(c.done)
	}
}

// lastWords settles what the kernel has printed before its present boot ended. It asks QEMU
// nothing, so it may be called where QEMU's events are read: what a panicked guest leaves is kept
// in the background, for which awaitChecks waits.
func (i *Instance) lastWords() {
	finish := i.watch.flush(true)
	i.mu.Lock()
	c, over := i.check, i.ctx.Err() != nil
	i.mu.Unlock()
	if c != nil {
		if end := i.settle(c, true); end != nil {
			finish = append(finish, end)
		}
	}
	for _, end := range finish {
		if over {
			end()
		} else {
			i.work.Go(end)
		}
	}
}

// awaitChecks waits until it is known whether the guest has panicked.
func (i *Instance) awaitChecks() {
	i.mu.Lock()
	c := i.check
	believed := c != nil && c.settled
	i.mu.Unlock()
	switch {
	case c == nil:
	case believed:
		<-c.done
	default:
		stopped, cancel := i.Limited(context.Background(), 2*i.cfg.PanicGrace, "") // the guest is stopped then
		defer cancel()
		select {
		case <-c.done:
		case <-stopped.Done():
		}
	}
}

// confirmPanic acts on a panic: the guest has ended, unless the test expects it.
func (i *Instance) confirmPanic(f Finding) {
	if finish := i.believePanic(f); finish != nil {
		finish()
	}
}

// panicked begins the reason of a guest that has panicked.
const panicked = "guest panicked: "

// believePanic records a panic. The guest has ended, unless the test expects it; what it leaves
// behind is kept, and it is ended, by what is returned. awaitChecks waits for that.
func (i *Instance) believePanic(f Finding) (finish func()) {
	f.Expected = i.cfg.Hooks.ExpectsPanic()
	i.mu.Lock()
	finish = i.believePanicLocked(f)
	i.mu.Unlock()
	if finish == nil {
		i.cfg.Hooks.Finding(f)
	}
	return finish
}

// believePanicLocked is believePanic for a caller that holds i.mu and hands on an expected panic.
func (i *Instance) believePanicLocked(f Finding) (finish func()) {
	reason := panicked + f.Title
	if f.Expected {
		i.goOn(reason)
		return nil
	}
	done := make(chan struct{})
	i.reason = reason // the kernel's words win
	if i.check == nil {
		i.check = &panicCheck{finding: f, settled: true, done: done}
	}
	return func() {
		defer close(done)
		i.fail(reason)
		i.cfg.Hooks.Finding(f)
	}
}

// goOn ends what the agent of a guest held that has panicked, and waits for the next
// agent: the kernel reboots, or starts a crash kernel without a reset. The caller must hold i.mu.
func (i *Instance) goOn(reason string) {
	i.panic = reason
	if i.link == nil || i.ctx.Err() != nil {
		return
	}
	i.panicked, i.crashed = true, true
	i.resend = true // the kernel that has ended may take what is sent first
	i.startOver(reason)
}
