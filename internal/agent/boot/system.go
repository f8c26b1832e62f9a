package boot

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// System holds descriptors of the kernel's pseudo file systems. They are
// mounts of the agent's own, attached nowhere: whatever an init mounts, moves
// or unmounts cannot take them away, and finds nothing mounted before it.
type System struct {
	proc, sys, dev int
	oom            int // /proc/self/oom_score_adj, -1 when it cannot be had
	comm           int // /proc/1/comm, likewise

	mu   sync.Mutex   // serialises changes of the root directory
	root sys.Identity // where the agent is
	// settled is true when PID 1 will not leave the root directory: it has left the
	// initramfs, or was never there.
	settled atomic.Bool
	// minimal is true when PID 1 is the small init that comes with the agent, and was told so by it.
	minimal atomic.Bool

	commands Commands // of the userland
}

// Open mounts what a System needs, if the process may, and exempts the process from the
// OOM killer.
func Open() (*System, error) {
	s := &System{oom: -1, comm: -1}
	for _, m := range []struct {
		fs, place string
		fd        *int
	}{{"proc", "/proc", &s.proc}, {"sysfs", "/sys", &s.sys}, {"devtmpfs", "/dev", &s.dev}} {
		fd, err := detached(m.fs)
		if os.IsPermission(err) {
			// Another user than root may not mount, and has those of the guest.
			fd, err = unix.Open(m.place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.fs, err)
		}
		*m.fd = fd
	}
	if fd, err := unix.Openat(s.proc, "self/oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		s.oom = fd
		s.exempt()
	}
	if fd, err := unix.Openat(s.proc, "1/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		s.comm = fd
	}
	id, err := sys.Identify(s.proc, "self/root")
	if err != nil {
		return nil, fmt.Errorf("stat /: %w", err)
	}
	s.root = id
	var fs unix.Statfs_t
	s.settled.Store(unix.Statfs("/", &fs) == nil && !sys.InMemory(&fs))
	return s, nil
}

// detached mounts a file system without a place and returns its root.
func detached(fs string) (int, error) {
	fd, err := unix.Fsopen(fs, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return detachedByPath(fs)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, err
	}
	return unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
}

// detachedByPath is for kernels before 5.2: it mounts in a place for a moment.
func detachedByPath(fs string) (int, error) {
	place := dir + "/mount"
	if err := os.MkdirAll(place, 0o700); err != nil {
		return -1, err
	}
	if err := unix.Mount(fs, place, fs, 0, ""); err != nil {
		return -1, err
	}
	fd, err := unix.Open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if e := unix.Unmount(place, unix.MNT_DETACH); err == nil && e != nil {
		unix.Close(fd)
		err = e
	}
	return fd, err
}

func (s *System) exempt() { s.setOOM("-1000") }

// setOOM is called around the start of every executor and does not block: the
// scheduler needs not be told, and its monitor thread, which would take the
// processor from the starting program, stays asleep.
func (s *System) setOOM(value string) {
	_, _, _ = unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(s.oom),
		uintptr(unsafe.Pointer(unsafe.StringData(value))), uintptr(len(value)), 0, 0, 0)
}

// Shield lets a child be forked that is not exempt from the OOM killer: the
// value is inherited, and nothing of ours runs in the child before its program
// does. The agent itself is unprotected until restore is called; being small,
// it would be the killer's last choice even then.
func (s *System) Shield() (restore func()) {
	if s.oom < 0 {
		return func() {}
	}
	s.setOOM("0")
	return s.exempt
}

// Follow has the process work in PID 1's root directory, which is another one
// once init has switched to it; moved tells that it was. While PID 1 empties the
// initramfs to leave it, Follow waits for the next root directory. It costs one system
// call when nothing changed, two in an initramfs.
func (s *System) Follow(ctx context.Context) (moved bool, err error) {
	for {
		leaving := s.isLeaving() // before the look: it may have left since
		if moved, err = s.follow(); moved || err != nil || !leaving {
			return moved, err
		}
		select {
		case <-ctx.Done():
			return false, context.Canceled
		case <-time.After(time.Millisecond):
		}
	}
}

// RootMoves reports whether Follow has something to do while PID 1 leaves the initramfs.
func (s *System) RootMoves() bool {
	if s.settled.Load() {
		return false
	}
	if s.isLeaving() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := sys.Identify(s.proc, "1/root")
	return err == nil && id != s.root
}

// isLeaving reports whether PID 1 is a program that empties the initramfs, moves the next
// root directory in its place and executes the init that is there: klibc's run-init, or a
// switch_root.
func (s *System) isLeaving() bool {
	if s.settled.Load() || s.comm < 0 {
		return false
	}
	var p [16]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(s.comm), uintptr(unsafe.Pointer(&p[0])),
		uintptr(len(p)), 0, 0, 0)
	if errno != 0 {
		return false
	}
	name := strings.TrimSuffix(string(p[:n]), "\n")
	if name == "busybox" || name == "toybox" { // its first argument may be the program
		if words := strings.Split(firstLine(s.proc, "1/cmdline"), "\x00"); len(words) > 1 {
			name = words[1]
		}
	}
	return name == "run-init" || name == "switch_root"
}

// follow moves the process to PID 1's root directory unless it is there.
func (s *System) follow() (moved bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := sys.Identify(s.proc, "1/root")
	if err != nil || id == s.root {
		// Without permission to look (another user's PID 1 in a container)
		// the agent stays where it is.
		return false, nil
	}
	fd, err := unix.Openat(s.proc, "1/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("follow init: open its root: %w", err)
	}
	defer unix.Close(fd)
	if err := enter(fd); err != nil {
		return false, fmt.Errorf("follow init: %w", err)
	}
	s.root = id
	s.settled.Store(true)
	return true, nil
}

// enter makes the directory fd the process's root.
func enter(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("change directory: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return unix.Chdir("/")
}

// DevNull opens /dev/null for reading.
func (s *System) DevNull() (int, error) {
	return unix.Openat(s.dev, "null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// Program opens the file that the process executes, to execute it again.
func (s *System) Program() (int, error) {
	return unix.Openat(s.proc, "self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// Random opens /dev/urandom for reading and writing.
func (s *System) Random() (int, error) {
	return unix.Openat(s.dev, "urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
}

// Mounts opens the table of mounts, whose descriptor can be polled for changes.
func (s *System) Mounts() (int, error) {
	return unix.Openat(s.proc, "self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// Dev is a descriptor of the directory of devices. It is the System's.
func (s *System) Dev() int { return s.dev }

// Proc is a descriptor of the root of procfs, Sys one of sysfs. They are the
// System's.
func (s *System) Proc() int { return s.proc }

// Sys is a descriptor of the root of sysfs.
func (s *System) Sys() int { return s.sys }

// BootID is the kernel's identifier of this boot.
func (s *System) BootID() string {
	return firstLine(s.proc, "sys/kernel/random/boot_id")
}

// OS names the kernel: "linux" and its release.
func (s *System) OS() string {
	return "linux " + firstLine(s.proc, "sys/kernel/osrelease")
}

// firstLine reads a small file, "" when that fails.
func firstLine(at int, path string) string {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	p := make([]byte, 4096)
	n, err := unix.Read(fd, p)
	if err != nil {
		return ""
	}
	for i, c := range p[:n] {
		if c == '\n' {
			return string(p[:i])
		}
	}
	return string(p[:n])
}
