package hostfault

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

// answer is a statement that ends the filter.
func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: value}
}

// unless are the low halves of an argument with which a call is not stopped.
type unless struct {
	arg   int
	test  uint16
	value uint32
	not   bool // stop it only then
}

var exceptions = map[int]unless{
	unix.SYS_MMAP:  {arg: 4, test: unix.BPF_JEQ, value: 0xffffffff},         // no file
	unix.SYS_CLONE: {arg: 0, test: unix.BPF_JSET, value: unix.CLONE_THREAD}, // a thread
	unix.SYS_FCNTL: {arg: 1, test: unix.BPF_JEQ, value: unix.F_DUPFD_CLOEXEC, not: true},
}

// program returns the filter: the calls of the table wait for an answer, all others pass.
func program() []unix.SockFilter {
	p := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), answer(unix.SECCOMP_RET_ALLOW),
		load(dataNr),
	}
	for _, nr := range slices.SortedFunc(maps.Keys(calls), cmp.Compare[int]) {
		e, special := exceptions[nr]
		if !special {
			p = append(p, jump(unix.BPF_JEQ, uint32(nr), 0, 1), answer(unix.SECCOMP_RET_USER_NOTIF))
			continue
		}
		yes, no := answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_USER_NOTIF)
		if e.not {
			yes, no = no, yes
		}
		p = append(p, jump(unix.BPF_JEQ, uint32(nr), 0, 4), load(dataArgs+8*uint32(e.arg)),
			jump(e.test, e.value, 0, 1), yes, no)
	}
	return append(p, answer(unix.SECCOMP_RET_ALLOW))
}

// install puts the filter over all threads of this process, and returns the descriptor
// where its calls are answered.
func install() (listener int, err error) {
	p := program()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("host faults: no_new_privs: %w", err)
	}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
		unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("host faults: seccomp filter: %w", errors.Join(ErrUnsupported, errno))
	}
	return int(fd), nil
}

// ErrUnsupported is returned where the kernel does not let a process answer the calls of
// another.
var ErrUnsupported = errors.New("the kernel has no seccomp user notification")
