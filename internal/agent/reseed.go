package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// renew adds entropy to the kernel's generator, reseeds it from that at once, and
// sets the clock. A restored guest does this first, when an emulated one has yet
// to translate all its code. None of the calls blocks, so they are made without
// telling the scheduler, whose monitor would wake up for each.
func (a *Agent) renew(r *wire.Renew) error {
	err := a.reseedAndSet(r)
	if errors.Is(err, unix.EPERM) {
		return wire.ErrnoText(uint32(unix.EPERM), fmt.Sprintf("Operation not permitted: a restored guest gets fresh "+
			"entropy (CAP_SYS_ADMIN) and the present time (CAP_SYS_TIME), which its agent, uid %d, may not set",
			unix.Geteuid()))
	}
	return err
}

func (a *Agent) reseedAndSet(r *wire.Renew) error {
	if len(r.Entropy) > 0 {
		if err := a.reseed(r.Entropy); err != nil {
			return fmt.Errorf("reseed: %w", err)
		}
	}
	if r.RealtimeNS == 0 {
		return nil
	}
	t := unix.NsecToTimespec(r.RealtimeNS)
	_, err := sys.Call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&t)), 0)
	return err
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
	info := binary.NativeEndian.AppendUint32(make([]byte, 0, 8+len(entropy)), uint32(8*len(entropy)))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(entropy)))
	info = append(info, entropy...)
	_, err := sys.Call(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	if err != nil {
		return err
	}
	_, err = sys.Call(unix.SYS_IOCTL, uintptr(fd), unix.RNDRESEEDCRNG, 0)
	return err
}
