package instance

import (
	"context"
	"fmt"
	"time"

	"provium/internal/guest"
)

// watchOver returns how the links of the instance watch over their operations.
func (i *Instance) watchOver() guest.Watch {
	w := i.cfg.Watch
	w.State, w.Dead = i.standstill, i.noSignOfLife
	return w
}

// standstill returns why the guest cannot answer, and "" if its vCPUs run. A QEMU that does
// not answer is no excuse.
func (i *Instance) standstill(ctx context.Context) string {
	if i.IsSuspended() {
		return "suspended"
	}
	status, err := i.machine.Status(ctx)
	if err != nil || status == "running" {
		return ""
	}
	return status
}

// noSignOfLife ends a guest that was asked for a sign of life and gave none. call is where
// in the test that was.
func (i *Instance) noSignOfLife(silent time.Duration, call string) error {
	if call != "" {
		call = ", in " + call
	}
	reason := fmt.Sprintf("no sign of life for %v (vm `%s`%s)", roundSilence(silent), i.cfg.VM, call)
	i.fail(reason)
	return &GoneError{VM: i.cfg.VM, Reason: reason}
}

func roundSilence(d time.Duration) time.Duration {
	if d >= time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// IsSilent reports whether the guest fails to answer within limit, although its vCPUs run.
// It does not wait for a guest that has left another question unanswered for long.
func (i *Instance) IsSilent(ctx context.Context, limit time.Duration) bool {
	i.mu.Lock()
	link := i.link
	i.mu.Unlock()
	if link == nil || i.IsSuspended() {
		return false
	}
	if link.SilentFor() < limit/2 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if link.Ping(limited) == nil {
			return false
		}
	}
	return link.Err() == nil && i.standstill(ctx) == ""
}
