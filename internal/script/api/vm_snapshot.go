package api

import (
	"context"
	"os"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

type snapshotMethod = binding.Method[*env, *lab.Snapshot]

func newSnapshotType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "snapshot",
		ToString: func(_ *lua.Call, obj any) string { return "snapshot(" + obj.(*lab.Snapshot).Path() + ")" },
		Methods: binding.MethodTable(x, "snapshot", map[string]snapshotMethod{
			"path": func(_ *env, _ value.Args, s *lab.Snapshot) ([]lua.Value,
				error) {
				return []lua.Value{s.Path()}, nil
			},
			"size": func(_ *env, _ value.Args, s *lab.Snapshot) ([]lua.Value, error) {
				n, err := s.Size()
				return value.Results(err, n)
			},
			"delete": func(_ *env, _ value.Args, s *lab.Snapshot) ([]lua.Value, error) { return nil, s.Delete() },
		}),
	}
}

// vmSnapshot is vm:snapshot(path?).
func vmSnapshot(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	path, take := "", vm.Snapshot
	if a.Value(1) != nil {
		var err error
		if path, err = a.Path(1, "path"); err != nil {
			return nil, err
		}
		x.session.Build().Makes(x.InProject(path))
	} else if build := x.session.Build(); build != nil {
		var err error
		if path, err = build.Place(); err != nil {
			return nil, err
		}
		// What is built on another fixture holds what it changed.
		take = func(ctx context.Context, path string) (*lab.Snapshot, error) {
			return vm.SnapshotDiff(ctx, path, build.Holds)
		}
	}
	var s *lab.Snapshot
	err := x.Op(a, vm, func(ctx context.Context) (err error) {
		s, err = take(ctx, path)
		return err
	})
	if err != nil {
		return nil, x.ShowPath(err, path)
	}
	return []lua.Value{x.State.NewUserdata(x.Types.Snapshot, s)}, nil
}

// vmRestore is vm:restore(snapshot_or_path).
func vmRestore(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	var path string
	switch v := a.Value(1).(type) {
	case string:
		var err error
		if path, err = a.Path(1, "path"); err != nil {
			return nil, err
		}
		if err = dependOnSnapshot(x, path); err != nil {
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
	err := x.Op(a, vm, func(ctx context.Context) error { return vm.Restore(ctx, path) })
	return nil, x.ShowPath(err, path)
}

// maxForks bounds what one call makes.
const maxForks = 256

// vmFork is vm:fork(n?): one VM, or an array of n.
func vmFork(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
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
	scope := x.Scope()
	var forks []*lab.VM
	err := x.Op(a, vm, func(ctx context.Context) (err error) {
		forks, err = vm.Fork(ctx, scope, int(n))
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, fork := range forks {
		x.Touch(fork)
	}
	if !several {
		return []lua.Value{x.VM(forks[0])}, nil
	}
	return []lua.Value{value.Array(x.State, forks, func(vm *lab.VM) lua.Value { return x.VM(vm) })}, nil
}

// dependOnSnapshot records that a build depends on a snapshot which it does not make. A
// missing one is left to the restore to report.
func dependOnSnapshot(x *env, path string) error {
	path = x.InProject(path)
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return x.session.Build().Uses(path)
}
