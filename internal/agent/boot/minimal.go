package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts is what the minimal init mounts where the kernel has it.
var mounts = [...]struct {
	fs, path, options string
	flags             uintptr
}{
	{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
	{"devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmpfs", "/run", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmpfs", "/tmp", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"cgroup2", "/sys/fs/cgroup", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"tracefs", "/sys/kernel/tracing", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

var deviceLinks = [...]struct{ target, path string }{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

// minimal sets up the system of an image without an init of its own. What
// fails is reported together: a guest without cgroups is still a guest.
func minimal() error {
	var failed []error
	for _, m := range mounts {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			// Below /sys there is no place for what the kernel lacks.
			if !strings.HasPrefix(m.path, "/sys/") {
				failed = append(failed, fmt.Errorf("mount %s: %w", m.path, err))
			}
			continue
		}
		if mountPoint(m.path) {
			continue // by who was PID 1 before
		}
		err := unix.Mount(m.fs, m.path, m.fs, m.flags, m.options)
		if err != nil && err != unix.ENODEV && err != unix.EBUSY {
			failed = append(failed, fmt.Errorf("mount %s: %w", m.path, err))
		}
	}
	for _, l := range deviceLinks {
		if err := os.Symlink(l.target, l.path); err != nil && !os.IsExist(err) {
			failed = append(failed, err)
		}
	}
	if err := loopbackUp(); err != nil {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// mountPoint reports whether something is mounted at a directory.
func mountPoint(dir string) bool {
	var st, parent unix.Stat_t
	return unix.Lstat(dir, &st) == nil && unix.Lstat(path.Dir(dir), &parent) == nil && st.Dev != parent.Dev
}

// setHostname applies the image's or the boot files' /etc/hostname.
func setHostname() error {
	name := firstLine(unix.AT_FDCWD, "/etc/hostname")
	if name = strings.TrimSpace(name); name == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname %q: %w", name, err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if err == unix.EAFNOSUPPORT {
			return nil
		}
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err == nil {
		req.SetUint16(req.Uint16() | unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}
	if err != nil && err != unix.ENODEV {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
