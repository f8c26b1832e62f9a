package guest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// FileCall is an operation on files that is one system call. The agent makes it with
// Client.FileCall or in a Batch, an executor with Client.Syscall.
type FileCall struct {
	op, path string // in errors
	call     Syscall
	answers  bool // the last buffer gets as many bytes of the result as the call returns
	lacks    unix.Errno
}

// Op returns the name of the operation, and the path that its errors name.
func (f FileCall) Op() (name, path string) { return f.op, f.path }

// Answers reports whether the operation answers with bytes.
func (f FileCall) Answers() bool { return f.answers }

// Call returns the system call for an executor.
func (f FileCall) Call() Syscall { return f.call }

// pathCall is a call with strings as its first arguments.
func pathCall(op, path string, nr int64, args [6]int64, texts ...string) FileCall {
	f := FileCall{op: op, path: path, call: Syscall{Nr: nr, Args: args, Portable: true}}
	for i, text := range texts {
		f = f.buffer(i, append([]byte(text), 0))
	}
	return f
}

// atCall is a call with a directory as its first argument, which is the working directory,
// and the path behind that.
func atCall(op, path string, nr int64, args ...int64) FileCall {
	f := pathCall(op, path, nr, [6]int64{unix.AT_FDCWD})
	copy(f.call.Args[2:], args)
	return f.buffer(1, append([]byte(path), 0))
}

// buffer adds a buffer at argument slot.
func (f FileCall) buffer(slot int, p []byte) FileCall {
	f.call.Bufs, f.call.Slots = append(f.call.Bufs, p), append(f.call.Slots, slot)
	return f
}

// ChmodCall sets the permission bits of a file.
func ChmodCall(path string, bits uint32) FileCall {
	return atCall("chmod", path, wire.CallFchmodat, int64(bits))
}

// ChownCall sets the owner and the group of a file; -1 leaves one as it is. Without
// follow it acts on a symbolic link itself.
func ChownCall(path string, uid, gid int64, follow bool) FileCall {
	var flags int64
	if !follow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	return atCall("chown", path, wire.CallFchownat, uid, gid, flags)
}

// SymlinkCall makes a symbolic link to target.
func SymlinkCall(target, path string) FileCall {
	f := pathCall("symlink", path, wire.CallSymlinkat, [6]int64{0, unix.AT_FDCWD}, target)
	return f.buffer(2, append([]byte(path), 0))
}

// ReadlinkCall answers with the target of a symbolic link.
func ReadlinkCall(path string) FileCall {
	f := atCall("readlink", path, wire.CallReadlinkat, 0, unix.PathMax)
	f.answers = true
	return f.buffer(2, make([]byte, unix.PathMax))
}

// LinkCall makes a further name of a file. A symbolic link is not followed.
func LinkCall(existing, path string) FileCall {
	f := pathCall("link", existing+" -> "+path, wire.CallLinkat, [6]int64{unix.AT_FDCWD, 0, unix.AT_FDCWD})
	return f.buffer(1, append([]byte(existing), 0)).buffer(3, append([]byte(path), 0))
}

// MknodCall makes a node; mode has its kind and its permission bits, which are exact.
func MknodCall(path string, mode, major, minor uint32) FileCall {
	f := atCall("mknod", path, wire.CallMknodat, int64(mode), int64(unix.Mkdev(major, minor)))
	f.call.ExactMode = true
	return f
}

// TruncateCall sets the size of a file.
func TruncateCall(path string, size int64) FileCall {
	return pathCall("truncate", path, wire.CallTruncate, [6]int64{0, size}, path)
}

// MaxXattr is the most bytes that Linux keeps in an extended attribute.
const MaxXattr = 64 << 10

// GetxattrCall answers with an extended attribute, and nil when the file does not have
// it.
func GetxattrCall(path, name string, follow bool) FileCall {
	nr := int64(wire.CallLgetxattr)
	if follow {
		nr = wire.CallGetxattr
	}
	f := pathCall("getxattr", path, nr, [6]int64{0, 0, 0, MaxXattr}, path, name)
	f.answers, f.lacks = true, unix.ENODATA
	return f.buffer(2, make([]byte, MaxXattr))
}

