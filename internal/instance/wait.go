package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provium/internal/console"
	"provium/internal/deadline"
	"provium/internal/guest"
	"provium/internal/guestos"
	"provium/internal/ready"
)

var errNotShown = errors.New("the console did not show it in time")

// AwaitBoot waits for the agent, or else for the text that the boot waits for. It fails with a *GoneError when the
// guest ends before that. AwaitReady must follow.
func (i *Instance) AwaitBoot(ctx context.Context) error {
	if !i.optional() {
		_, err := i.Client(ctx)
		return err
	}
	if err := i.awaitText(ctx, i.cfg.Console.log.Boot()); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waited = true
	return nil
}

// AwaitReady waits for what the boot waits for beside its agent, which has answered. A guest that was restored is
// where it was saved.
func (i *Instance) AwaitReady(ctx context.Context) error {
	if i.cfg.Restored {
		return nil
	}
	return i.awaitReady(ctx, i.cfg.Console.log.Boot())
}

// awaitReady is AwaitReady for a boot of the console, whatever was before.
func (i *Instance) awaitReady(ctx context.Context, boot int) error {
	err := i.awaitText(ctx, boot)
	if err == nil && i.cfg.Wait.AsksGuest() {
		var link *guest.Client
		if link, err = i.Client(ctx); err == nil {
			err = guestos.AwaitReady(ctx, link, i.readyLimit(), i.cfg.Wait)
		}
	}
	if err != nil && i.ctx.Err() != nil {
		return context.Cause(i.ctx)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("the guest is not ready (`%s`): %w", i.cfg.Wait, err)
	}
	return err
}

// readyLimit begins the limit of awaitReady.
func (i *Instance) readyLimit() *deadline.Deadline {
	switch {
	case i.cfg.ReadyTimeout > 0:
		return deadline.Begin(i.cfg.ReadyTimeout, deadline.Clock{})
	case i.cfg.ReadyTimeout < 0:
		return i.Limit(-i.cfg.ReadyTimeout)
	}
	return i.bootLimit()
}

// optional reports whether the boot waits for something else than an agent.
func (i *Instance) optional() bool { return !i.cfg.NeedsAgent && !i.cfg.Wait.NeedsAgent() }

// awaitText waits until a boot has printed what it shall, if it shall print something, from the
// beginning of the boot and without moving the position of Expect.
func (i *Instance) awaitText(ctx context.Context, boot int) error {
	if i.cfg.Wait.Kind != ready.Console {
		return nil
	}
	want := i.cfg.Wait.Text
	limit := i.readyLimit()
	limited, cancel := limit.Context(ctx, errNotShown)
	defer cancel()
	at, seen := i.cfg.Console.log.BootStart(boot), ""
	for !strings.Contains(seen, want) {
		p, next, err := i.cfg.Console.log.Next(limited, boot, at, consoleChunk)
		switch {
		case errors.Is(err, console.ErrEnded):
			// The guest has ended, or has rebooted.
			if now := i.cfg.Console.log.Boot(); now != boot {
				boot, at, seen = now, i.cfg.Console.log.BootStart(now), ""
				continue
			}
			<-i.ctx.Done()
			return context.Cause(i.ctx)
		case errors.Is(context.Cause(limited), errNotShown):
			return fmt.Errorf("the console did not show `%s` within %v", want, limit)
		case err != nil:
			return err
		}
		at = next
		seen = seen[max(0, len(seen)-len(want)):] + string(p)
	}
	return nil
}

// IsAgentless reports whether no agent has answered yet in a guest whose boot does not
// wait for one. Perhaps none ever will.
func (i *Instance) IsAgentless() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.optional() && !i.answered
}

// noAgentYet returns the error of an operation that has waited for the first agent of a
// guest whose boot does not wait for one.
func (i *Instance) noAgentYet(limit *deadline.Deadline) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	text := fmt.Sprintf("no agent answered within %v, and the boot did not wait for one (wait = \"%s\")",
		limit, i.cfg.Wait)
	if i.refused != nil {
		text += fmt.Sprintf("; the last attempt: %v", i.refused)
	}
	return errors.New(text)
}

// What the program at /sbin/provium-agent says when it is PID 1 and the agent has ended:
// no other one will come.
const (
	agentSays    = "provium-agent: "
	agentNever   = agentSays + "the agent ended before it could serve"
	maxSaid      = 8   // lines of the agent that are kept
	maxSaidBytes = 300 // of each
)

// agentWords keeps what the agent has said on the console before it has answered.
type agentWords struct {
	said []string
	gone bool // it has said that it has ended
}

// take takes lines of the console, and reports whether they say that the agent has ended.
func (w *agentWords) take(text string) bool {
	if w.gone || !strings.Contains(text, agentSays) {
		return false
	}
	for line := range strings.Lines(text) {
		at := strings.Index(line, agentSays)
		if at < 0 {
			continue
		}
		line = strings.TrimRight(line[at:], "\r\n")
		if strings.HasPrefix(line, agentEnded) || strings.HasPrefix(line, agentNever) {
			w.gone = true
			return true
		}
		if len(w.said) < maxSaid {
			line = line[len(agentSays):]
			w.said = append(w.said, strings.ToValidUTF8(line[:min(len(line), maxSaidBytes)], "?"))
		}
	}
	return false
}

// waitsPrefix is what the agent says that waits for a device.
const waitsPrefix = "waiting for "

// agentWaits returns what the agent waited for last, as it said, behind "; ", or "".
func (w *watch) agentWaits() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range slices.Backward(w.agent.said) {
		if strings.HasPrefix(line, waitsPrefix) {
			return "; the agent was " + line
		}
	}
	return ""
}

// endWithAgent ends a guest whose agent has ended. One whose boot does not wait for it lives on,
// if it has not answered yet. The console may be ahead of the port.
func (i *Instance) endWithAgent(said []string) {
	reason := "the agent has ended before it answered"
	said = slices.DeleteFunc(slices.Clone(said), func(s string) bool { return strings.HasPrefix(s, waitsPrefix) })
	if len(said) > 0 {
		reason += ": " + strings.Join(said, "; ")
	}
	i.mu.Lock()
	if i.closed != nil {
		i.closed.stop()
		go i.closed.then()
	}
	early, optional := i.link == nil, i.optional() && !i.answered
	if early && optional {
		i.refused = errors.New(reason)
	}
	i.mu.Unlock()
	if early && !optional {
		i.fail(reason)
	}
}

// sessionLimit returns a context for the wait for a link: it ends in time for operations
// on a guest that may never have an agent. The limit is nil for other guests.
func (i *Instance) sessionLimit(ctx context.Context) (context.Context, context.CancelFunc, *deadline.Deadline) {
	if !i.IsAgentless() {
		return ctx, func() {}, nil
	}
	limit := i.bootLimit()
	limited, cancel := limit.Context(ctx, errNoAgentYet)
	return limited, cancel, limit
}

var errNoAgentYet = errors.New("no agent yet")

// mustAnswer reports whether the guest ends when no agent answers. The caller must hold
// i.mu.
func (i *Instance) mustAnswer() bool { return !i.optional() || i.answered }
