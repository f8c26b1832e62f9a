package instance

import (
	"encoding/json"
	"time"

	"provium/internal/guest/handle"
	"provium/internal/qemu"
)

// defaultGrace is the Grace of a Config that has none.
const defaultGrace = 5 * time.Second

// onEvent handles QEMU's events. It runs on the monitor's reader and must not block.
func (i *Instance) onEvent(e qemu.Event) {
	switch e.Name {
	case "RESET":
		var d struct{ Guest bool }
		_ = json.Unmarshal(e.Data, &d) // without it, the reset counts as ours
		i.onReset(d.Guest)
	case "SHUTDOWN":
		var d struct {
			Guest  bool
			Reason string
		}
		if err := json.Unmarshal(e.Data, &d); err == nil && d.Guest {
			i.setReason("guest powered off")
		}
	case "SUSPEND":
		i.mu.Lock()
		i.suspended = true
		i.portOpened()
		i.mu.Unlock()
	case "WAKEUP":
		i.SetAwake()
	case "VSERPORT_CHANGE":
		var d struct {
			ID   string
			Open bool
		}
		if err := json.Unmarshal(e.Data, &d); err == nil && d.ID == "agentport" {
			i.onPort(d.Open)
		}
	}
}

// onPort follows the agent's port as the guest opens and closes it.
func (i *Instance) onPort(open bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if open {
		i.portOpened()
		return
	}
	if i.link == nil || i.suspended || i.closedAt != nil {
		return
	}
	link := i.link
	i.closedAt = time.AfterFunc(i.cfg.Grace, func() {
		i.mu.Lock()
		lost := i.closedAt != nil && i.link == link && !i.suspended
		i.mu.Unlock()
		if lost {
			i.fail("the agent is lost: it closed its port")
		}
	})
}

// portOpened stops the wait for a port that is closed. The caller must hold i.mu.
func (i *Instance) portOpened() {
	if i.closedAt != nil {
		i.closedAt.Stop()
		i.closedAt = nil
	}
}

// onReset starts over with the agent of the new boot. Resets may follow each other
// before an agent has answered, as with a guest that reboots in a loop. byGuest tells
// a reset by the guest from one by the reset button.
func (i *Instance) onReset(byGuest bool) {
	select {
	case <-i.ready:
		i.machine.SyncConsole()
	default:
	}
	i.lastWords()
	i.mu.Lock()
	over := i.reason != ""
	i.mu.Unlock()
	if over {
		return // QEMU is about to end, with what the kernel said last
	}
	i.cfg.Console.MarkBoot()
	i.cfg.Hooks.Reset()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.boot++
	i.epoch = &handle.Epoch{}
	i.portOpened()
	i.suspended, i.resend = false, false
	if i.ctx.Err() != nil {
		return
	}
	switch {
	case i.link != nil:
		i.unlink("the guest was reset")
	case i.panicked:
		i.expectAnswer() // the reboot after the panic
		i.panicked = false
	case byGuest:
		if reason := i.countReset(); reason != "" {
			i.setReasonLocked(reason)
			i.kill()
			return
		}
	}
	i.relink()
}
