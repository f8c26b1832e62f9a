package topology

import (
	"errors"
	"fmt"
	"slices"
)

// StateError is returned for a call that the state of the VM does not allow. Nothing
// was changed.
type StateError struct {
	VM     string
	Op     string // method name
	State  State
	Need   State  // the state the call is for
	Reason string // why a dead VM died
}

func (e *StateError) Error() string {
	s := fmt.Sprintf("cannot %s: vm `%s` is ", e.Op, e.VM)
	switch e.State {
	case Created:
		// Also where paused is needed: booting is the first step to it.
		return s + "created (not booted); call vm:boot() first"
	case Booted:
		if e.Op == "boot" || e.Need == Created {
			return s + "already booted; call vm:shutdown() first"
		}
		return s + fmt.Sprintf("booted (not %s)", e.Need)
	case Paused:
		if e.Need == Created {
			return s + "paused (already booted); call vm:resume() to go on, or vm:shutdown() first"
		}
		return s + fmt.Sprintf("paused (not %s); call vm:resume() first", e.Need)
	case Shutdown:
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

// BatchError is returned by an action on a lab that failed for some of its VMs. Errs has an entry for each VM.
type BatchError struct {
	Text string
	Errs []error
}

func (e *BatchError) Error() string { return e.Text }

// Unwrap returns the errors of the VMs.
func (e *BatchError) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e.Errs), func(err error) bool { return err == nil })
}

// ForkRefusal names the fork in an error of the snapshot behind it.
func ForkRefusal(err error) error {
	var state *StateError
	var suspended *SuspendedError
	var busy *BusyError
	switch {
	case errors.As(err, &state):
		own := *state
		own.Op = "fork"
		return &own
	case errors.As(err, &suspended):
		return &SuspendedError{VM: suspended.VM, Op: "fork"}
	case errors.As(err, &busy):
		return &BusyError{Call: "vm:fork()", Why: busy.Why}
	}
	return err
}
