package script

import (
	"context"
	"fmt"
	"os"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// guestSide runs commands in a guest and works with its files: a VM, or a
// worker with credentials and namespaces of its own.
type guestSide interface {
	lab.Caller
	Run(ctx context.Context, r lab.RunRequest) (*lab.RunResult, error)
	RunAsync(ctx context.Context, r lab.RunRequest) (*lab.Process, error)
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte) error
	PushFile(ctx context.Context, hostPath, guestPath string, perm lab.Perm) error
	PullFile(ctx context.Context, guestPath, hostPath string) error
	Stat(ctx context.Context, path string, follow bool) (*lab.FileInfo, error)
	ListDir(ctx context.Context, path string) ([]lab.DirEntry, error)
	Mkdir(ctx context.Context, path string, parents bool, perm lab.Perm) error
	Unlink(ctx context.Context, path string) error
	Rename(ctx context.Context, from, to string) error
}

// guestMethods are those that VMs and workers have alike; typ is "vm" or "worker".
func guestMethods[T guestSide](f *file, typ string) map[string]lua.GoFunc {
	methods := map[string]func(*file, value.Args, T) ([]lua.Value, error){}
	for name, method := range map[string]func(*file, value.Args, guestSide) ([]lua.Value, error){
		"run":           (*file).guestRun,
		"run_async":     (*file).startProcess,
		"read_file":     (*file).guestRead,
		"write_file":    (*file).guestWrite,
		"push_file":     (*file).guestPush,
		"pull_file":     (*file).guestPull,
		"stat":          (*file).guestStat,
		"listdir":       (*file).guestListDir,
		"mkdir":         (*file).guestMkdir,
		"unlink":        (*file).guestUnlink,
		"rename":        (*file).guestRename,
		"open_file":     (*file).openFile,
		"tail_file":     (*file).tailFile,
		"fd_stream":     (*file).fdStream,
		"syscall":       (*file).makeSyscall,
		"syscall_async": (*file).startSyscall,
		"ioctl":         (*file).ioctl,
		"read_mem":      (*file).readMem,
	} {
		methods[name] = func(f *file, a value.Args, by T) ([]lua.Value, error) { return method(f, a, by) }
	}
	return methodTable(f, typ, methods)
}

func (f *file) guestRun(a value.Args, by guestSide) ([]lua.Value, error) {
	request, err := runRequest(a)
	if err != nil {
		return nil, err
	}
	var r *lab.RunResult
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = by.Run(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.resultHandle(r)}, nil
}

func (f *file) guestRead(a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	var data []byte
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		data, err = by.ReadFile(ctx, path)
		return err
	})
	return value.Results(err, data)
}

func (f *file) guestWrite(a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	data, err := a.Str(2, "data")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.WriteFile(ctx, path, []byte(data)) })
}

func (f *file) guestPush(a value.Args, by guestSide) ([]lua.Value, error) {
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
	from = f.hostPath(a.Call, from)
	if _, err := os.Stat(from); err != nil {
		return nil, a.Errorf("host file %w", err)
	}
	if tracked {
		if err := f.build.Uses(from); err != nil {
			return nil, a.Errorf("host file: %w", err)
		}
	}
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.PushFile(ctx, from, to, perm(bits)) })
}

// perm is a mode that may be absent.
func perm(bits *uint32) lab.Perm {
	if bits == nil {
		return lab.Perm{}
	}
	return lab.Mode(*bits)
}

func (f *file) guestPull(a value.Args, by guestSide) ([]lua.Value, error) {
	from, err := a.Path(1, "guest_path")
	if err != nil {
		return nil, err
	}
	to, err := a.Path(2, "host_path")
	if err != nil {
		return nil, err
	}
	to = f.hostPath(a.Call, to)
	f.makes(to)
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.PullFile(ctx, from, to) })
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

func (f *file) guestStat(a value.Args, by guestSide) ([]lua.Value, error) {
	path, follow, err := statArgs(a)
	if err != nil {
		return nil, err
	}
	var info *lab.FileInfo
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		info, err = by.Stat(ctx, path, follow)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.statTable(info)}, nil
}

func (f *file) statTable(info *lab.FileInfo) *lua.Table {
	t := f.state.NewTable()
	value.MustSet(t, "size", info.Size)
	value.MustSet(t, "mtime", float64(info.MtimeNS)/1e9)
	value.MustSet(t, "mtime_ns", info.MtimeNS)
	value.MustSet(t, "perm", int64(info.Perm))
	value.MustSet(t, "entry_type", fmt.Sprint(info.Type))
	return t
}

func (f *file) guestListDir(a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	var entries []lab.DirEntry
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		entries, err = by.ListDir(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.entriesTable(entries)}, nil
}

func (f *file) entriesTable(entries []lab.DirEntry) *lua.Table {
	return value.Array(f.state, entries, func(e lab.DirEntry) lua.Value {
		t := f.state.NewTable()
		value.MustSet(t, "name", e.Name)
		value.MustSet(t, "entry_type", fmt.Sprint(e.Type))
		return t
	})
}

// mkdirArgs reads path and {parents=, perm=}.
func mkdirArgs(a value.Args) (path string, parents bool, mode lab.Perm, err error) {
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

func (f *file) guestMkdir(a value.Args, by guestSide) ([]lua.Value, error) {
	path, parents, mode, err := mkdirArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.Mkdir(ctx, path, parents, mode) })
}

func (f *file) guestUnlink(a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.Unlink(ctx, path) })
}

// renameArgs reads the two paths of rename.
func renameArgs(a value.Args) (from, to string, err error) {
	if from, err = a.Path(1, "from"); err != nil {
		return "", "", err
	}
	to, err = a.Path(2, "to")
	return from, to, err
}

func (f *file) guestRename(a value.Args, by guestSide) ([]lua.Value, error) {
	from, to, err := renameArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, by.VM(), func(ctx context.Context) error { return by.Rename(ctx, from, to) })
}
