package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

const diskLinks = "disk/by-id" // below /dev

// diskKind is one kind of disks that QEMU has.
type diskKind struct {
	device string // beginning of the kernel's name
	link   string // beginning of the link, as device managers name it
	serial string // file with the serial number, below the device in /sys/block
	header int    // bytes in front of it
}

// diskKinds are those that are linked.
var diskKinds = []diskKind{
	{"vd", "virtio-", "serial", 0},
	{"sd", "scsi-0QEMU_QEMU_HARDDISK_", "device/vpd_pg80", 4},
	{"nvme", "nvme-QEMU_NVMe_Ctrl_", "device/serial", 0},
}

// kindOf returns the kind of the disk with that name of the kernel's, nil for others.
func kindOf(name string) *diskKind {
	for i := range diskKinds {
		if strings.HasPrefix(name, diskKinds[i].device) {
			return &diskKinds[i]
		}
	}
	return nil
}

// LinkDisks creates the links in /dev/disk/by-id for the disks that the kernel
// has, as a device manager would, and removes those of disks that are gone. It is
// for guests without a device manager; one that comes later makes the same.
func (s *System) LinkDisks() error {
	disks, err := s.disks()
	if err != nil {
		return err
	}
	s.dropLinks(disks)
	for serial, name := range disks {
		if err := s.linkDisk(serial, name); err != nil {
			return fmt.Errorf("link disk %s: %w", serial, err)
		}
	}
	return nil
}

// disks are the kernel names of disks by serial number.
func (s *System) disks() (map[string]string, error) {
	fd, err := unix.Openat(s.sys, "block", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil // a kernel without block devices
	}
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	dir := os.NewFile(uintptr(fd), "/sys/block")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	found := map[string]string{}
	for _, name := range names {
		kind := kindOf(name)
		if kind == nil {
			continue
		}
		serial := firstLine(fd, name+"/"+kind.serial)
		serial = strings.TrimSpace(serial[min(kind.header, len(serial)):])
		if serial != "" && serial != "." && serial != ".." && !strings.ContainsRune(serial, '/') {
			found[serial] = name
		}
	}
	return found, nil
}

func (s *System) linkDisk(serial, name string) error {
	for _, dir := range []string{path.Dir(diskLinks), diskLinks} {
		if err := unix.Mkdirat(s.dev, dir, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	}
	link, target := diskLinks+"/"+kindOf(name).link+serial, "../../"+name
	if s.readLink(link) == target {
		return nil
	}
	if err := unix.Unlinkat(s.dev, link, 0); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Symlinkat(target, s.dev, link); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

func (s *System) readLink(link string) string {
	buf := make([]byte, 256)
	n, err := unix.Readlinkat(s.dev, link, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// dropLinks removes links to devices that are gone.
func (s *System) dropLinks(disks map[string]string) {
	fd, err := unix.Openat(s.dev, diskLinks, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), diskLinks)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		target := strings.TrimPrefix(s.readLink(diskLinks+"/"+name), "../../")
		kind := kindOf(target)
		if kind == nil {
			continue
		}
		serial, ours := strings.CutPrefix(name, kind.link)
		if ours && disks[serial] == "" {
			_ = unix.Unlinkat(s.dev, diskLinks+"/"+name, 0)
		}
	}
}

// AwaitDisk returns when the kernel has, or with gone has no more, the disk
// with that serial number on a bus, with its link in order. It fails at once where the driver
// for that bus is missing.
func (s *System) AwaitDisk(ctx context.Context, serial, bus string, gone bool) error {
	// The kernel's announcements are listened to before the first look, so that
	// none is missed.
	events, err := listenDevices()
	if err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	defer events.Close()
	// A past deadline rather than closing: the descriptor's number stays taken.
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 16<<10)
	for looked := gone; ; {
		disks, err := s.disks()
		if err != nil {
			return err
		}
		if disks[serial] == "" && !looked {
			looked = true
			if err := sys.RescanPCI(s.sys); err != nil {
				return fmt.Errorf("look for disk %s: %w", serial, err)
			}
			continue
		}
		if name := disks[serial]; (name == "") == gone && (gone || s.opens(name)) {
			return s.LinkDisks()
		}
		if err := s.missingDriver(bus); err != nil && !gone {
			return err
		}
		for {
			n, err := events.Read(buf)
			if ctx.Err() != nil {
				return context.Canceled
			}
			if errors.Is(err, unix.ENOBUFS) {
				break // some were lost: look again
			}
			if err != nil {
				return fmt.Errorf("listen for devices: %w", err)
			}
			if strings.Contains(string(buf[:n]), "SUBSYSTEM=block\x00") {
				break
			}
		}
	}
}

// opens reports whether a device that the kernel lists can be used already; its
// announcement comes after that.
func (s *System) opens(name string) bool {
	fd, err := unix.Openat(s.dev, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// listenDevices opens the kernel's announcements of devices.
func listenDevices() (*os.File, error) {
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	const kernelGroup = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}
