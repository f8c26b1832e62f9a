package agent

import (
	"bytes"
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
// to translate all its code. None of the calls blocks for long, so they are made without
// telling the scheduler, whose monitor would wake up for each: the random device
// answers at once.
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
	if r.MachineID {
		// By the clock that was right when the guest was saved.
		a.machineIDs.renew(wire.MachineIDs[:], journals[:], now)
	}
	if r.DropRandom || len(r.RandomBlock) > 0 {
		a.readRandomDevice(r.RandomBlock)
	}
	if r.Disturb != 0 {
		if err := a.execs.Disturb(r.Disturb); err != nil {
			return fmt.Errorf("disturb: %w", err)
		}
	}
	if r.Tick && a.cfg.OpenPacePort != nil {
		if err := a.tick(); err != nil {
			return fmt.Errorf("tick: %w", err)
		}
	}
	if r.RealtimeNS == 0 {
		return nil
	}
	t := unix.NsecToTimespec(r.RealtimeNS)
	_, err := sys.Call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&t)), 0)
	return err
}

// tick has the guest meet its host at times that the host chooses.
func (a *Agent) tick() error {
	fd, err := a.cfg.OpenPacePort()
	if errors.Is(err, unix.EBUSY) {
		return nil // the ticker has it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.execs.Tick(fd)
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

// randomAttempts is how often the position in the random device's blocks is looked for.
// Another reader may get in between.
const randomAttempts = 8

// readRandomDevice reads and drops what the drivers of the random device hold: the hwrng
// core keeps the rest of a block, and the driver of virtio-rng one more. With a block, which
// the device gives to every request, it reads on to the end of one. A guest without such a
// device, or with another one, is left alone.
func (a *Agent) readRandomDevice(block []byte) {
	dev, path := a.cfg.Dev, "hwrng"
	if dev == 0 {
		dev, path = unix.AT_FDCWD, "/dev/hwrng"
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return
	}
	fd, err := sys.Call(unix.SYS_OPENAT, uintptr(dev), uintptr(unsafe.Pointer(name)), unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return
	}
	defer func() { _, _ = sys.Call(unix.SYS_CLOSE, fd, 0, 0) }()
	var buf [2 * coreBuffer]byte
	if !readRandom(fd, buf[:]) {
		return
	}
	for range randomAttempts {
		if len(block) < coreBuffer {
			return
		}
		if !readRandom(fd, buf[:probeLen]) {
			return
		}
		if left, ok := leftInBlock(block[:coreBuffer], buf[:probeLen]); ok {
			readRandom(fd, buf[:left])
			return
		}
		if !readRandom(fd, buf[:]) {
			return
		}
	}
}

// coreBuffer is how many bytes the hwrng core of Linux takes from a driver at a time, on
// this architecture; probeLen is how many show the position in them.
const (
	coreBuffer = 64
	probeLen   = 8
)

func readRandom(fd uintptr, p []byte) bool {
	for len(p) > 0 {
		n, err := sys.Call(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

// leftInBlock returns how many bytes of a block the hwrng core still holds, by the last
// bytes that were read from it. Each read returns the last bytes that are left of a block,
// in order.
func leftInBlock(block, got []byte) (left int, ok bool) {
	n := len(block)
	for had := range n {
		// The rest of one block first, then the end of the next.
		first := min(had, len(got))
		left = had - first
		want := append([]byte{}, block[left:had]...)
		if rest := len(got) - first; rest > 0 {
			left = n - rest
			want = append(want, block[left:]...)
		}
		if bytes.Equal(want, got) {
			return left, true
		}
	}
	return 0, false
}
