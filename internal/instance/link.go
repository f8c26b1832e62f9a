package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"provium/internal/deadline"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/qemu"
)

// restoredResend is how soon a handshake is repeated with a guest that goes on in the
// middle of whatever its agent did when it was saved.
const restoredResend = time.Second

// linker is the goroutine that connects to the agent of one boot and then watches the
// link.
type linker struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// relink connects to the agent in the background, after the linker of the boot before
// has ended: QEMU serves one connection of the port at a time. The caller must hold
// i.mu.
func (i *Instance) relink() {
	before, boot, resend := i.linker, i.boot, i.resend
	ctx, cancel := context.WithCancel(i.ctx)
	l := &linker{cancel: cancel, done: make(chan struct{})}
	i.linker = l
	i.work.Go(func() {
		defer close(l.done)
		defer cancel()
		if before != nil {
			before.cancel()
			<-before.done
		}
		i.keepLink(ctx, boot, resend)
	})
}

func (i *Instance) keepLink(ctx context.Context, boot int, resend bool) {
	link, err := i.connect(ctx, boot, resend)
	if errors.Is(err, guest.ErrLinkLost) { // a moment before QEMU is seen to have ended
		select {
		case <-ctx.Done():
		case <-time.After(i.cfg.Grace):
		}
	}
	if err != nil {
		i.mu.Lock()
		fatal := ctx.Err() == nil && i.mustAnswer()
		if i.refused == nil {
			i.refused = err
		}
		i.mu.Unlock()
		if fatal {
			i.fail(err.Error())
		}
		return
	}
	defer link.Close()
	if boot > 0 || i.optional() {
		err := errors.Join(SeedBoot(ctx, link, i.machine, i.cfg.Use), i.cfg.Hooks.Configure(ctx, link))
		if err != nil && ctx.Err() == nil {
			i.cfg.Hooks.Warn("vm `%s` after a reset: %v", i.cfg.VM, err)
		}
	}
	i.watch.askForStamps(ctx, link)
	i.mu.Lock()
	current := i.boot == boot && i.ctx.Err() == nil
	if current {
		i.link, i.panic, i.panicked, i.resend, i.answered = link, "", false, false, true
		i.served = true
		i.refused = nil
		i.answerBy.stop()
		i.recordAgent(link.Info().AgentID, boot)
		close(i.linked)
		i.watchPort()
	}
	i.mu.Unlock()
	if !current {
		return
	}
	select {
	case <-ctx.Done():
	case <-link.Done():
		if ctx.Err() == nil && i.isCurrent(boot) && !i.endsByItself(ctx) {
			i.fail(fmt.Sprintf("the agent is lost: %v", link.Err()))
		}
	}
}

// statusLimit is how long QEMU may take to say that it is there.
const statusLimit = 5 * time.Second

// endsByItself reports whether QEMU is about to end, or has ended, which is the reason for the end of a link then: a
// process that ends closes its sockets in any order.
func (i *Instance) endsByItself(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	_, err := i.machine.Status(ctx)
	return err != nil && ctx.Err() == nil
}

// The resets after which a boot is given up: of a guest that prints nothing, e.g. because
// its kernel does not fit into its memory, and of one that prints something in each
// attempt. A firmware resets itself up to three times after each of those.
const (
	maxSilentResets = 3
	maxBoots        = 10
	maxResets       = 4 * maxBoots
)

// expectAnswer begins the wait for the next agent; none is linked. The caller must
// hold i.mu.
func (i *Instance) expectAnswer() {
	i.answerBy.stop()
	i.fruitless, i.boots, i.printed = 0, 0, i.cfg.Console.Len()
	i.first = i.printed
	if !i.mustAnswer() {
		i.answerBy = nil
		return
	}
	l := &answerLimit{Deadline: i.bootLimit()}
	i.answerBy = l
	l.end = l.After(func() {
		waits := i.watch.agentWaits()
		i.mu.Lock()
		late, reason := i.answerBy == l && i.link == nil, i.noAnswer()
		i.mu.Unlock()
		if late {
			i.fail(reason + waits)
		}
	})
}

// answerLimit is the limit for the next agent's answer.
type answerLimit struct {
	*deadline.Deadline
	end func()
}

// stop ends the limit, if there is one.
func (l *answerLimit) stop() {
	if l != nil {
		l.end()
	}
}

// bootLimit begins the limit of a boot.
func (i *Instance) bootLimit() *deadline.Deadline {
	if i.cfg.FairTimeout {
		return i.Limit(i.cfg.AgentTimeout)
	}
	return deadline.Begin(i.cfg.AgentTimeout, deadline.Clock{})
}

