package agent

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

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

func clockSet(ns int64) (wire.Value, error) {
	t := unix.NsecToTimespec(ns)
	err := unix.ClockSettime(unix.CLOCK_REALTIME, &t)
	var up unix.Timespec
	if err == unix.EINVAL && unix.ClockGettime(unix.CLOCK_MONOTONIC, &up) == nil && ns < up.Nano() {
		// The kernel's rule: its clocks start at 1970 together.
		return nil, errnoText(syscall.EINVAL, fmt.Sprintf("Invalid argument: Linux takes no time before 1970 plus its uptime, %.3f s now, got %.3f s",
			float64(up.Nano())/1e9, float64(ns)/1e9))
	}
	if err != nil {
		return nil, err
	}
	return clocks()
}

func clockAdvance(by int64) (wire.Value, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return nil, err
	}
	n := now.Nano()
	if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
		return nil, unix.EINVAL
	}
	return clockSet(n + by)
}

func (o *op) sleep(ns uint64) error {
	t := time.NewTimer(time.Duration(min(ns, math.MaxInt64)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-o.ctx.Done():
		return context.Canceled
	}
}
