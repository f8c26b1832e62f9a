package file

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/portable"
	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// mayCall reports whether a system call is one of those that change or describe files
// by their paths.
func mayCall(nr int64) bool {
	switch nr {
	case wire.CallFchmodat, wire.CallFchownat, wire.CallSymlinkat, wire.CallReadlinkat, wire.CallLinkat,
		wire.CallMknodat, wire.CallTruncate, wire.CallGetxattr, wire.CallLgetxattr, wire.CallSetxattr,
		wire.CallLsetxattr, wire.CallMount, wire.CallUmount2:
		return true
	}
	return false
}

// maxCallBytes bounds the buffers of a call: a path, a name and an attribute, or the
// four texts of a mount.
const maxCallBytes = 256 << 10

// Call makes a system call on files with the credentials of the agent. Where the request
// does not carry its last buffer, that is for a result, as long as the call returns: the
// answer has it and no other buffer.
func Call(o *session.Op, r *wire.Syscall, body *session.Body) (wire.Value, error) {
	if !r.Portable || !mayCall(r.Nr) || r.Async || len(r.Nested) > 0 {
		return nil, &wire.Error{Text: fmt.Sprintf("the agent makes no system call %d", r.Nr)}
	}
	makesNode := r.Nr == wire.CallMknodat
	if err := portable.Call(r); err != nil {
		return nil, err
	}
	data, err := body.All(maxCallBytes)
	if err != nil {
		return nil, err
	}
	var sum uint64
	for _, n := range r.Lens {
		sum += n
	}
	if sum > maxCallBytes || uint64(len(data)) > sum {
		return nil, &wire.Error{Text: fmt.Sprintf("%d bytes for buffers of %d, at most %d are possible", len(data), sum,
			maxCallBytes)}
	}
	var args [wire.MaxArgs]uintptr
	for i, a := range r.Args {
		args[i] = uintptr(a)
	}
	mem := make([]byte, sum+1) // an empty buffer at the end has an address, too
	copy(mem, data)
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&mem[0])
	starts := make([]uint64, len(r.Lens))
	last := uint64(0)
	for i, n := range r.Lens {
		starts[i], last = last, last+n
	}
	for i := 0; i+1 < len(r.Ptrs); i += 2 {
		slot, buf := r.Ptrs[i], r.Ptrs[i+1]
		if slot >= wire.MaxArgs || buf >= uint64(len(starts)) {
			return nil, &wire.Error{Text: fmt.Sprintf("argument %d has no buffer %d", slot, buf)}
		}
		args[slot] = uintptr(unsafe.Pointer(&mem[starts[buf]]))
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
	runtime.KeepAlive(mem)
	if err == context.Canceled {
		return nil, err
	}
	if v.Errno == 0 && makesNode && r.ExactMode {
		// The umask belongs to the whole process, and must stay.
		if err := unix.Chmod(cText(mem), uint32(args[2])&0o7777); err != nil {
			return nil, err
		}
	}
	if v.Errno == 0 && uint64(len(data)) < sum {
		from := starts[len(starts)-1]
		v.Data = mem[from:min(from+uint64(max(v.Ret, 0)), sum)]
	}
	return v, nil
}

// cText returns the text that begins p, up to a NUL.
func cText(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}