// SetxattrCall sets an extended attribute. The flags are the kernel's.
func SetxattrCall(path, name, value string, follow bool, flags int64) FileCall {
	nr := int64(wire.CallLsetxattr)
	if follow {
		nr = wire.CallSetxattr
	}
	f := pathCall("setxattr", path, nr, [6]int64{0, 0, 0, int64(len(value)), flags}, path, name)
	return f.buffer(2, []byte(value))
}

// MountCall attaches a file system; the flags and data are the kernel's.
func MountCall(source, target, fstype string, flags uint64, data string) FileCall {
	f := pathCall("mount", source+" -> "+target, wire.CallMount, [6]int64{0, 0, 0, int64(flags)},
		source, target, fstype)
	if data != "" {
		f = f.buffer(4, append([]byte(data), 0))
	}
	return f
}

// UmountCall detaches the file system on top of target; the flags are the kernel's.
func UmountCall(target string, flags int64) FileCall {
	return pathCall("umount", target, wire.CallUmount2, [6]int64{0, flags}, target)
}

// request returns the request for the agent. It does not carry the buffer for the
// result.
func (f FileCall) request() wire.Request {
	call := f.call
	call.Executor = FilesExecutor
	var lens []int
	if f.answers {
		last := len(call.Bufs) - 1
		lens = call.Lens()
		call.Bufs = append(append([][]byte{}, call.Bufs[:last]...), nil)
	}
	r, _ := call.request()
	for i, n := range lens {
		r.Lens[i] = uint64(n)
	}
	// At most a path or an attribute: far below what a request may have.
	r.Data = wire.Bulk{Inline: joined(call.Bufs)}
	return r
}

func joined(bufs [][]byte) (all []byte) {
	for _, b := range bufs {
		all = append(all, b...)
	}
	return all
}

// Result returns the bytes that the call has answered with, of which an executor has
// returned all buffers, and the agent those alone. It returns nil for an attribute that
// the file does not have, and an *OpError when the call has failed.
func (f FileCall) Result(r *SyscallResult) ([]byte, error) {
	switch {
	case f.lacks != 0 && r.Errno == int(f.lacks):
		return nil, nil
	case r.Errno != 0:
		return nil, ErrnoError(f.op, f.path, r.Errno)
	case !f.answers:
		return nil, nil
	}
	last := r.Bufs[len(r.Bufs)-1]
	if r.Ret < 0 || r.Ret > int64(len(last)) {
		return nil, fmt.Errorf("%s %s: the guest's kernel says that it returned %d of at most %d bytes", f.op, f.path,
			r.Ret, len(last))
	}
	return append([]byte{}, last[:r.Ret]...), nil
}

// result returns what the agent has answered with.
func (f FileCall) result(a *answer) ([]byte, error) {
	v, ok := a.value.(*wire.SyscallValue)
	if !ok {
		return nil, badAnswer(f.op, a.value)
	}
	if most := len(f.call.Bufs[len(f.call.Bufs)-1]); f.answers && len(v.Data) > most {
		return nil, fmt.Errorf("%s %s: %w: %d bytes, at most %d were asked for", f.op, f.path, wire.ErrMalformed,
			len(v.Data), most)
	}
	return f.Result(&SyscallResult{Ret: v.Ret, Errno: int(v.Errno), Bufs: [][]byte{v.Data}})
}

// FileCall carries out an operation with the credentials of the agent.
func (c *Client) FileCall(ctx context.Context, f FileCall) ([]byte, error) {
	req := f.request().(*wire.Syscall)
	if err := req.Check(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", f.op, f.path, err)
	}
	a, err := c.do(ctx, req, transfer{})
	if err != nil {
		return nil, f.named(err)
	}
	return f.result(a)
}

// named has an error of the agent's name this operation.
func (f FileCall) named(err error) error {
	var failed *OpError
	if errors.As(err, &failed) {
		failed.Op, failed.Path = f.op, f.path
	}
	return err
}
