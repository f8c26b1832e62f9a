package boot

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// awaitRoot waits for the device that root= names, as awaitBlockDevice.
func (s *System) awaitRoot(root string, forever bool, say func(error)) (node string, err error) {
	match, err := rootMatcher(root)
	if err != nil {
		return "", err
	}
	return s.awaitBlockDevice("root="+root, match, forever, say)
}

// awaitBlockDevice waits for a device, makes a node for it and returns that one's path.
// With forever it waits as long as the host lets it; else until no device has come for a while.
func (s *System) awaitBlockDevice(what string, match func(map[string]string) bool, forever bool,
	say func(error)) (node string, err error) {
	w := wait{what: what, limit: rootLimit, there: s.blockDevices, say: say}
	if forever {
		w.limit = 0
	}
	err = w.until(func() (bool, error) {
		major, minor, found, err := s.findBlockDevice(match)
		if !found || err != nil {
			return false, err
		}
		node = dir + "/rootdev"
		_ = os.Remove(node)
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			return false, fmt.Errorf("make node of %s: %w", what, err)
		}
		return true, nil
	})
	return node, err
}

// rootMatcher understands root=; the returned function gets a device's uevent
// properties.
func rootMatcher(root string) (func(map[string]string) bool, error) {
	property := func(name, want string, fold bool) func(map[string]string) bool {
		return func(p map[string]string) bool {
			return p[name] == want || fold && strings.EqualFold(p[name], want)
		}
	}
	if name, ok := strings.CutPrefix(root, "/dev/"); ok {
		return property("DEVNAME", name, false), nil
	}
	if uuid, ok := strings.CutPrefix(root, "PARTUUID="); ok {
		return property("PARTUUID", uuid, true), nil
	}
	if label, ok := strings.CutPrefix(root, "PARTLABEL="); ok {
		return property("PARTNAME", label, false), nil
	}
	if a, b, ok := strings.Cut(root, ":"); ok {
		if _, err := strconv.Atoi(a); err == nil {
			return func(p map[string]string) bool { return p["MAJOR"] == a && p["MINOR"] == b }, nil
		}
	}
	const known = "/dev/NAME, PARTUUID=, PARTLABEL= and MAJOR:MINOR"
	return nil, fmt.Errorf("root=%s: without an initrd only %s can be found", root, known)
}

// serialProperty is the serial number of a disk, which uevents do not have.
const serialProperty = "SERIAL"

func (s *System) findBlockDevice(match func(map[string]string) bool) (major, minor uint32, found bool, err error) {
	const class = "class/block"
	fd, err := unix.Openat(s.sys, class, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("open %s: %w", class, err)
	}
	d := os.NewFile(uintptr(fd), class)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, 0, false, fmt.Errorf("read %s: %w", class, err)
	}
	for _, n := range names {
		text, err := readAll(fd, n+"/uevent")
		if err != nil {
			continue // gone again
		}
		p := properties(text)
		if serial, err := readAll(fd, n+"/serial"); err == nil {
			p[serialProperty] = strings.TrimSpace(serial)
		}
		if !match(p) {
			continue
		}
		ma, err1 := strconv.ParseUint(p["MAJOR"], 10, 32)
		mi, err2 := strconv.ParseUint(p["MINOR"], 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(ma), uint32(mi), true, nil
		}
	}
	return 0, 0, false, nil
}

func properties(text string) map[string]string {
	p := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			p[k] = v
		}
	}
	return p
}

// readAll reads a file of at most 64 KiB.
func readAll(at int, path string) (string, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	p := make([]byte, 64<<10)
	n := 0
	for n < len(p) {
		k, err := unix.Read(fd, p[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if k == 0 {
			break
		}
		n += k
	}
	return string(p[:n]), nil
}
