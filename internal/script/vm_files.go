package script

import (
	"context"
	"fmt"
	"os"

	"provium/internal/lab"
	"provium/internal/lua"
)

func (f *file) vmReadFile(a args, vm *lab.VM) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	var data []byte
	err = f.op(a, vm, func(ctx context.Context) (err error) {
		data, err = vm.ReadFile(ctx, path)
		return err
	})
	return result(err, data)
}

func (f *file) vmWriteFile(a args, vm *lab.VM) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	data, err := a.str(2, "data")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.WriteFile(ctx, path, []byte(data)) })
}

func (f *file) vmPushFile(a args, vm *lab.VM) ([]lua.Value, error) {
	from, err := a.path(1, "host_path")
	if err != nil {
		return nil, err
	}
	to, err := a.path(2, "guest_path")
	if err != nil {
		return nil, err
	}
	o, err := a.options(3, "perm", "auto_dep")
	if err != nil {
		return nil, err
	}
	bits, err := o.mode("perm")
	if err != nil {
		return nil, err
	}
	tracked, err := o.boolean("auto_dep", true)
	if err != nil {
		return nil, err
	}
	from = f.hostPath(a.c, from)
	if _, err := os.Stat(from); err != nil {
		return nil, a.errorf("host file %w", err)
	}
	if tracked {
		if err := f.uses(from); err != nil {
			return nil, a.errorf("host file: %w", err)
		}
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.PushFile(ctx, from, to, perm(bits)) })
}

// perm is a mode that may be absent.
func perm(bits *uint32) lab.Perm {
	if bits == nil {
		return lab.Perm{}
	}
	return lab.Mode(*bits)
}

func (f *file) vmPullFile(a args, vm *lab.VM) ([]lua.Value, error) {
	from, err := a.path(1, "guest_path")
	if err != nil {
		return nil, err
	}
	to, err := a.path(2, "host_path")
	if err != nil {
		return nil, err
	}
	to = f.hostPath(a.c, to)
	f.makes(to)
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.PullFile(ctx, from, to) })
}

// statArgs reads path and {follow=}.
func statArgs(a args) (path string, follow bool, err error) {
	if path, err = a.path(1, "path"); err != nil {
		return "", false, err
	}
	o, err := a.options(2, "follow")
	if err != nil {
		return "", false, err
	}
	follow, err = o.boolean("follow", true)
	return path, follow, err
}

func (f *file) vmStat(a args, vm *lab.VM) ([]lua.Value, error) {
	path, follow, err := statArgs(a)
	if err != nil {
		return nil, err
	}
	var info *lab.FileInfo
	err = f.op(a, vm, func(ctx context.Context) (err error) {
		info, err = vm.Stat(ctx, path, follow)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.statTable(info)}, nil
}

func (f *file) statTable(info *lab.FileInfo) *lua.Table {
	t := f.state.NewTable()
	set(t, "size", info.Size)
	set(t, "mtime", float64(info.MtimeNS)/1e9)
	set(t, "mtime_ns", info.MtimeNS)
	set(t, "perm", int64(info.Perm))
	set(t, "entry_type", fmt.Sprint(info.Type))
	return t
}

func (f *file) vmListDir(a args, vm *lab.VM) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	var entries []lab.DirEntry
	err = f.op(a, vm, func(ctx context.Context) (err error) {
		entries, err = vm.ListDir(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.entriesTable(entries)}, nil
}

func (f *file) entriesTable(entries []lab.DirEntry) *lua.Table {
	return array(f.state, entries, func(e lab.DirEntry) lua.Value {
		t := f.state.NewTable()
		set(t, "name", e.Name)
		set(t, "entry_type", fmt.Sprint(e.Type))
		return t
	})
}

// mkdirArgs reads path and {parents=, perm=}.
func mkdirArgs(a args) (path string, parents bool, mode lab.Perm, err error) {
	if path, err = a.path(1, "path"); err != nil {
		return
	}
	o, err := a.options(2, "parents", "perm")
	if err != nil {
		return
	}
	if parents, err = o.boolean("parents", false); err != nil {
		return
	}
	bits, err := o.mode("perm")
	return path, parents, perm(bits), err
}

func (f *file) vmMkdir(a args, vm *lab.VM) ([]lua.Value, error) {
	path, parents, mode, err := mkdirArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.Mkdir(ctx, path, parents, mode) })
}

func (f *file) vmUnlink(a args, vm *lab.VM) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.Unlink(ctx, path) })
}

// renameArgs reads the two paths of rename.
func renameArgs(a args) (from, to string, err error) {
	if from, err = a.path(1, "from"); err != nil {
		return "", "", err
	}
	to, err = a.path(2, "to")
	return from, to, err
}

func (f *file) vmRename(a args, vm *lab.VM) ([]lua.Value, error) {
	from, to, err := renameArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.Rename(ctx, from, to) })
}
