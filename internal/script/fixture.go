package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/fixtures"
	"provium/internal/script/value"
)

// BuildFixture builds a fixture on behalf of no test file, unless it has a valid entry.
func BuildFixture(ctx context.Context, env Env, source fixture.Source) (built bool, err error) {
	w := newWorld(env, env.Host.File)
	e, built, err := w.store.Entry(ctx, builder{w}, nil, source)
	if crash := crashIn(err); crash != nil {
		err = fmt.Errorf("%w\n%s", err, crash.Stack)
	}
	if err != nil {
		return false, err
	}
	e.Close()
	for _, err := range w.root.CloseScope(context.WithoutCancel(ctx)) {
		fmt.Fprintf(w.Stderr, "provium: %v\n", err)
	}
	return built, nil
}

// builder implements fixtures.Runner: it runs fixture files in sessions of their own.
type builder struct{ w *world }

// RunFixture implements fixtures.Runner.
func (b builder) RunFixture(ctx context.Context, build *fixtures.Build) (made *fixture.Built, err error) {
	defer func() {
		if p := recover(); p != nil {
			made, err = nil, &lua.PanicError{Function: "the build", Value: p, Stack: string(debug.Stack())}
		}
		if crash := crashIn(err); crash != nil {
			b.w.crashed(crash)
		}
	}()
	source := build.Source()
	s := b.w.newSession(ctx, b.w.chunkName(source.Path), source.Path, b.w.root.Apart(), build)
	if err := s.open(nil); err != nil {
		return nil, err
	}
	defer s.close("fixture `" + source.Name + "`")
	values, err := s.runChunk()
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if made, err = s.fixtureResult(values); err != nil {
		return nil, err
	}
	return made, s.dependOnVMs()
}

// dependOnVMs makes the build depend on the disk images and profiles of the VMs that were
// booted.
func (s *session) dependOnVMs() error {
	for _, vm := range s.root.AllVMs() {
		if vm.State() == lab.Created {
			continue
		}
		for _, path := range vm.DiskImages() {
			if err := s.build.Uses(s.inProject(path)); err != nil {
				return fmt.Errorf("disk of vm `%s`: %w", vm.Name(), err)
			}
		}
		digest, err := s.Host.ProfileDigest(s.ctx, vm.Profile())
		if err != nil {
			return err
		}
		s.build.Boots(vm.Profile(), digest)
	}
	return nil
}

// fixtureResult reads what a fixture returns, and makes it ready to be installed.
func (s *session) fixtureResult(values []lua.Value) (*fixture.Built, error) {
	const want = "it must end in `return vm:snapshot()` or `return provium:snapshot()`"
	if len(values) == 0 || values[0] == nil {
		return nil, errors.New("it returned nothing: " + want)
	}
	made, err := s.snapshotOf(values[0])
	if err != nil {
		return nil, err
	}
	if made == nil {
		return nil, fmt.Errorf("it returned a %s: %s", lua.TypeName(values[0]), want)
	}
	return made, s.state.Block(func() error { return s.build.Take(made) })
}

// snapshotOf returns the snapshot that a value stands for, nil for another value.
func (s *session) snapshotOf(v lua.Value) (*fixture.Built, error) {
	switch v := v.(type) {
	case string: // what lab:snapshot(dir) returns
		if !s.build.Wrote(v) {
			return nil, fmt.Errorf("it returned the string %s, where no lab:snapshot(dir) of it went", value.Quote(value.Clip(v, 80)))
		}
		return &fixture.Built{Kind: fixture.Lab, Path: v}, nil
	case *lua.Userdata:
		switch o := v.Object().(type) {
		case *lab.Snapshot:
			return &fixture.Built{Kind: fixture.VM, Label: o.VM(), Profile: o.Profile(), Path: o.Path(), Over: o.Over()}, nil
		case *lab.LabSnapshot:
			return &fixture.Built{Kind: fixture.Lab, Path: o.Path()}, nil
		}
	}
	return nil, nil
}

// fixtureFunction is lab.vm_fixture or lab.lab_fixture of the lab behind obj, callable with
// `.` and with `:`. A lab given as first argument is the lab of that call only.
func (s *session) fixtureFunction(obj any, name string) *lua.Function {
	return s.state.NewFunction("lab."+name, func(c *lua.Call) ([]lua.Value, error) {
		a := value.FunctionArgs(c, "lab:"+name)
		target := obj
		if u, ok := a.Value(1).(*lua.Userdata); ok {
			if _, isLab := labOf(u.Object()); isLab {
				target = u.Object()
				a.Values = a.Values[1:]
			}
		}
		l, _ := labOf(target)
		if err := s.ended(a, "lab", l.Name(), l); err != nil {
			return nil, err
		}
		if name == "vm_fixture" {
			return s.vmFixture(a, l)
		}
		return s.labFixture(a, l)
	})
}

// vmFixture is lab:vm_fixture(name).
func (s *session) vmFixture(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	source, err := s.fixtureArg(a)
	if err != nil {
		return nil, err
	}
	var vm *lab.VM
	err = s.op(a, nil, func(ctx context.Context) error {
		return s.restore(ctx, source, fixture.VM, func(e *fixture.Entry) (err error) {
			if vm == nil { // else another entry goes into the same VM
				if vm, err = l.DeclareFrom(e.Label, e.Profile); err != nil {
					return err
				}
			}
			return vm.Restore(ctx, e.Path)
		})
	})
	if err != nil {
		if vm != nil {
			_ = l.Remove(vm) // it never was what was asked for; the scope still closes it
		}
		return nil, a.Errorf("%w", err)
	}
	s.current.touch(vm)
	return []lua.Value{s.vmHandle(vm)}, nil
}

// labFixture is lab:lab_fixture(name).
func (s *session) labFixture(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	source, err := s.fixtureArg(a)
	if err != nil {
		return nil, err
	}
	var sub *lab.Lab
	err = s.op(a, nil, func(ctx context.Context) error {
		return s.restore(ctx, source, fixture.Lab, func(e *fixture.Entry) (err error) {
			sub, err = l.SubLabFrom(ctx, e.Path)
			return err
		})
	})
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	for _, vm := range sub.AllVMs() {
		s.current.touch(vm)
	}
	return []lua.Value{s.labHandle(sub)}, nil
}

// fixtureArg reads the name and finds the file.
func (s *session) fixtureArg(a value.Args) (source fixture.Source, err error) {
	name, err := a.Path(1, "name")
	if err != nil {
		return source, err
	}
	if s.store == nil {
		return source, a.Errorf("there are no fixtures here")
	}
	if source, err = s.store.Find(s.build, name); err != nil {
		return source, a.Errorf("%w", err)
	}
	return source, nil
}

// restore restores a fixture without the baton. Its entry stays in the cache until the
// session is closed.
func (s *session) restore(ctx context.Context, source fixture.Source, kind fixture.Kind, restore func(*fixture.Entry) error) error {
	e, err := s.store.Restore(ctx, builder{s.world}, s.build, source, kind, restore)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
	return nil
}

// labDependsOnFile is lab:depends_on_file(path).
func (s *session) labDependsOnFile(a value.Args, _ *lab.Lab) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	path = s.hostPath(a.Call, path)
	if _, err := os.Stat(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	if err := s.build.Uses(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}

// makes records that a build writes a file: it is no dependency then when it is read.
func (s *session) makes(path string) { s.build.Makes(s.inProject(path)) }

// restores records that a build depends on a snapshot which it does not make. A missing one
// is left to the restore to report.
func (s *session) restores(path string) error {
	path = s.inProject(path)
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return s.build.Uses(path)
}
