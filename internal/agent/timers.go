package agent

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// losesTimers says that a guest of this architecture has no timer any more when QEMU has loaded it: the timer's time is
// in the state, and QEMU does not start to wait for it.
const losesTimers = runtime.GOARCH == "riscv64"

// startTimers has each CPU set its timer. A kernel does that for what is due before all else that it waits for, as
// everything is that is due in the past; later times it believes to be set already.
func startTimers() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("start timers: %w", err)
	}
	past := unix.Timespec{Nsec: 1}
	for cpu, left := 0, all.Count(); left > 0; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			continue // it was taken away meanwhile
		}
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &past, nil)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("start timers: %w", err)
		}
	}
	if err := unix.SchedSetaffinity(0, &all); err != nil {
		return fmt.Errorf("start timers: %w", err)
	}
	return nil
}
