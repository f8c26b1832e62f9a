package api

import (
	"context"
	"math"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// fileCallRead reads the arguments of an operation on files that is one system call.
type fileCallRead func(a value.Args) (guest.FileCall, value.Options, error)

// fileCalls are those operations by their names. Batches have them, too.
func fileCalls() map[string]fileCallRead {
	return map[string]fileCallRead{
		"chmod":    chmodArgs,
		"chown":    chownArgs,
		"symlink":  twoPaths("target", "path", guest.SymlinkCall),
		"readlink": readlinkArgs,
		"link":     twoPaths("existing", "path", guest.LinkCall),
		"mknod":    mknodArgs,
		"truncate": truncateArgs,
		"getxattr": getxattrArgs,
		"setxattr": setxattrArgs,
		"umount":   umountArgs,
	}
}

// fileCallMethods are the methods of VMs and workers.
func fileCallMethods() map[string]binding.Method[*env, guestSide] {
	methods := map[string]binding.Method[*env, guestSide]{"mount": guestMount}
	for name, read := range fileCalls() {
		methods[name] = func(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
			call, o, err := read(a)
			if err != nil {
				return nil, err
			}
			limit, err := fileLimit(o)
			if err != nil {
				return nil, err
			}
			var data []byte
			err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) (err error) {
				data, err = by.AsActor().FileCall(ctx, call)
				return err
			})
			if err != nil || !call.Answers() {
				return nil, err
			}
			return []lua.Value{fileCallValue(data)}, nil
		}
	}
	return methods
}

// fileCallValue is what a call has answered with, nil for what the file does not have.
func fileCallValue(data []byte) lua.Value {
	if data == nil {
		return nil
	}
	return string(data)
}

// integerArg reads an integer between lo and hi at argument i.
func integerArg(a value.Args, i int, name string, lo, hi int64) (int64, error) {
	n, ok := value.ToInteger(a.Value(i))
	switch {
	case !ok:
		return 0, a.Errorf("argument %d (%s) must be an integer, got %s", i, name, badNumber(a.Value(i)))
	case n < lo || n > hi:
		return 0, a.Errorf("argument %d (%s) must be between %d and %d, got %d", i, name, lo, hi, n)
	}
	return n, nil
}

func chmodArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	bits, err := integerArg(a, 2, "mode", 0, 0o7777)
	if err != nil {
		return call, o, err
	}
	o, err = a.Options(3)
	return guest.ChmodCall(path, uint32(bits)), o, err
}

func chownArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	var ids [2]int64
	for i, name := range []string{"uid", "gid"} {
		if ids[i], err = integerArg(a, 2+i, name, -1, math.MaxUint32-1); err != nil {
			return call, o, err
		}
	}
	follow, o, err := followOption(a, 4)
	return guest.ChownCall(path, ids[0], ids[1], follow), o, err
}

// followOption reads {follow=} at argument i.
func followOption(a value.Args, i int) (follow bool, o value.Options, err error) {
	if o, err = a.Options(i); err != nil {
		return false, o, err
	}
	follow, err = o.Bool("follow", true)
	return follow, o, err
}

func twoPaths(first, second string, call func(first, second string) guest.FileCall) fileCallRead {
	return func(a value.Args) (none guest.FileCall, o value.Options, err error) {
		from, err := a.Path(1, first)
		if err != nil {
			return none, o, err
		}
		to, err := a.Path(2, second)
		if err != nil {
			return none, o, err
		}
		o, err = a.Options(3)
		return call(from, to), o, err
	}
}

func readlinkArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	o, err = a.Options(2)
	return guest.ReadlinkCall(path), o, err
}

// maxMajor and maxMinor are what the kernel's numbers of devices hold.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func mknodArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	if _, ok := a.Value(2).(*lua.Table); !ok {
		return call, o, a.TypeError(2, "opts", `a table such as {type = "char", major = 1, minor = 3}`)
	}
	if o, err = a.Options(2); err != nil {
		return call, o, err
	}
	if !o.Has("type") {
		return call, o, o.Errorf("type", "is missing (valid: char, block, fifo, socket, file)")
	}
	kind, err := o.Choice("type", "", "char", "block", "fifo", "socket", "file")
	if err != nil {
		return call, o, err
	}
	mode := map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK, "fifo": unix.S_IFIFO,
		"socket": unix.S_IFSOCK, "file": unix.S_IFREG}[kind]
	var numbers [2]int64
	for i, key := range []string{"major", "minor"} {
		isDevice := kind == "char" || kind == "block"
		if o.Has(key) != isDevice {
			return call, o, o.Errorf(key, "belongs to type `char` and `block`, and to no other; the type is `%s`", kind)
		}
		if numbers[i], err = o.IntegerWithin(key, 0, 0, []int64{maxMajor, maxMinor}[i]); err != nil {
			return call, o, err
		}
	}
	bits := uint32(0o644)
	if given, err := o.Mode("perm"); err != nil {
		return call, o, err
	} else if given != nil {
		bits = *given
	}
	return guest.MknodCall(path, mode|bits, uint32(numbers[0]), uint32(numbers[1])), o, nil
}

func truncateArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	size, err := integerArg(a, 2, "size", 0, math.MaxInt64)
	if err != nil {
		return call, o, err
	}
	o, err = a.Options(3)
	return guest.TruncateCall(path, size), o, err
}

func getxattrArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	name, err := a.Path(2, "name")
	if err != nil {
		return call, o, err
	}
	follow, o, err := followOption(a, 3)
	return guest.GetxattrCall(path, name, follow), o, err
}

func setxattrArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return call, o, err
	}
	name, err := a.Path(2, "name")
	if err != nil {
		return call, o, err
	}
	text, err := a.Str(3, "value")
	if err != nil {
		return call, o, err
	}
	if len(text) > guest.MaxXattr {
		return call, o, a.Errorf("argument 3 (value) has %d bytes, at most %d are possible", len(text), guest.MaxXattr)
	}
	follow, o, err := followOption(a, 4)
	if err != nil {
		return call, o, err
	}
	flags, err := flagOptions(o, map[string]int64{"create": unix.XATTR_CREATE, "replace": unix.XATTR_REPLACE})
	return guest.SetxattrCall(path, name, text, follow, flags), o, err
}

// flagOptions joins the flags of those options that are true.
func flagOptions(o value.Options, known map[string]int64) (flags int64, err error) {
	for key, flag := range known {
		on, err := o.Bool(key, false)
		if err != nil {
			return 0, err
		}
		if on {
			flags |= flag
		}
	}
	return flags, nil
}

func umountArgs(a value.Args) (call guest.FileCall, o value.Options, err error) {
	target, err := a.Path(1, "target")
	if err != nil {
		return call, o, err
	}
	if o, err = a.Options(2); err != nil {
		return call, o, err
	}
	flags, err := flagOptions(o, map[string]int64{"lazy": unix.MNT_DETACH, "force": unix.MNT_FORCE})
	return guest.UmountCall(target, flags), o, err
}
