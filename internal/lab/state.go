package lab

import (
	"fmt"
	"time"

	"provium/internal/topology"
)

// StateError is returned for a call that the state of the VM does not allow. Nothing
// was changed.
type StateError struct {
	VM     string
	Op     string // method name
	State  topology.State
	Need   topology.State // the state the call is for
	Reason string         // why a dead VM died
}

func (e *StateError) Error() string {
	s := fmt.Sprintf("cannot %s: vm `%s` is ", e.Op, e.VM)
	switch e.State {
	case topology.Created:
		// Also where paused is needed: booting is the first step to it.
		return s + "created (not booted); call vm:boot() first"
	case topology.Booted:
		if e.Op == "boot" || e.Need == topology.Created {
			return s + "already booted"
		}
		return s + fmt.Sprintf("booted (not %s)", e.Need)
	case topology.Paused:
		if e.Need == topology.Created {
			return s + "paused (already booted); call vm:resume() to go on, or vm:shutdown() first"
		}
		return s + fmt.Sprintf("paused (not %s); call vm:resume() first", e.Need)
	case topology.Shutdown:
		return s + "shutdown; boot it again with vm:boot(), or create a new VM"
	}
	reason := e.Reason
	if reason == "" {
		reason = "reason unknown"
	}
	return s + fmt.Sprintf("dead: %s; create a new VM, or call vm:shutdown() and boot it again", reason)
}

// SuspendedError is an operation on a guest in suspend-to-RAM. Nothing was changed.
type SuspendedError struct {
	VM string
	Op string // method name
}

func (e *SuspendedError) Error() string {
	return fmt.Sprintf("cannot %s: vm `%s` is suspended (S3); call vm:wakeup() first", e.Op, e.VM)
}

// BusyError is returned for a snapshot or fork while an operation is in flight, or
// something is open. Nothing was changed.
type BusyError struct {
	Call string // as in Lua: "vm:snapshot()"
	Why  string
}

func (e *BusyError) Error() string { return e.Call + " refused: " + e.Why }

// DuplicateNameError is returned when a member of the lab has the name. Nothing was
// changed.
type DuplicateNameError struct {
	Kind string // "vm", "bridge" or "lab"
	Name string
	Lab  string // "" when two of the given list have the name
}

func (e *DuplicateNameError) Error() string {
	code := map[string]string{
		"vm": "DuplicateVmName", "bridge": "DuplicateBridgeName", "lab": "DuplicateLabName",
	}[e.Kind]
	if e.Lab == "" {
		return fmt.Sprintf("%s: two %ss of the list are called `%s`", code, e.Kind, e.Name)
	}
	return fmt.Sprintf("%s: %s name `%s` is already used in lab `%s`", code, e.Kind, e.Name, e.Lab)
}

// BootError is returned for a boot in which no agent answered. The guest was ended.
type BootError struct {
	VM      string
	Err     error
	Console string // the last 8 KiB of the guest's console
}

func (e *BootError) Error() string {
	s := fmt.Sprintf("vm `%s` boot: %v", e.VM, e.Err)
	if e.Console == "" {
		return s + " (the guest's console is empty)"
	}
	return s + "; the guest's console ends with:\n" + e.Console
}

func (e *BootError) Unwrap() error { return e.Err }

const (
	bootConsoleTail = 8 << 10 // bytes of console in a BootError

	agentTimeoutKVM = 30 * time.Second
	agentTimeoutTCG = 120 * time.Second
)