// noAnswer says that no agent answered. The caller must hold i.mu.
func (i *Instance) noAnswer() string {
	reason := fmt.Sprintf("no agent answered within %v", i.answerBy)
	switch {
	case i.panic != "":
		return i.panic + "; " + reason + " after that"
	case i.lost:
		return fmt.Sprintf("the agent is lost: it closed its port, and no other one answered within %v", i.answerBy)
	case i.fruitless > 1 && !i.answered: // a firmware resets itself when it starts again
		return fmt.Sprintf("%s, in which the guest reset itself %d times", reason, i.fruitless)
	}
	return reason
}

// countReset counts a reset by a guest that has no agent. It returns why the guest is
// given up, or "". The caller must hold i.mu.
func (i *Instance) countReset() string {
	printed := i.cfg.Console.Len()
	if printed > i.printed {
		i.boots++
	}
	i.printed = printed
	i.fruitless++
	switch {
	case i.answered, i.waited:
		return "" // the time limit is enough, or the guest may do so
	case printed == i.first && i.fruitless >= maxSilentResets:
		return fmt.Sprintf("the guest reset itself %d times without an answer of an agent and without a word on its "+
			"console: its memory of %s is perhaps too small for its kernel", i.fruitless,
			qemu.FormatSize(i.cfg.QEMU.Memory))
	case i.boots >= maxBoots || i.fruitless >= maxResets:
		return fmt.Sprintf("the guest reset itself %d times without an answer of an agent", max(i.boots, maxBoots))
	}
	return ""
}

func (i *Instance) isCurrent(boot int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.boot == boot
}

func (i *Instance) connect(ctx context.Context, boot int, resend bool) (*guest.Client, error) {
	select {
	case <-i.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if i.warm != nil && boot == 0 {
		return i.warm.link, nil
	}
	conn, err := i.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", guest.ErrLinkLost, err)
	}
	cfg := guest.Config{Lost: i.whyLost(boot), Watch: i.watchOver()}
	if resend {
		cfg.Resend = restoredResend
	}
	if pacer := i.machine.Pacer(); pacer != nil {
		cfg.Nonce = pacer
	}
	return guest.Connect(ctx, conn, cfg)
}

// dial connects to the agent by the transport of the machine.
func (i *Instance) dial(ctx context.Context) (net.Conn, error) {
	if cid := i.machine.CID(); cid != 0 {
		return guest.DialVsock(ctx, cid)
	}
	return i.machine.DialAgent(ctx)
}

// Client returns the link to the agent. It waits while the guest boots or reboots, and
// fails with a *GoneError when the guest ends.
func (i *Instance) Client(ctx context.Context) (*guest.Client, error) {
	link, _, err := i.Session(ctx)
	return link, err
}

// Session is Client. It also returns the epoch of what the agent holds.
func (i *Instance) Session(ctx context.Context) (*guest.Client, *handle.Epoch, error) {
	limited, cancel, limit := i.sessionLimit(ctx)
	defer cancel()
	for {
		i.mu.Lock()
		link, linked, epoch := i.link, i.linked, i.epoch
		i.mu.Unlock()
		if link != nil {
			return link, epoch, nil
		}
		select {
		case <-linked:
		case <-i.ctx.Done():
			return nil, nil, context.Cause(i.ctx)
		case <-limited.Done():
			if ctx.Err() == nil {
				return nil, nil, i.noAgentYet(limit)
			}
			return nil, nil, context.Cause(ctx)
		}
	}
}

// Epoch returns the epoch of what the agent holds, without waiting for the agent.
func (i *Instance) Epoch() *handle.Epoch {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.epoch
}

// Reset presses the reset button and returns when the new agent serves, or at once when
// the boot did not wait for an agent and none has answered.
func (i *Instance) Reset(ctx context.Context) error {
	i.mu.Lock()
	boot := i.boot
	i.mu.Unlock()
	i.lookBack()
	if err := i.machine.Reset(ctx); err != nil {
		return err
	}
	// The event comes right after the reply; until then the old link stands.
	for {
		i.mu.Lock()
		again, over, must := i.boot != boot, i.rebooted, i.mustAnswer()
		if again {
			i.awaited = i.reboots // the event may be the one of a reboot just before
		}
		i.mu.Unlock()
		if again && !must {
			return nil
		}
		if again {
			shown := i.cfg.Console.log.Boot()
			_, err := i.Client(ctx)
			if err == nil {
				err = i.awaitReady(ctx, shown)
			}
			return err
		}
		select {
		case <-over:
		case <-i.ctx.Done():
			return context.Cause(i.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
