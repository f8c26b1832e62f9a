package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Retry repeats a call that a signal interrupted, such as the runtime's own.
func Retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Open opens a file, closed on exec.
func Open(path string, flags int, perm uint32) (fd int, err error) {
	err = Retry(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, perm)
		return err
	})
	return fd, err
}

// Read reads once. It may block.
func Read(fd int, p []byte) (n int, err error) {
	err = Retry(func() error {
		n, err = unix.Read(fd, p)
		return err
	})
	return max(n, 0), err
}

// ReadSmall returns the first 4 KiB of a file, which one read returns whole where
// the file is one of procfs.
func ReadSmall(path string) (string, error) {
	fd, err := Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	p := make([]byte, 4096)
	n, err := Read(fd, p)
	return string(p[:n]), err
}

// InMemory reports whether a file system keeps its files in memory.
func InMemory(fs *unix.Statfs_t) bool {
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
}

// DescriptorPath returns a path that leads to the open file of a descriptor.
func DescriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// Identity distinguishes one directory from another, also where the same file system
// is mounted twice.
type Identity struct {
	mount, ino   uint64
	major, minor uint32
}

// Identify returns the identity of what a path leads to, seen from the directory at. No
// file system that could block may be on the way.
func Identify(at int, path string) (Identity, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return Identity{}, err
	}
	var st unix.Statx_t
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(name)),
		unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return Identity{}, errno
	}
	return Identity{st.Mnt_id, st.Ino, st.Dev_major, st.Dev_minor}, nil
}
