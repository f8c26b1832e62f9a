package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

type snapshotMethod = func(f *file, a value.Args, s *lab.Snapshot) ([]lua.Value, error)

func (f *file) newSnapshotType() *lua.Type {
	return &lua.Type{
		Name:     "snapshot",
		ToString: func(_ *lua.Call, obj any) string { return "snapshot(" + obj.(*lab.Snapshot).Path() + ")" },
		Methods: methodTable(f, "snapshot", map[string]snapshotMethod{
			"path": func(_ *file, _ value.Args, s *lab.Snapshot) ([]lua.Value, error) { return []lua.Value{s.Path()}, nil },
			"size": func(_ *file, _ value.Args, s *lab.Snapshot) ([]lua.Value, error) {
				n, err := s.Size()
				return value.Results(err, n)
			},
			"delete": func(_ *file, _ value.Args, s *lab.Snapshot) ([]lua.Value, error) { return nil, s.Delete() },
		}),
	}
}

// vmSnapshot is vm:snapshot(path?).
func (f *file) vmSnapshot(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	path, take := "", vm.Snapshot
	if a.Value(1) != nil {
		var err error
		if path, err = a.Path(1, "path"); err != nil {
			return nil, err
		}
		f.makes(path)
	} else if f.build != nil {
		var err error
		if path, err = f.build.Place(); err != nil {
			return nil, err
		}
		// What is built on another fixture holds what it changed.
		take = func(ctx context.Context, path string) (*lab.Snapshot, error) {
			return vm.SnapshotOver(ctx, path, f.build.Holds)
		}
	}
	var s *lab.Snapshot
	err := f.op(a, vm, func(ctx context.Context) (err error) {
		s, err = take(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.state.NewUserdata(f.types.snapshot, s)}, nil
}

// vmRestore is vm:restore(snapshot_or_path).
func (f *file) vmRestore(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	var path string
	switch v := a.Value(1).(type) {
	case string:
		var err error
		if path, err = a.Path(1, "path"); err != nil {
			return nil, err
		}
		if err = f.restores(path); err != nil {
			return nil, a.Errorf("%w", err)
		}
	case *lua.Userdata:
		s, ok := v.Object().(*lab.Snapshot)
		if !ok {
			return nil, a.Errorf("expected snapshot|string, got %s", lua.TypeName(v))
		}
		path = s.Path()
	default:
		return nil, a.Errorf("expected snapshot|string, got %s", lua.TypeName(v))
	}
	return nil, f.op(a, vm, func(ctx context.Context) error { return vm.Restore(ctx, path) })
}

// maxForks bounds what one call makes.
const maxForks = 256

// vmFork is vm:fork(n?): one VM, or an array of n.
func (f *file) vmFork(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	n, several := int64(1), a.Value(1) != nil
	if several {
		var ok bool
		if n, ok = value.ToInteger(a.Value(1)); !ok {
			return nil, a.TypeError(1, "n", "an integer")
		}
		if n < 1 || n > maxForks {
			return nil, a.Errorf("argument 1 (n) must be 1 to %d, got %d", maxForks, n)
		}
	}
	scope := f.scope
	var forks []*lab.VM
	err := f.op(a, vm, func(ctx context.Context) (err error) {
		forks, err = vm.Fork(ctx, scope, int(n))
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, fork := range forks {
		f.current.touch(fork)
	}
	if !several {
		return []lua.Value{f.vmHandle(forks[0])}, nil
	}
	return []lua.Value{value.Array(f.state, forks, func(vm *lab.VM) lua.Value { return f.vmHandle(vm) })}, nil
}
