package topology

import "testing"

// TestErrors has each refusal name the VM, what it is, and what to do.
func TestErrors(t *testing.T) {
	for want, err := range map[string]error{
		"cannot run: vm `a` is created (not booted); call vm:boot() first": &StateError{VM: "a", Op: "run", State: Created, Need: Booted},
		"cannot boot: vm `a` is already booted; call vm:shutdown() first": &StateError{VM: "a", Op: "boot",
			State: Booted, Need: Created},
		"cannot restore: vm `a` is already booted; call vm:shutdown() first": &StateError{VM: "a", Op: "restore",
			State: Booted, Need: Created},
		"cannot resume: vm `a` is booted (not paused)": &StateError{VM: "a", Op: "resume", State: Booted, Need: Paused},
		"cannot boot: vm `a` is paused (already booted); call vm:resume() to go on, or vm:shutdown() first": &StateError{
			VM: "a", Op: "boot", State: Paused, Need: Created},
		"cannot run: vm `a` is paused (not booted); call vm:resume() first": &StateError{VM: "a", Op: "run",
			State: Paused, Need: Booted},
		"cannot run: vm `a` is shutdown; boot it again with vm:boot(), or create a new VM": &StateError{VM: "a",
			Op: "run", State: Shutdown, Need: Booted},
		"cannot run: vm `a` is dead: reason unknown; create a new VM, or call vm:shutdown() and boot it again": &StateError{
			VM: "a", Op: "run", State: Dead, Need: Booted},
		"cannot run: vm `a` is dead: it burned; create a new VM, or call vm:shutdown() and boot it again": &StateError{
			VM: "a", Op: "run", State: Dead, Need: Booted, Reason: "it burned"},
		"cannot run: vm `a` is suspended (S3); call vm:wakeup() first": &SuspendedError{"a", "run"},
		"vm:snapshot() refused: open stream":                           &BusyError{"vm:snapshot()", "open stream"},
		"DuplicateVmName: vm name `a` is already used in lab `l`":      &DuplicateNameError{"vm", "a", "l"},
		"DuplicateBridgeName: two bridges of the list are called `a`":  &DuplicateNameError{Kind: "bridge", Name: "a"},
		"DuplicateLabName: lab name `a` is already used in lab `l`":    &DuplicateNameError{"lab", "a", "l"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
