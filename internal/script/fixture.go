package script

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/fixtures"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// BuildFixture builds a fixture on behalf of no test file, unless it has a valid entry.
func BuildFixture(ctx context.Context, env Env, source fixture.Source) (built bool, err error) {
	w := newWorld(env, env.Host.File)
	defer func() {
		for _, err := range w.fileLab.CloseScope(context.WithoutCancel(ctx)) {
			fmt.Fprintf(w.Stderr, "provium: %v\n", err)
		}
	}()
	e, built, err := w.store.Entry(ctx, builder{w}, nil, source)
	if crash := crashIn(err); crash != nil {
		err = fmt.Errorf("%w\n%s", err, crash.Stack)
	}
	if err != nil {
		return false, err
	}
	e.Close()
	return built, nil
}

// fixtureRun runs the file of a fixture in its session.
type fixtureRun struct{ *session }

// builder implements fixtures.Runner: it runs each fixture file in a separate session.
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
	defer b.w.fileLab.KeepNumbers()() // a run that finds the fixture in the cache has the same networks
	s := fixtureRun{b.w.newSession(ctx, b.w.chunkName(source.Path), source.Path, b.w.fileLab.Apart(), build)}
	if err := s.open(nil); err != nil {
		return nil, err
	}
	defer s.close("fixture `" + source.Name + "`")
	values, err := s.runChunk()
	if err != nil && ctx.Err() != nil {
		b.w.cutOff("fixture `" + source.Name + "`: " + err.Error())
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if made, err = s.result(values); err != nil {
		return nil, err
	}
	return made, s.dependOnVMs()
}

// dependOnVMs makes the build depend on the disk images and profiles of the VMs that were
// booted.
func (s fixtureRun) dependOnVMs() error {
	for _, vm := range s.root.AllVMs() {
		if vm.State() == topology.Created {
			continue
		}
		for _, path := range vm.DiskImages() {
			if err := s.build.Uses(s.InProject(path)); err != nil {
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

// result reads what a fixture returns, and makes it ready to be installed.
func (s fixtureRun) result(values []lua.Value) (*fixture.Built, error) {
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
func (s fixtureRun) snapshotOf(v lua.Value) (*fixture.Built, error) {
	switch v := v.(type) {
	case string: // what lab:snapshot(dir) returns
		if !s.build.Wrote(v) {
			return nil, fmt.Errorf("it returned the string %s, where no lab:snapshot(dir) of it went",
				value.Quote(value.Clip(v, 80)))
		}
		return &fixture.Built{Kind: fixture.Lab, Path: v}, nil
	case *lua.Userdata:
		switch o := v.Object().(type) {
		case *lab.Snapshot:
			return &fixture.Built{Kind: fixture.VM, Label: o.VM(), Profile: o.Profile(), Path: o.Path(),
				Base: o.Base()}, nil
		case *lab.LabSnapshot:
			return &fixture.Built{Kind: fixture.Lab, Path: o.Path()}, nil
		}
	}
	return nil, nil
}
