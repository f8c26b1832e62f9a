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
// panicked. over says that no agent can answer any more.
func (i *Instance) mayHavePanicked(f Finding, over bool) {
	i.mu.Lock()
	link := i.link
	if link == nil || over {
		i.mu.Unlock()
		i.confirmPanic(f)
		return
	}
	defer i.mu.Unlock()
	if i.check != nil {
		return // one report tells as much as two
	}
	c := &panicCheck{finding: f, done: make(chan struct{})}
	i.check = c
	i.work.Go(func() {
		_, real := i.panicInLog()
		i.settle(c, real || !i.isAlive(link))
	})
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

// settle ends a check, once.
func (i *Instance) settle(c *panicCheck, real bool) {
	i.mu.Lock()
	if c.settled {
		i.mu.Unlock()
		return
	}
	c.settled = true
	i.check = nil
	i.mu.Unlock()
	if real {
		i.confirmPanic(c.finding)
	}
	close(c.done)
}

// lastWords settles what the kernel has printed before its present boot ended.
func (i *Instance) lastWords() {
	i.watch.flush(true)
	i.mu.Lock()
	c := i.check
	i.mu.Unlock()
	if c != nil {
		i.settle(c, true)
	}
}

// awaitChecks waits until it is known whether the guest has panicked.
func (i *Instance) awaitChecks() {
	i.mu.Lock()
	c := i.check
	i.mu.Unlock()
	if c == nil {
		return
	}
	stopped, cancel := i.Limited(context.Background(), 2*i.cfg.PanicGrace, "") // the guest is stopped then
	defer cancel()
	select {
	case <-c.done:
	case <-stopped.Done():
	}
}

// confirmPanic acts on a panic: the guest has ended, unless the test expects it.
func (i *Instance) confirmPanic(f Finding) {
	reason := "guest panicked: " + f.Title
	f.Expected = i.cfg.Hooks.ExpectsPanic()
	if f.Expected {
		i.goOn(reason)
	} else {
		i.mu.Lock()
		i.reason = reason // the kernel's words win
		i.mu.Unlock()
		i.fail(reason)
	}
	i.cfg.Hooks.Finding(f)
}

// goOn ends what the agent of a guest held that has panicked, and waits for the next
// agent: the kernel reboots, or starts a crash kernel without a reset.
func (i *Instance) goOn(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.panic = reason
	if i.link == nil || i.ctx.Err() != nil {
		return
	}
	i.panicked = true
	i.resend = true // the kernel that has ended may take what is sent first
	i.startOver(reason)
}
