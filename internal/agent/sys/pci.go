package sys

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// RescanPCI has the kernel look for devices that have come, where nothing tells it of them:
// on x86-64 the firmware's tables do. sysfs is a descriptor of the root of sysfs, 0 is /sys.
func RescanPCI(sysfs int) error {
	if runtime.GOARCH == "amd64" {
		return nil
	}
	name := "bus/pci/rescan"
	if sysfs == 0 {
		sysfs, name = unix.AT_FDCWD, "/sys/"+name
	}
	fd, err := unix.Openat(sysfs, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil // a kernel without PCI
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return err
}
