package api

import (
	"context"
	"fmt"
	"os"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// guestSide runs commands in a guest and works with its files: a VM, or a
// worker, which has separate credentials and namespaces.
type guestSide interface {
	handle.Caller
	Run(ctx context.Context, r guest.RunRequest) (*guest.RunResult, error)
	RunAsync(ctx context.Context, r guest.RunRequest) (*handle.Process, error)
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte) error
	PushFile(ctx context.Context, hostPath, guestPath string, perm guest.Perm) error
	PullFile(ctx context.Context, guestPath, hostPath string) error
	Stat(ctx context.Context, path string, follow bool) (*guest.FileInfo, error)
	ListDir(ctx context.Context, path string) ([]guest.DirEntry, error)
	Mkdir(ctx context.Context, path string, parents bool, perm guest.Perm) error
	Unlink(ctx context.Context, path string) error
	Rename(ctx context.Context, from, to string) error
}

// guestMethods are the methods that VMs and workers both have; typ is "vm" or "worker".
func guestMethods[T guestSide](x *env, typ string) map[string]lua.GoFunc {
	methods := map[string]binding.Method[*env, T]{}
	for name, method := range map[string]binding.Method[*env, guestSide]{
		"run":           guestRun,
		"run_async":     startProcess,
		"read_file":     guestRead,
		"write_file":    guestWrite,
		"push_file":     guestPush,
		"pull_file":     guestPull,
		"stat":          guestStat,
		"listdir":       guestListDir,
		"mkdir":         guestMkdir,
		"unlink":        guestUnlink,
		"rename":        guestRename,
		"open_file":     openFile,
		"tail_file":     tailFile,
		"fd_stream":     fdStream,
		"syscall":       makeSyscall,
		"syscall_async": startSyscall,
		"ioctl":         ioctl,
		"read_mem":      readMem,
	} {
		methods[name] = func(x *env, a value.Args, by T) ([]lua.Value, error) { return method(x, a, by) }
	}
	return binding.MethodTable(x, typ, methods)
}

func guestRun(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	request, err := runRequest(a)
	if err != nil {
		return nil, err
	}
	var r *guest.RunResult
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = by.Run(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{resultHandle(x, r)}, nil
}

func guestRead(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	var data []byte
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
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
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.WriteFile(ctx, path, []byte(data)) })
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
	o, err := a.Options(3, "perm", "auto_dep")
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
	from = x.BesideFile(a.Call, from)
	if _, err := os.Stat(from); err != nil {
		return nil, a.Errorf("host file %w", err)
	}
	if tracked {
		if err := x.session.Build().Uses(from); err != nil {
			return nil, a.Errorf("host file: %w", err)
		}
	}
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.PushFile(ctx, from, to, perm(bits)) })
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
	to = x.BesideFile(a.Call, to)
	x.session.Build().Makes(to)
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.PullFile(ctx, from, to) })
}

// statArgs reads path and {follow=}.
func statArgs(a value.Args) (path string, follow bool, err error) {
	if path, err = a.Path(1, "path"); err != nil {
		return "", false, err
	}
	o, err := a.Options(2, "follow")
	if err != nil {
		return "", false, err
	}
	follow, err = o.Bool("follow", true)
	return path, follow, err
}

func guestStat(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, follow, err := statArgs(a)
	if err != nil {
		return nil, err
	}
	var info *guest.FileInfo
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
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
	return t
}

func guestListDir(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	var entries []guest.DirEntry
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
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
func mkdirArgs(a value.Args) (path string, parents bool, mode guest.Perm, err error) {
	if path, err = a.Path(1, "path"); err != nil {
		return
	}
	o, err := a.Options(2, "parents", "perm")
	if err != nil {
		return
	}
	if parents, err = o.Bool("parents", false); err != nil {
		return
	}
	bits, err := o.Mode("perm")
	return path, parents, perm(bits), err
}

func guestMkdir(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, parents, mode, err := mkdirArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.Mkdir(ctx, path, parents, mode) })
}

func guestUnlink(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.Unlink(ctx, path) })
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
	return nil, x.Op(a, by.VM(), func(ctx context.Context) error { return by.Rename(ctx, from, to) })
}
