package topology

import (
	"strings"
	"testing"
)

// TestErrors has each refusal name the VM, what it is, and what to do.
func TestErrors(t *testing.T) {
	for want, err := range map[string]StateError{
		"run: vm `a` is created (not booted); call vm:boot() first":                 {State: Created, Need: Booted},
		"boot: vm `a` is already booted; call vm:shutdown() first":                  {State: Booted, Need: Created},
		"restore: vm `a` is already booted; call vm:shutdown() first":               {State: Booted, Need: Created},
		"resume: vm `a` is booted (not paused)":                                     {State: Booted, Need: Paused},
		"run: vm `a` is paused (not booted); call vm:resume() first":                {State: Paused, Need: Booted},
		"run: vm `a` is shutdown; boot it again with vm:boot(), or create a new VM": {State: Shutdown, Need: Booted},
		"run: vm `a` is dead: it burned; create a new VM, or call vm:shutdown() and boot it again": {
			State: Dead, Need: Booted, Reason: "it burned"},
		"run: vm `a` is dead: reason unknown; create a new VM, or call vm:shutdown() and boot it again": {
			State: Dead, Need: Booted},
		"boot: vm `a` is paused (already booted); call vm:resume() to go on, or vm:shutdown() first": {
			State: Paused, Need: Created},
	} {
		err.VM = "a"
		err.Op, _, _ = strings.Cut(want, ":")
		if got := err.Error(); got != "cannot "+want {
			t.Errorf("%q, not %q", got, "cannot "+want)
		}
	}
	for want, err := range map[string]error{
		"cannot run: vm `a` is suspended (S3); call vm:wakeup() first": &SuspendedError{"a", "run"},
		"vm:snapshot() refused: open stream":                           &BusyError{"vm:snapshot()", "open stream"},
		"DuplicateVmName: vm name `a` is already used in lab `l`":      &DuplicateNameError{"vm", "a", "l"},
		"DuplicateBridgeName: two bridges of the list are called `a`":  &DuplicateNameError{"bridge", "a", ""},
		"DuplicateLabName: lab name `a` is already used in lab `l`":    &DuplicateNameError{"lab", "a", "l"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
