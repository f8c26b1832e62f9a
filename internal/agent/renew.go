package agent

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// renew mixes new entropy into the kernel's generator and has it take effect at
// once, and sets the clock.
func (a *Agent) renew(r *wire.Renew) (wire.Value, error) {
	if len(r.Entropy) > 0 {
		if err := a.reseed(r.Entropy); err != nil {
			return nil, fmt.Errorf("reseed: %w", err)
		}
	}
	if r.RealtimeNS != 0 {
		return clockSet(r.RealtimeNS)
	}
	return clocks()
}

func (a *Agent) reseed(entropy []byte) error {
	fd := a.cfg.Random
	if fd == 0 {
		var err error
		if fd, err = unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	// struct rand_pool_info of linux/random.h: bits, bytes, data.
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(entropy)))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(entropy)))
	info = append(info, entropy...)
	err := retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return err
	}
	return retry(func() error { return unix.IoctlSetInt(fd, unix.RNDRESEEDCRNG, 0) })
}
