package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
)

// workerFileMethods are the file operations of a worker, with its credentials.
func workerFileMethods() map[string]workerMethod {
	return map[string]workerMethod{
		"read_file":  (*file).workerReadFile,
		"write_file": (*file).workerWriteFile,
		"stat":       (*file).workerStat,
		"listdir":    (*file).workerListDir,
		"mkdir":      (*file).workerMkdir,
		"unlink":     (*file).workerUnlink,
		"rename":     (*file).workerRename,
	}
}

func (f *file) workerReadFile(a args, w *lab.Worker) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	var data []byte
	err = f.op(a, w.VM(), func(ctx context.Context) (err error) {
		data, err = w.ReadFile(ctx, path)
		return err
	})
	return result(err, string(data))
}

func (f *file) workerWriteFile(a args, w *lab.Worker) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	data, err := a.str(2, "data")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, w.VM(), func(ctx context.Context) error { return w.WriteFile(ctx, path, []byte(data)) })
}

func (f *file) workerStat(a args, w *lab.Worker) ([]lua.Value, error) {
	path, follow, err := statArgs(a)
	if err != nil {
		return nil, err
	}
	var info *lab.FileInfo
	err = f.op(a, w.VM(), func(ctx context.Context) (err error) {
		info, err = w.Stat(ctx, path, follow)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.statTable(info)}, nil
}

func (f *file) workerListDir(a args, w *lab.Worker) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	var entries []lab.DirEntry
	err = f.op(a, w.VM(), func(ctx context.Context) (err error) {
		entries, err = w.ListDir(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.entriesTable(entries)}, nil
}

func (f *file) workerMkdir(a args, w *lab.Worker) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.options(2, "parents", "perm")
	if err != nil {
		return nil, err
	}
	parents, err := o.boolean("parents", false)
	if err != nil {
		return nil, err
	}
	bits, err := o.mode("perm")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, w.VM(), func(ctx context.Context) error { return w.Mkdir(ctx, path, parents, bits) })
}

func (f *file) workerUnlink(a args, w *lab.Worker) ([]lua.Value, error) {
	path, err := a.path(1, "path")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, w.VM(), func(ctx context.Context) error { return w.Unlink(ctx, path) })
}

func (f *file) workerRename(a args, w *lab.Worker) ([]lua.Value, error) {
	from, to, err := renameArgs(a)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, w.VM(), func(ctx context.Context) error { return w.Rename(ctx, from, to) })
}
