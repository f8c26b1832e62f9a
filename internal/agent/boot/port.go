package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PortName is the name of the virtio-serial port that is the agent link.
const PortName = "org.provium.agent"

// Port is the open agent link. One goroutine may read while others, one at a
// time, write. Its descriptor blocks: a thread waits in the read, which costs
// fewer system calls per message than polling, and no poll competes with a
// waiting writer for the wake-up (which in some kernels loses it).
type Port struct {
	fd    int
	epoll atomic.Int32 // descriptor, 0 until the host was away for the first time
}

// OpenPort finds the port, waiting for the kernel to announce it if it is not
// there yet, and opens it.
func (s *System) OpenPort() (*Port, error) {
	// Listening comes before looking, so that nothing falls in between.
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	message := make([]byte, 8<<10)
	for {
		name, err := s.findPort()
		if err != nil {
			return nil, err
		}
		if name != "" {
			fd, err := unix.Openat(s.dev, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open port %s: %w", name, err)
			}
			return &Port{fd: fd}, nil
		}
		err = retry(func() error {
			_, err := unix.Read(events, message)
			return err
		})
		// After an overrun something was missed, and looking again finds it.
		if err != nil && err != unix.ENOBUFS {
			return nil, fmt.Errorf("listen for devices: %w", err)
		}
	}
}

// findPort looks for the port by its name; "" when it is not there.
func (s *System) findPort() (string, error) {
	const class = "class/virtio-ports"
	fd, err := unix.Openat(s.sys, class, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return "", nil // the driver is not loaded yet
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", class, err)
	}
	d := os.NewFile(uintptr(fd), class)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", class, err)
	}
	for _, n := range names {
		if firstLine(fd, n+"/name") == PortName {
			return n, nil
		}
	}
	return "", nil
}

// Read reads what is there, waiting for something. It gives io.EOF while no
// host is connected; AwaitHost then waits for one.
func (p *Port) Read(b []byte) (n int, err error) {
	err = retry(func() error {
		n, err = unix.Read(p.fd, b)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read port: %w", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of b, waiting for the host as long as it takes.
func (p *Port) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(p.fd, b[done:])
			return err
		})
		if err != nil {
			return done, fmt.Errorf("write port: %w", err)
		}
		done += n
	}
	return done, nil
}

// AwaitHost returns when the state of the connection has changed since the
// last call. It is for the reader, after io.EOF.
func (p *Port) AwaitHost() error {
	fd := int(p.epoll.Load())
	if fd == 0 {
		var err error
		if fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return fmt.Errorf("await host: %w", err)
		}
		// Edge-triggered: a port without a host is readable (its end) and hung
		// up all the time, and only the change is of interest.
		e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET}
		if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.fd, &e); err != nil {
			unix.Close(fd)
			return fmt.Errorf("await host: %w", err)
		}
		p.epoll.Store(int32(fd))
	}
	var events [1]unix.EpollEvent
	if err := retry(func() error {
		_, err := unix.EpollWait(fd, events[:], -1)
		return err
	}); err != nil {
		return fmt.Errorf("await host: %w", err)
	}
	return nil
}

// Close closes the port.
func (p *Port) Close() error {
	var err error
	if fd := int(p.epoll.Load()); fd != 0 {
		err = unix.Close(fd)
	}
	return errors.Join(err, unix.Close(p.fd))
}
