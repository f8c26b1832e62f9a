package instance

import (
	"context"
	"fmt"
	"time"

	"provium/internal/deadline"
	"provium/internal/guest"
)

// watchOver returns how the links of the instance watch over their operations.
func (i *Instance) watchOver() guest.Watch {
	w := i.cfg.Watch
	w.State, w.Dead = i.standstill, i.noSignOfLife
	if w.Hindered == nil {
		w.Hindered = func() time.Duration { return i.machine.HinderedInTurn() }
	}
	return w
}

// Hindered returns how long, in all, the guest has waited for a CPU of the host.
func (i *Instance) Hindered() time.Duration {
	if i.cfg.Watch.Hindered != nil {
		return i.cfg.Watch.Hindered()
	}
	return i.machine.Hindered()
}

// Limit begins a limit of ours for what the guest does. Time in which a loaded host leaves the guest no CPU does not
// count. Nothing that a user has asked for may be limited with it.
func (i *Instance) Limit(limit time.Duration) *deadline.Deadline {
	return deadline.Begin(limit, deadline.Clock{Time: i.cfg.Watch.Time, Hindered: i.Hindered})
}

// Limited returns a context that ends when the guest has taken longer than a limit of ours for what it does.
func (i *Instance) Limited(ctx context.Context, limit time.Duration, what string) (
	context.Context, context.CancelFunc) {
	l := i.Limit(limit)
	return l.Context(ctx, l.Exceeded(what))
}

// standstill returns why the guest cannot answer, and "" if its vCPUs run. A QEMU that does
// not answer is no excuse.
func (i *Instance) standstill(ctx context.Context) string {
	i.mu.Lock()
	suspended, shut := i.suspended, i.portShut && !i.portOpen
	i.mu.Unlock()
	switch {
	case suspended:
		return "suspended"
	case shut: // the agent has ended, as it does before a reboot
		return "without its agent"
	}
	status, err := i.machine.Status(ctx)
	if err != nil {
		return ""
	}
	if status == "running" {
		i.lookForPanic()
		return ""
	}
	return status
}

// noSignOfLife ends a guest that was asked for a sign of life and gave none. call is where
// in the test that was.
func (i *Instance) noSignOfLife(silent guest.Silence, call string) error {
	if call != "" {
		call = ", in " + call
	}
	charged := ""
	if silent.Not >= silent.For/20 && silent.Not > 0 {
		charged = fmt.Sprintf("; %v of that do not count, since a loaded host left no CPU", roundSilence(silent.Not))
	}
	reason := fmt.Sprintf("no sign of life for %v (vm `%s`%s%s)", roundSilence(silent.For), i.cfg.VM, call, charged)
	i.keep(i.machine, true)
	ctx, cancel := context.WithTimeout(i.ctx, logLimit)
	defer cancel()
	if i.isHalted(ctx) {
		reason = fmt.Sprintf("%s (vm `%s`%s)", guestHalted, i.cfg.VM, call)
	}
	i.fail(reason)
	return &GoneError{VM: i.cfg.VM, Reason: reason}
}

func roundSilence(d time.Duration) time.Duration {
	if d >= time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// IsSilent reports whether the guest gives no sign of life, although its vCPUs run. See
// guest.Client.
func (i *Instance) IsSilent(ctx context.Context) bool {
	i.mu.Lock()
	link := i.link
	i.mu.Unlock()
	return link != nil && !i.IsSuspended() && link.IsSilent(ctx) && i.standstill(ctx) == ""
}
