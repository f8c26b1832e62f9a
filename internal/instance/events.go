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
		i.onReset()
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
// before an agent has answered, as with a guest that reboots in a loop.
func (i *Instance) onReset() {
	select {
	case <-i.ready:
		i.machine.SyncConsole()
	default:
	}
	i.cfg.Console.MarkBoot()
	i.cfg.Hooks.Reset()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.boot++
	i.epoch = &handle.Epoch{}
	i.portOpened()
	i.suspended = false
	if i.ctx.Err() != nil {
		return
	}
	i.fruitless++
	if link := i.link; link != nil {
		i.link, i.linked = nil, make(chan struct{})
		i.deadline, i.fruitless = time.Now().Add(i.cfg.AgentTimeout), 0
		link.Fail(&GoneError{VM: i.cfg.VM, Reason: "the guest was reset"})
	}
	i.relink()
}
