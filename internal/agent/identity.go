package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// identity returns a name that no other run of an agent has, by which the host knows
// whether it still speaks with the one it knew. It never waits for entropy: the time
// tells runs of one boot apart where there is none yet. random is a descriptor of
// /dev/urandom, 0 for none.
func identity(random int) string {
	var b [16]byte
	if random > 0 {
		_, _ = unix.Read(random, b[:])
	} else if fd, err := unix.Open("/dev/urandom", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Read(fd, b[:])
		unix.Close(fd)
	}
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	return fmt.Sprintf("%x-%x", b, up.Nano())
}
