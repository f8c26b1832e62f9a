package api

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

type labSnapshotMethod = binding.Method[*env, *lab.LabSnapshot]

func newLabSnapshotType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "lab snapshot",
		ToString: func(_ *lua.Call, obj any) string { return "lab_snapshot(" + obj.(*lab.LabSnapshot).Path() + ")" },
		Methods: binding.MethodTable(x, "lab_snapshot", map[string]labSnapshotMethod{
			"path": func(_ *env, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) {
				return []lua.Value{s.Path()}, nil
			},
			"size": func(_ *env, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) {
				n, err := s.Size()
				return value.Results(err, n)
			},
			"delete": func(_ *env, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) { return nil, s.Delete() },
		}),
	}
}

// labSnapshot is lab:snapshot(dir?).
func labSnapshot(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	dir := ""
	if a.Value(1) != nil {
		var err error
		if dir, err = a.Path(1, "dir"); err != nil {
			return nil, err
		}
		x.session.Build().Makes(x.InProject(dir))
	}
	place := dir
	if dir == "" {
		var err error
		if place, err = x.session.Build().Place(); err != nil {
			return nil, err
		}
	}
	var s *lab.LabSnapshot
	err := labOp(x, a, l, func(l *lab.Lab, ctx context.Context) (err error) {
		if err = l.CheckTargets("snapshot"); err == nil {
			s, err = l.Snapshot(ctx, place)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, x.ShowPath(err, place)
	case dir != "":
		x.session.Build().WroteLab(dir)
		return []lua.Value{dir}, nil
	}
	return []lua.Value{x.State.NewUserdata(x.Types.LabSnapshot, s)}, nil
}

// labRestore is lab:restore(lab_snapshot_or_dir).
func labRestore(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	var dir string
	switch v := a.Value(1).(type) {
	case string:
		var err error
		if dir, err = a.Path(1, "dir"); err != nil {
			return nil, err
		}
		if err = dependOnSnapshot(x, dir); err != nil {
			return nil, a.Errorf("%w", err)
		}
	case *lua.Userdata:
		s, ok := v.Object().(*lab.LabSnapshot)
		if _, ofVM := v.Object().(*lab.Snapshot); ofVM {
			return nil, a.Errorf("expected snapshot|string of a lab, got the snapshot of a vm")
		}
		if !ok {
			return nil, a.Errorf("expected snapshot|string, got %s", lua.TypeName(v))
		}
		dir = s.Path()
	default:
		return nil, a.Errorf("expected snapshot|string, got %s", lua.TypeName(v))
	}
	err := labOp(x, a, l, func(l *lab.Lab, ctx context.Context) error { return l.Restore(ctx, dir) })
	return nil, x.ShowPath(err, dir)
}

// labFork is lab:fork().
func labFork(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	scope := x.Scope()
	var fork *lab.Lab
	err := labOp(x, a, l, func(l *lab.Lab, ctx context.Context) (err error) {
		if err = l.CheckTargets("fork"); err == nil {
			fork, err = l.Fork(ctx, scope)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{labHandle(x, fork)}, nil
}
