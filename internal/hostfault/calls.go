package hostfault

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// target says what a call acts on, for its description and for Ignore.
type target int

const (
	nothing target = iota
	pathArg        // of the argument: a path
	fdArg          // of the argument: a descriptor
)

// call is a system call that can fail.
type call struct {
	name   string
	target target
	arg    int
	errnos []unix.Errno
}

// The ways in which groups of calls fail.
var (
	opens  = []unix.Errno{unix.EIO, unix.EMFILE, unix.ENOSPC, unix.ENOMEM, unix.EINTR}
	writes = []unix.Errno{unix.EIO, unix.ENOSPC, unix.EINTR}
	reads  = []unix.Errno{unix.EIO, unix.EINTR}
	names  = []unix.Errno{unix.EIO, unix.ENOSPC}
	stats  = []unix.Errno{unix.EIO, unix.ENOMEM}
	makes  = []unix.Errno{unix.EMFILE, unix.ENOMEM}
)

// calls are the calls that can fail, by number. Left out are those of the Go runtime that
// it cannot live without: anonymous memory, threads, its poller, its clocks.
var calls = map[int]call{
	unix.SYS_OPENAT:          {"openat", pathArg, 1, opens},
	unix.SYS_READ:            {"read", fdArg, 0, reads},
	unix.SYS_PREAD64:         {"pread64", fdArg, 0, reads},
	unix.SYS_WRITE:           {"write", fdArg, 0, writes},
	unix.SYS_PWRITE64:        {"pwrite64", fdArg, 0, writes},
	unix.SYS_WRITEV:          {"writev", fdArg, 0, writes},
	unix.SYS_FTRUNCATE:       {"ftruncate", fdArg, 0, writes},
	unix.SYS_FALLOCATE:       {"fallocate", fdArg, 0, writes},
	unix.SYS_FSYNC:           {"fsync", fdArg, 0, []unix.Errno{unix.EIO, unix.ENOSPC}},
	unix.SYS_SENDFILE:        {"sendfile", fdArg, 0, writes},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", fdArg, 2, writes},
	unix.SYS_LSEEK:           {"lseek", fdArg, 0, []unix.Errno{unix.EIO}},
	unix.SYS_FSTAT:           {"fstat", fdArg, 0, stats},
	unix.SYS_NEWFSTATAT:      {"newfstatat", pathArg, 1, stats},
	unix.SYS_GETDENTS64:      {"getdents64", fdArg, 0, []unix.Errno{unix.EIO, unix.ENOMEM}},
	unix.SYS_READLINKAT:      {"readlinkat", pathArg, 1, stats},
	unix.SYS_RENAMEAT:        {"renameat", pathArg, 1, names},
	unix.SYS_RENAMEAT2:       {"renameat2", pathArg, 1, names},
	unix.SYS_LINKAT:          {"linkat", pathArg, 1, names},
	unix.SYS_SYMLINKAT:       {"symlinkat", pathArg, 2, names},
	unix.SYS_UNLINKAT:        {"unlinkat", pathArg, 1, []unix.Errno{unix.EIO}},
	unix.SYS_MKDIRAT:         {"mkdirat", pathArg, 1, names},
	unix.SYS_FCHMODAT:        {"fchmodat", pathArg, 1, []unix.Errno{unix.EIO}},
	unix.SYS_UTIMENSAT:       {"utimensat", pathArg, 1, []unix.Errno{unix.EIO}},
	unix.SYS_FLOCK:           {"flock", fdArg, 0, []unix.Errno{unix.EINTR, unix.ENOLCK}},
	unix.SYS_FCNTL:           {"fcntl", fdArg, 0, []unix.Errno{unix.EMFILE, unix.ENOLCK}},
	unix.SYS_MMAP:            {"mmap", fdArg, 4, []unix.Errno{unix.ENOMEM, unix.EAGAIN}},
	unix.SYS_CLONE:           {"clone", nothing, 0, []unix.Errno{unix.EAGAIN, unix.ENOMEM}},
	unix.SYS_MEMFD_CREATE:    {"memfd_create", nothing, 0, makes},
	unix.SYS_PIPE2:           {"pipe2", nothing, 0, makes},
	unix.SYS_SOCKET:          {"socket", nothing, 0, makes},
	unix.SYS_SOCKETPAIR:      {"socketpair", nothing, 0, makes},
	unix.SYS_BIND:            {"bind", nothing, 0, []unix.Errno{unix.EADDRINUSE, unix.ENOMEM}},
	unix.SYS_LISTEN:          {"listen", nothing, 0, []unix.Errno{unix.ENOMEM}},
	// The sockets of Go do not block: the kernel never interrupts their connect. After EINTR Go
	// would wait for a connection that nobody makes.
	unix.SYS_CONNECT: {"connect", nothing, 0, []unix.Errno{unix.ECONNREFUSED, unix.EAGAIN, unix.ENOMEM}},
	unix.SYS_ACCEPT4: {"accept4", nothing, 0, makes},
	unix.SYS_SENDMSG: {"sendmsg", fdArg, 0, []unix.Errno{unix.ENOMEM, unix.EINTR}},
	unix.SYS_RECVMSG: {"recvmsg", fdArg, 0, []unix.Errno{unix.ENOMEM, unix.EINTR}},
}

// writes reports whether a disk that is slow delays the call.
func (c call) writes() bool {
	switch c.name {
	case "write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "sendfile", "copy_file_range", "renameat",
		"renameat2", "unlinkat", "mkdirat":
		return true
	}
	return false
}

// reads reports whether a disk that is slow delays the call of a program that only reads.
func (c call) reads() bool {
	switch c.name {
	case "openat", "read", "pread64", "mmap":
		return true
	}
	return false
}

// object returns what a stopped call acts on: a path, or a name like "socket" or "pipe"
// of what has none. It returns "" for calls that act on nothing named.
func (c call) object(tid int, args *[6]uint64) string {
	switch c.target {
	case pathArg:
		return readText(tid, args[c.arg])
	case fdArg:
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[c.arg])))
		if err != nil {
			return "?"
		}
		for _, kind := range []string{"socket", "pipe"} {
			if strings.HasPrefix(to, kind+":[") {
				return kind // without its number
			}
		}
		return to
	}
	return ""
}

// readText reads the string at an address of a stopped thread.
func readText(tid int, at uint64) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return "?"
	}
	defer f.Close()
	buf := make([]byte, 512)
	// A string near the end of a mapping cannot be read in one piece.
	n, err := f.ReadAt(buf[:min(len(buf), int(4096-at%4096))], int64(at))
	if err == nil && bytes.IndexByte(buf[:n], 0) < 0 && n < len(buf) {
		more, _ := f.ReadAt(buf[n:], int64(at)+int64(n))
		n += more
	}
	text, _, _ := bytes.Cut(buf[:n], []byte{0})
	return string(text)
}

// spared reports whether a call on an object is left alone: the runtime dies without its
// poller, by design, and what a process says about a fault must be heard.
func (c call) spared(object string, args *[6]uint64) bool {
	return strings.HasPrefix(object, "anon_inode:[event") || c.target == fdArg && args[c.arg] <= 2
}
