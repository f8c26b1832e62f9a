package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"provium/internal/guest"
	"provium/internal/guest/handle"
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
	before, boot, deadline := i.linker, i.boot, i.deadline
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
		i.keepLink(ctx, boot, deadline)
	})
}

func (i *Instance) keepLink(ctx context.Context, boot int, deadline time.Time) {
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errNoAnswer)
	defer cancel()
	link, err := i.connect(limited, boot)
	if err != nil {
		if errors.Is(context.Cause(limited), errNoAnswer) {
			err = i.noAnswer()
		}
		if ctx.Err() == nil {
			i.fail(err.Error())
		}
		return
	}
	defer link.Close()
	if boot > 0 {
		if err := i.cfg.Hooks.Configure(ctx, link); err != nil && ctx.Err() == nil {
			i.cfg.Hooks.Warn("vm `%s` after a reset: %v", i.cfg.VM, err)
		}
	}
	i.mu.Lock()
	current := i.boot == boot && i.ctx.Err() == nil
	if current {
		i.link, i.fruitless = link, 0
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
		if ctx.Err() == nil && i.isCurrent(boot) {
			i.fail(fmt.Sprintf("the agent is lost: %v", link.Err()))
		}
	}
}

var errNoAnswer = errors.New("no agent answered in time")

// noAnswer says that no agent answered. A guest may have reset itself again and again
// meanwhile, e.g. because its kernel does not fit into its memory.
func (i *Instance) noAnswer() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lost {
		return fmt.Errorf("the agent is lost: it closed its port, and no other one answered within %v",
			i.cfg.AgentTimeout)
	}
	if i.fruitless > 1 {
		return fmt.Errorf("no agent answered within %v, in which the guest reset itself %d times", i.cfg.AgentTimeout,
			i.fruitless)
	}
	return fmt.Errorf("no agent answered within %v", i.cfg.AgentTimeout)
}

func (i *Instance) isCurrent(boot int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.boot == boot
}

func (i *Instance) connect(ctx context.Context, boot int) (*guest.Client, error) {
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
		return nil, err
	}
	cfg := guest.Config{Lost: i.whyLost(boot)}
	if i.cfg.Restored && boot == 0 {
		cfg.Resend = restoredResend
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
		case <-ctx.Done():
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

// Reset presses the reset button and returns when the new agent serves.
func (i *Instance) Reset(ctx context.Context) error {
	i.mu.Lock()
	boot := i.boot
	i.mu.Unlock()
	if err := i.machine.Reset(ctx); err != nil {
		return err
	}
	// The event comes right after the reply; until then the old link stands.
	for {
		i.mu.Lock()
		again, linked, link := i.boot != boot, i.linked, i.link
		i.mu.Unlock()
		if again {
			_, err := i.Client(ctx)
			return err
		}
		var wait <-chan struct{} = linked
		if link != nil {
			wait = link.Done() // failed by onReset
		}
		select {
		case <-wait:
		case <-i.ctx.Done():
			return context.Cause(i.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
