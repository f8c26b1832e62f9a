package file

import (
	"context"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// mayCall reports whether a system call is one of those that change or describe files
// by their paths.
func mayCall(nr int64) bool {
	switch nr {
	case unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_SYMLINK, unix.SYS_READLINK, unix.SYS_LINK,
		unix.SYS_MKNOD, unix.SYS_TRUNCATE, unix.SYS_GETXATTR, unix.SYS_LGETXATTR, unix.SYS_SETXATTR,
		unix.SYS_LSETXATTR, unix.SYS_MOUNT, unix.SYS_UMOUNT2:
		return true
	}
	return false
}

// Call makes a system call on files with the credentials of the agent.
func Call(o *session.Op, r *wire.Syscall, body *session.Body) (wire.Value, error) {
	if !mayCall(r.Nr) || r.Async || len(r.Nested) > 0 {
		return nil, &wire.Error{Text: fmt.Sprintf("the agent makes no system call %d", r.Nr)}
	}
	data, err := body.All(wire.MaxCallData)
	if err != nil {
		return nil, err
	}
	var args [wire.MaxArgs]uintptr
	for i, a := range r.Args {
		args[i] = uintptr(a)
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	starts := make([]int, len(r.Lens))
	at := 0
	for i, n := range r.Lens {
		if n > uint64(len(data)-at) {
			return nil, &wire.Error{Text: fmt.Sprintf("%d bytes for %d buffers", len(data), len(r.Lens))}
		}
		starts[i] = at
		at += int(n)
	}
	data = append(data, 0) // an empty buffer at the end has an address, too
	pins.Pin(&data[0])
	for i := 0; i+1 < len(r.Ptrs); i += 2 {
		slot, buf := r.Ptrs[i], r.Ptrs[i+1]
		if slot >= wire.MaxArgs || buf >= uint64(len(starts)) {
			return nil, &wire.Error{Text: fmt.Sprintf("argument %d has no buffer %d", slot, buf)}
		}
		args[slot] = uintptr(unsafe.Pointer(&data[starts[buf]]))
	}
	in := sys.NewInterruptible(o.Context())
	defer in.Close()
	v := &wire.SyscallValue{}
	err = in.Do(func() error {
		ret, _, errno := unix.Syscall6(uintptr(r.Nr), args[0], args[1], args[2], args[3], args[4], args[5])
		if v.Ret, v.Errno = int64(ret), uint32(errno); errno != 0 {
			return errno
		}
		return nil
	})
	runtime.KeepAlive(data)
	if err == context.Canceled {
		return nil, err
	}
	v.Data = data[:at]
	return v, nil
}
