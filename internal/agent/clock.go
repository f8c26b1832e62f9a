package agent

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// clocks reads the guest's clocks.
func clocks() (wire.Value, error) {
	var ns [3]int64
	for i, id := range [...]int32{unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME} {
		var t unix.Timespec
		if err := unix.ClockGettime(id, &t); err != nil {
			return nil, err
		}
		ns[i] = t.Nano()
	}
	return &wire.ClockValue{RealtimeNS: ns[0], MonotonicNS: ns[1], BoottimeNS: ns[2]}, nil
}

// clockSet sets the time of day and returns what the clocks show then. With earliest, a
// time that the kernel does not take yet is replaced with the earliest that it takes.
func clockSet(ns int64, earliest bool) (wire.Value, error) {
	var up unix.Timespec
	for range 100 { // the uptime passes on meanwhile
		t := unix.NsecToTimespec(ns)
		err := unix.ClockSettime(unix.CLOCK_REALTIME, &t)
		if err == nil {
			return clocks()
		}
		if err != unix.EINVAL || unix.ClockGettime(unix.CLOCK_MONOTONIC, &up) != nil || ns >= up.Nano() {
			return nil, err
		}
		if !earliest {
			break
		}
		ns = up.Nano() + earliestMargin
	}
	// The kernel's rule: its clocks start at 1970 together.
	return nil, wire.ErrnoText(uint32(unix.EINVAL), fmt.Sprintf(
		"Invalid argument: Linux takes no time before 1970 plus its uptime, %.3f s now, got %.3f s",
		float64(up.Nano())/1e9, float64(ns)/1e9))
}

// earliestMargin is how long reading the uptime and setting the clock may take, in
// nanoseconds.
const earliestMargin = 1e6

// clockAdvance moves the time of day by a duration.
func clockAdvance(by int64) (wire.Value, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return nil, err
	}
	n := now.Nano()
	if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
		return nil, unix.EINVAL
	}
	return clockSet(n+by, false)
}
