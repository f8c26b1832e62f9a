// Package portable translates the system calls that operations of the host are made of,
// which have the same numbers for every guest, to those of the agent's architecture.
//
// It makes no call, and does not look at the calls of tests, which have the guest's own
// numbers. Start reading at Call.
package portable

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

var numbers = map[int64]int64{
	wire.CallRead:            unix.SYS_READ,
	wire.CallWrite:           unix.SYS_WRITE,
	wire.CallClose:           unix.SYS_CLOSE,
	wire.CallLseek:           unix.SYS_LSEEK,
	wire.CallIoctl:           unix.SYS_IOCTL,
	wire.CallGetpid:          unix.SYS_GETPID,
	wire.CallFcntl:           unix.SYS_FCNTL,
	wire.CallTruncate:        unix.SYS_TRUNCATE,
	wire.CallFtruncate:       unix.SYS_FTRUNCATE,
	wire.CallFchmod:          unix.SYS_FCHMOD,
	wire.CallMount:           unix.SYS_MOUNT,
	wire.CallUmount2:         unix.SYS_UMOUNT2,
	wire.CallSetxattr:        unix.SYS_SETXATTR,
	wire.CallLsetxattr:       unix.SYS_LSETXATTR,
	wire.CallGetxattr:        unix.SYS_GETXATTR,
	wire.CallLgetxattr:       unix.SYS_LGETXATTR,
	wire.CallGetdents64:      unix.SYS_GETDENTS64,
	wire.CallOpenat:          unix.SYS_OPENAT,
	wire.CallMkdirat:         unix.SYS_MKDIRAT,
	wire.CallMknodat:         unix.SYS_MKNODAT,
	wire.CallFchownat:        unix.SYS_FCHOWNAT,
	wire.CallUnlinkat:        unix.SYS_UNLINKAT,
	wire.CallLinkat:          unix.SYS_LINKAT,
	wire.CallSymlinkat:       unix.SYS_SYMLINKAT,
	wire.CallReadlinkat:      unix.SYS_READLINKAT,
	wire.CallFchmodat:        unix.SYS_FCHMODAT,
	wire.CallProcessVMWritev: unix.SYS_PROCESS_VM_WRITEV,
	wire.CallRenameat2:       unix.SYS_RENAMEAT2,
	wire.CallStatx:           unix.SYS_STATX,
}

var openFlags = [...]struct{ from, to int64 }{
	{wire.OpenDirect, unix.O_DIRECT},
	{wire.OpenLargeFile, largeFile},
	{wire.OpenDirectory, unix.O_DIRECTORY},
	{wire.OpenNoFollow, unix.O_NOFOLLOW},
}

// largeFile is what unix.O_LARGEFILE would be: that constant is 0 on 64-bit machines,
// whose kernels set the flag by themselves.
const largeFile = 0

// openFlagsAt is the argument of openat that has the flags.
const openFlagsAt = 2

// Call translates a call of the host, in place. Calls without Portable stay as they are.
func Call(r *wire.Syscall) error {
	if !r.Portable || runtime.GOARCH == "amd64" {
		return nil
	}
	nr, ok := numbers[r.Nr]
	if !ok {
		return &wire.Error{Text: fmt.Sprintf("the agent knows no portable system call %d", r.Nr)}
	}
	if r.Nr == wire.CallOpenat && len(r.Args) > openFlagsAt {
		r.Args[openFlagsAt] = flags(r.Args[openFlagsAt])
	}
	r.Nr, r.Portable = nr, false
	return nil
}

// flags translates the flags of an open.
func flags(given int64) int64 {
	rest := given
	for _, f := range openFlags {
		rest &^= f.from
	}
	for _, f := range openFlags {
		if given&f.from != 0 {
			rest |= f.to
		}
	}
	return rest
}
