package boot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// sayAfter and rootLimit are how many seconds without any new device pass until the console says what
	// is waited for, and until the root device counts as absent.
	sayAfter  = 2
	rootLimit = 10
	// portLimit is the same for the port of a guest in which nothing else loads drivers, and imageLimit of one
	// whose image has an init of its own, which may.
	portLimit  = 10
	imageLimit = 30
)

// wait is a wait for a device that the kernel announces. Seconds count only while no device comes, and a
// guest that did not run meanwhile counts one for the whole time.
type wait struct {
	what  string        // is waited for
	limit int           // seconds; 0: for ever
	there func() string // what there is instead, for people
	say   func(error)

	quiet int
	said  string // the latest
}

// second counts one second in which no device has come. It returns an error at the limit.
func (w *wait) second() error {
	w.quiet++
	switch {
	case w.limit > 0 && w.quiet >= w.limit:
		return fmt.Errorf("%s has not appeared for %d s in which no device came; %s", w.what, w.quiet, w.there())
	case w.quiet >= sayAfter:
		if text := fmt.Sprintf("waiting for %s; %s", w.what, w.there()); text != w.said {
			w.said = text
			w.say(errors.New(text))
		}
	}
	return nil
}

// came records that a device has come.
func (w *wait) came() { w.quiet = 0 }

// until calls found until it reports true or fails, now and when the kernel has announced devices.
func (w *wait) until(found func() (bool, error)) error {
	// Listening comes before looking, so that nothing falls in between.
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	if err := unix.SetsockoptTimeval(events, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	message := make([]byte, 8<<10)
	for {
		if ok, err := found(); ok || err != nil {
			return err
		}
		for quiet := true; quiet; {
			n, err := unix.Read(events, message)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				if err := w.second(); err != nil {
					return err
				}
			case err == unix.ENOBUFS: // something was missed, and looking again finds it
				quiet = false
			case err != nil:
				return fmt.Errorf("listen for devices: %w", err)
			default:
				if strings.HasPrefix(string(message[:n]), "add@") {
					w.came()
				}
				quiet = false
			}
		}
	}
}

// blockDevices lists the block devices that the kernel has, for people.
func (s *System) blockDevices() string { return s.classMembers("class/block", "block devices") }

// virtioPorts lists the virtio-serial ports that the kernel has, for people.
func (s *System) virtioPorts() string {
	return s.classMembers("class/virtio-ports", "virtio-serial ports") +
		"; is the driver virtio_console in the kernel, or among the modules?"
}

// classMembers lists the members of a class of devices.
func (s *System) classMembers(class, what string) string {
	const most = 20
	var names []string
	if fd, err := unix.Openat(s.sys, class, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		d := os.NewFile(uintptr(fd), class)
		names, _ = d.Readdirnames(-1)
		d.Close()
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		names = []string{"none"}
	case len(names) > most:
		names = append(names[:most], "...")
	}
	return what + ": " + strings.Join(names, ", ")
}
