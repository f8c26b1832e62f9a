package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"provium/internal/deadline"
	"provium/internal/guest"
	"provium/internal/guest/handle"
)

// Why operations in flight fail when their agent is gone.
const (
	agentReplaced = "the agent was replaced: the guest runs another kernel (kexec, a resume from hibernation), or " +
		"the agent was started again; what the last one held is gone"
	agentClosed  = "the agent is lost: it closed its port"
	agentUnheard = "the agent is lost: it does not answer since its port was closed and opened again"
)

// agentEnded is what PID 1 prints when the agent has ended and no other one will come.
const agentEnded = "provium-agent: the agent has ended"

// startOver waits for the next agent of the guest: what the last one held is gone, and
// its operations fail with the reason. The caller must hold i.mu.
func (i *Instance) startOver(reason string) {
	i.boot++
	i.epoch = &handle.Epoch{}
	i.portOpened()
	i.portOpen, i.portShut, i.lost = false, false, false
	i.suspended = false
	i.reboots++
	close(i.rebooted)
	i.rebooted = make(chan struct{})
	if i.ctx.Err() != nil {
		return
	}
	if link := i.link; link != nil {
		i.link, i.linked = nil, make(chan struct{})
		i.expectAnswer()
		link.Fail(&GoneError{VM: i.cfg.VM, Reason: reason})
	}
	i.relink()
}

// replaced starts over when the agent of that boot is still the present one, and returns
// what its operations fail with.
func (i *Instance) replaced(boot int, reason string) error {
	i.lastWords() // a crash kernel may have taken over
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reason != "" {
		return &GoneError{VM: i.cfg.VM, Reason: i.reason}
	}
	if i.boot == boot {
		i.startOver(reason)
	}
	return &GoneError{VM: i.cfg.VM, Reason: reason}
}

// recordAgent finds out what an agent holds that has answered. One that was known before
// still has what it had: its guest was resumed from hibernation. The caller must hold
// i.mu.
func (i *Instance) recordAgent(id string, boot int) {
	i.lost, i.linkedAt = false, i.cfg.Console.Len()
	if i.cfg.Agents == nil || id == "" {
		return
	}
	// A restored agent is not the one that went on after the snapshot.
	restored := i.cfg.Restored && boot == 0
	i.epoch = i.cfg.Agents.Epoch(id, i.epoch, restored)
}

// whyLost finds the reason for the end of the connection to the agent of a boot. It
// comes a moment before the reason is known: QEMU closes its sockets as it exits.
func (i *Instance) whyLost(boot int) func(error) error {
	return func(err error) error {
		if errors.Is(err, guest.ErrReplaced) {
			return i.replaced(boot, agentReplaced)
		}
		select {
		case <-i.ctx.Done():
			return context.Cause(i.ctx)
		case <-time.After(i.cfg.Grace):
		}
		i.mu.Lock()
		shut, ending := i.portShut && i.boot == boot, i.reason != ""
		i.mu.Unlock()
		if ending { // what the guest leaves is being read
			<-i.ctx.Done()
			return context.Cause(i.ctx)
		}
		if shut {
			// What came last may be the rest of what the agent before had to say.
			return i.replaced(boot, agentReplaced)
		}
		return err
	}
}

// onPort follows the agent's port as the guest opens and closes it: an agent opens it
// once, and the kernel closes it when the agent ends, when the guest goes to sleep, and
// when another kernel takes the device over.
func (i *Instance) onPort(open bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// QEMU says how the port is once a second at most, so that an opening may hide the closing before it.
	hidden := open && i.link != nil && (i.portOpen || i.cfg.Restored && i.boot == 0)
	i.portOpen = open
	i.portShut = i.portShut || !open || hidden
	i.watchPort()
}

