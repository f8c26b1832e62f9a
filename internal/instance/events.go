package instance

import (
	"encoding/json"
	"time"

	"provium/internal/qemu"
)

// defaultGrace is the Grace of a Config that has none.
const defaultGrace = 5 * time.Second

// onEvent handles QEMU's events. It runs on the monitor's reader and must not block.
func (i *Instance) onEvent(e qemu.Event) {
	switch e.Name {
	case "RESET":
		var d struct{ Guest bool }
		if err := json.Unmarshal(e.Data, &d); err != nil {
			d.Guest = false
		}
		i.onReset(i.takeReset() || d.Guest)
	case "SHUTDOWN":
		var d struct {
			Guest  bool
			Reason string
		}
		if err := json.Unmarshal(e.Data, &d); err == nil && d.Guest {
			i.onEnd(d.Reason)
		}
	case "GUEST_PANICKED":
		i.onPanicEvent()
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

// onReset starts over with the agent of the new boot. Resets may follow each other
// before an agent has answered, as with a guest that reboots in a loop. byGuest says
// that the guest has rebooted, and nobody has pressed the reset button.
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
	if byGuest {
		i.checkReboot()
	}
	i.watch.startOver()
	i.kernelLog.startOver()
	i.cfg.Console.markReset(byGuest)
	i.cfg.Hooks.Reset()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !byGuest {
		i.awaited = i.reboots + 1
	}
	i.resend, i.served, i.crashed = false, false, false
	i.holdEnd(false)
	switch {
	case i.link != nil || i.ctx.Err() != nil:
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
	i.startOver("the guest was reset")
}
