package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

type labSnapshotMethod = func(f *file, a value.Args, s *lab.LabSnapshot) ([]lua.Value, error)

func (f *file) newLabSnapshotType() *lua.Type {
	return &lua.Type{
		Name:     "lab snapshot",
		ToString: func(_ *lua.Call, obj any) string { return "lab_snapshot(" + obj.(*lab.LabSnapshot).Path() + ")" },
		Methods: methodTable(f, "lab_snapshot", map[string]labSnapshotMethod{
			"path": func(_ *file, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) {
				return []lua.Value{s.Path()}, nil
			},
			"size": func(_ *file, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) {
				n, err := s.Size()
				return value.Results(err, n)
			},
			"delete": func(_ *file, _ value.Args, s *lab.LabSnapshot) ([]lua.Value, error) { return nil, s.Delete() },
		}),
	}
}

// labSnapshot is lab:snapshot(dir?).
func (f *file) labSnapshot(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	dir := ""
	if a.Value(1) != nil {
		var err error
		if dir, err = a.Path(1, "dir"); err != nil {
			return nil, err
		}
		f.makes(dir)
	}
	place := dir
	if dir == "" {
		var err error
		if place, err = f.build.Place(); err != nil {
			return nil, err
		}
	}
	var s *lab.LabSnapshot
	err := f.labOp(a, l, func(l *lab.Lab, ctx context.Context) (err error) {
		s, err = l.Snapshot(ctx, place)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case dir != "":
		f.build.WroteLab(dir)
		return []lua.Value{dir}, nil
	}
	return []lua.Value{f.state.NewUserdata(f.types.labSnapshot, s)}, nil
}

// labRestore is lab:restore(lab_snapshot_or_dir).
func (f *file) labRestore(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	var dir string
	switch v := a.Value(1).(type) {
	case string:
		var err error
		if dir, err = a.Path(1, "dir"); err != nil {
			return nil, err
		}
		if err = f.restores(dir); err != nil {
			return nil, a.Errorf("%w", err)
		}
	case *lua.Userdata:
		s, ok := v.Object().(*lab.LabSnapshot)
		if !ok {
			return nil, a.Errorf("expected lab snapshot|string, got %s", lua.TypeName(v))
		}
		dir = s.Path()
	default:
		return nil, a.Errorf("expected lab snapshot|string, got %s", lua.TypeName(v))
	}
	return nil, f.labOp(a, l, func(l *lab.Lab, ctx context.Context) error { return l.Restore(ctx, dir) })
}

// labFork is lab:fork().
func (f *file) labFork(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	scope := f.scope
	var fork *lab.Lab
	err := f.labOp(a, l, func(l *lab.Lab, ctx context.Context) (err error) {
		fork, err = l.Fork(ctx, scope)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.labHandle(fork)}, nil
}