// watchPort looks after a link whose port was closed. The caller must hold i.mu.
func (i *Instance) watchPort() {
	link, boot := i.link, i.boot
	switch {
	case i.portOpen:
		i.portOpened()
		if link != nil && i.portShut && i.ctx.Err() == nil {
			i.portShut = false
			i.work.Go(func() { i.confirm(link, boot) })
		}
	case link != nil && i.portShut && !i.suspended && i.closed == nil:
		grace := i.cfg.Grace
		if i.saysAgentEnded() {
			grace = 0
		}
		i.closed = &closedPort{then: func() { i.portStaysClosed(link) }}
		i.closed.stop = i.Limit(grace).After(i.closed.then)
	}
}

// closedPort is the time that the agent's port may stay closed.
type closedPort struct {
	then func() // called at its end
	stop func()
}

// confirm asks whether the agent at the port is the one of the link.
func (i *Instance) confirm(link *guest.Client, boot int) {
	ctx, cancel := i.bootLimit().Context(i.ctx, errNoAgentYet)
	defer cancel()
	if err := link.Confirm(ctx); err != nil && link.Err() == nil && i.ctx.Err() == nil {
		_ = i.replaced(boot, agentUnheard)
	}
}

// portStaysClosed gives up an agent whose port is closed for longer than a guest takes to
// fall asleep. Another kernel may be booting, with an agent of its own.
func (i *Instance) portStaysClosed(link *guest.Client) {
	i.machine.SyncConsole()
	i.lastWords()
	ctx, cancel := context.WithTimeout(i.ctx, logLimit)
	defer cancel()
	halted := i.isHalted(ctx)
	i.mu.Lock()
	current := i.closed != nil && i.link == link && !i.suspended && i.ctx.Err() == nil
	if !current || halted || i.saysAgentEnded() {
		i.mu.Unlock()
		switch {
		case current && halted:
			i.fail(guestHalted)
		case current:
			i.fail(agentClosed)
		}
		return
	}
	defer i.mu.Unlock()
	i.startOver(agentClosed)
	i.lost = true
}

// saysAgentEnded reports whether PID 1 has said that the guest is without an agent from
// now on. The caller must hold i.mu.
func (i *Instance) saysAgentEnded() bool {
	const most = 64 << 10
	n := min(i.cfg.Console.Len()-i.linkedAt, most)
	return strings.Contains(i.cfg.Console.Tail(int(n)), agentEnded)
}

// portOpened stops the wait for a port that is closed. The caller must hold i.mu.
func (i *Instance) portOpened() {
	if i.closed != nil {
		i.closed.stop()
		i.closed = nil
	}
}

var errNoReboot = errors.New("no reboot in time")

// WaitReboot waits until the guest has rebooted by itself, or got another agent without
// a reboot, and that agent answers: since the boot, the last Reset or the last
// WaitReboot, whichever was last. It waits for limit at most, and for the time that an
// agent has after a boot when limit is negative.
func (i *Instance) WaitReboot(ctx context.Context, limit time.Duration) error {
	until := deadline.Begin(limit, deadline.Clock{})
	if limit < 0 {
		until = i.bootLimit()
	}
	limited, cancel := until.Context(ctx, errNoReboot)
	defer cancel()
	for {
		i.mu.Lock()
		rebooted, wait := i.reboots > i.awaited, i.rebooted
		if rebooted && i.link != nil {
			i.awaited = i.reboots
			i.mu.Unlock()
			if limit < 0 {
				return i.awaitReady(ctx, i.cfg.Console.log.Boot())
			}
			err := i.awaitReady(limited, i.cfg.Console.log.Boot())
			if err == nil || ctx.Err() != nil || limited.Err() == nil {
				return err
			}
			return i.noReboot(until, "has rebooted, and is not ready (`"+i.cfg.Wait.String()+"`)")
		}
		if rebooted {
			wait = i.linked
		}
		i.mu.Unlock()
		select {
		case <-wait:
			continue
		case <-i.ctx.Done():
			return context.Cause(i.ctx)
		case <-limited.Done():
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		what := "has not rebooted"
		if rebooted {
			what = "has rebooted, and no agent has answered since"
		}
		return i.noReboot(until, what)
	}
}

func (i *Instance) noReboot(until *deadline.Deadline, what string) error {
	return fmt.Errorf("wait_reboot timed out after %v: vm `%s` %s", until, i.cfg.VM, what)
}
