package qemu

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VsockOption is the word on the kernel's command line that has the agent serve on vsock,
// and not on its port.
const VsockOption = "provium.transport=vsock"

// VsockDevice is the host's device for guests with vsock.
const VsockDevice = "/dev/vhost-vsock"

// setGuestCID is the ioctl VHOST_VSOCK_SET_GUEST_CID.
const setGuestCID = 0x4008af60

// Context ids that guests may have. The first ones are the hypervisor's and the host's.
const (
	firstCID = 3
	lastCID  = 1<<32 - 2
)

// vsock is a guest's place on the host's vsock.
type vsock struct {
	cid    uint32
	device *os.File // holds the CID
}

// openVsock takes a CID that no other guest of the host has; first is tried first.
func openVsock(first uint32) (*vsock, error) {
	f, err := os.OpenFile(VsockDevice, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("qemu vsock: %w", err)
	}
	cid, err := takeCID(first, func(cid uint32) error {
		wanted := uint64(cid)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), setGuestCID, uintptr(unsafe.Pointer(&wanted)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("qemu vsock: %w", err)
	}
	return &vsock{cid, f}, nil
}

// takeCID returns the first CID from first on that take accepts.
func takeCID(first uint32, take func(cid uint32) error) (uint32, error) {
	const tries = 1000
	cid := max(first, firstCID)
	for range tries {
		err := take(cid)
		if err == nil || !errors.Is(err, unix.EADDRINUSE) {
			return cid, err
		}
		if cid++; cid > lastCID {
			cid = firstCID
		}
	}
	return 0, fmt.Errorf("no free guest CID among %d", tries)
}
