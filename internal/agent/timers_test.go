package agent

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStartTimers leaves the thread on the CPUs that it had.
func TestStartTimers(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if err := startTimers(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil || after != before {
		t.Errorf("%v, %v; before: %v", after, err, before)
	}
}
