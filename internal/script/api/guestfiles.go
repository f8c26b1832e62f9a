package api

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// fileLimit reads opts.timeout, the limit of an operation on files. Zero is no limit. A
// timeout of 0 ends the operation at once.
func fileLimit(o value.Options) (time.Duration, error) {
	limit, err := o.Duration("timeout", 0)
	if err == nil && o.Has("timeout") {
		limit = max(limit, 1)
	}
	return limit, err
}

// onlyLimit reads the options of an operation that has only a timeout.
func onlyLimit(a value.Args, i int) (time.Duration, error) {
	o, err := a.Options(i)
	if err != nil {
		return 0, err
	}
	return fileLimit(o)
}

// limitedOp carries out an operation of a guest with a limit, 0 for none.
func limitedOp(x *env, a value.Args, on handle.VM, limit time.Duration, do func(context.Context) error) error {
	return x.Op(a, on, func(ctx context.Context) error {
		ctx, cancel := handle.WithLimit(ctx, limit)
		defer cancel()
		return do(ctx)
	})
}

func guestRead(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 2)
	if err != nil {
		return nil, err
	}
	var data []byte
	err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) (err error) {
		data, err = by.ReadFile(ctx, path)
		return err
	})
	return value.Results(err, data)
}

func guestWrite(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	data, err := a.Str(2, "data")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 3)
	if err != nil {
		return nil, err
	}
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error {
		return by.WriteFile(ctx, path, []byte(data))
	})
}

func guestPush(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	from, err := a.Path(1, "host_path")
	if err != nil {
		return nil, err
	}
	to, err := a.Path(2, "guest_path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(3)
	if err != nil {
		return nil, err
	}
	bits, err := o.Mode("perm")
	if err != nil {
		return nil, err
	}
	tracked, err := o.Bool("auto_dep", true)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	from = x.BesideFile(a.Call, from)
	if tracked {
		if err := x.session.Build().Uses(from); err != nil {
			return nil, a.Errorf("host file: %w", err)
		}
	}
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error {
		return by.PushFile(ctx, from, to, perm(bits))
	})
}

// perm is a mode that may be absent.
func perm(bits *uint32) guest.Perm {
	if bits == nil {
		return guest.Perm{}
	}
	return guest.Mode(*bits)
}

func guestPull(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	from, err := a.Path(1, "guest_path")
	if err != nil {
		return nil, err
	}
	to, err := a.Path(2, "host_path")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 3)
	if err != nil {
		return nil, err
	}
	to = x.BesideFile(a.Call, to)
	x.session.Build().Makes(to)
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error { return by.PullFile(ctx, from, to) })
}

// statArgs reads path and {follow=}.
func statArgs(a value.Args) (path string, follow bool, o value.Options, err error) {
	if path, err = a.Path(1, "path"); err != nil {
		return "", false, o, err
	}
	if o, err = a.Options(2); err != nil {
		return "", false, o, err
	}
	follow, err = o.Bool("follow", true)
	return path, follow, o, err
}

func guestStat(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, follow, o, err := statArgs(a)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	var info *guest.FileInfo
	err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) (err error) {
		info, err = by.Stat(ctx, path, follow)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{statTable(x, info)}, nil
}

func statTable(x *env, info *guest.FileInfo) *lua.Table {
	t := x.State.NewTable()
	value.MustSet(t, "size", info.Size)
	value.MustSet(t, "mtime", float64(info.MtimeNS)/1e9)
	value.MustSet(t, "mtime_ns", info.MtimeNS)
	value.MustSet(t, "perm", int64(info.Perm))
	value.MustSet(t, "entry_type", fmt.Sprint(info.Type))
	for key, n := range map[string]uint64{"ino": info.Ino, "uid": info.UID, "gid": info.GID, "nlink": info.Nlink,
		"rdev": info.Rdev, "major": uint64(unix.Major(info.Rdev)), "minor": uint64(unix.Minor(info.Rdev)),
		"blocks": info.Blocks} {
		value.MustSet(t, key, int64(n))
	}
	for key, ns := range map[string]int64{"atime": info.AtimeNS, "ctime": info.CtimeNS} {
		value.MustSet(t, key, float64(ns)/1e9)
		value.MustSet(t, key+"_ns", ns)
	}
	return t
}

func guestListDir(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 2)
	if err != nil {
		return nil, err
	}
	var entries []guest.DirEntry
	err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) (err error) {
		entries, err = by.ListDir(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{entriesTable(x, entries)}, nil
}

func entriesTable(x *env, entries []guest.DirEntry) *lua.Table {
	return value.Array(x.State, entries, func(e guest.DirEntry) lua.Value {
		t := x.State.NewTable()
		value.MustSet(t, "name", e.Name)
		value.MustSet(t, "entry_type", fmt.Sprint(e.Type))
		return t
	})
}

// mkdirArgs reads path and {parents=, perm=}.
func mkdirArgs(a value.Args) (path string, parents bool, mode guest.Perm, o value.Options, err error) {
	if path, err = a.Path(1, "path"); err != nil {
		return
	}
	if o, err = a.Options(2); err != nil {
		return
	}
	if parents, err = o.Bool("parents", false); err != nil {
		return
	}
	bits, err := o.Mode("perm")
	return path, parents, perm(bits), o, err
}

func guestMkdir(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, parents, mode, o, err := mkdirArgs(a)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error {
		return by.Mkdir(ctx, path, parents, mode)
	})
}

func guestUnlink(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 2)
	if err != nil {
		return nil, err
	}
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error { return by.Unlink(ctx, path) })
}

// renameArgs reads the two paths of rename.
func renameArgs(a value.Args) (from, to string, err error) {
	if from, err = a.Path(1, "from"); err != nil {
		return "", "", err
	}
	to, err = a.Path(2, "to")
	return from, to, err
}

func guestRename(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	from, to, err := renameArgs(a)
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 3)
	if err != nil {
		return nil, err
	}
	return nil, limitedOp(x, a, by.VM(), limit, func(ctx context.Context) error { return by.Rename(ctx, from, to) })
}
