package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// fixtureSuffix ends the names of fixture files.
const fixtureSuffix = ".fixture.lua"

// fixtureFunction is lab.vm_fixture or lab.lab_fixture, callable with `.` and with `:`.
func (f *file) fixtureFunction(obj any, name string) *lua.Function {
	return f.state.NewFunction("lab."+name, func(c *lua.Call) ([]lua.Value, error) {
		a := value.FunctionArgs(c, "lab:"+name)
		if u, ok := a.Value(1).(*lua.Userdata); ok {
			if _, isLab := labOf(u.Object()); isLab {
				obj = u.Object()
				a.Values = a.Values[1:]
			}
		}
		l, _ := labOf(obj)
		if err := f.ended(a, "lab", l.Name(), l); err != nil {
			return nil, err
		}
		if name == "vm_fixture" {
			return f.vmFixture(a, l)
		}
		return f.labFixture(a, l)
	})
}

// vmFixture is lab:vm_fixture(name).
func (f *file) vmFixture(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	s, err := f.fixtureArg(a)
	if err != nil {
		return nil, err
	}
	var vm *lab.VM
	err = f.op(a, nil, func(ctx context.Context) error {
		return f.fromFixture(ctx, s, fixture.VM, func(e *fixture.Entry) (err error) {
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
	f.current.touch(vm)
	return []lua.Value{f.vmHandle(vm)}, nil
}

// labFixture is lab:lab_fixture(name).
func (f *file) labFixture(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	s, err := f.fixtureArg(a)
	if err != nil {
		return nil, err
	}
	var sub *lab.Lab
	err = f.op(a, nil, func(ctx context.Context) error {
		return f.fromFixture(ctx, s, fixture.Lab, func(e *fixture.Entry) (err error) {
			sub, err = l.SubLabFrom(ctx, e.Path)
			return err
		})
	})
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	for _, vm := range sub.AllVMs() {
		f.current.touch(vm)
	}
	return []lua.Value{f.labHandle(sub)}, nil
}

// fixtureArg reads the name and finds the file.
func (f *file) fixtureArg(a value.Args) (s fixture.Source, err error) {
	name, err := a.Path(1, "name")
	if err != nil {
		return s, err
	}
	if f.cfg.Fixtures == nil {
		return s, a.Errorf("there are no fixtures here")
	}
	s, tried, err := FindFixture(f.cfg.Roots, name)
	if err != nil {
		return s, a.Errorf("%w", err)
	}
	if f.build == nil {
		return s, nil
	}
	for _, path := range tried { // one that appears there later would be found first
		if err := f.build.trace.File(path); err != nil {
			return s, a.Errorf("%w", err)
		}
	}
	return s, nil
}

// FindFixture finds the file of a fixture below the roots, of which the first that has it
// wins; tried are the places before.
func FindFixture(roots []string, name string) (s fixture.Source, tried []string, err error) {
	switch {
	case filepath.IsAbs(name):
		return s, nil, fmt.Errorf("fixture name `%s` is absolute (give the path below a root, without %s)", name, fixtureSuffix)
	case !filepath.IsLocal(name):
		return s, nil, fmt.Errorf("fixture name `%s` leaves its root (give the path below a root, without `..`)", name)
	}
	rel := filepath.Clean(name)
	for _, root := range roots {
		path := filepath.Join(root, rel+fixtureSuffix)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return fixture.Source{Name: filepath.ToSlash(rel), Path: path}, tried, nil
		}
		tried = append(tried, path)
	}
	hint := ""
	if strings.HasSuffix(name, fixtureSuffix) {
		hint = fmt.Sprintf(" (leave %s out of the name)", fixtureSuffix)
	}
	if len(roots) == 0 {
		hint = " (provium.toml has no roots)"
	}
	return s, tried, fmt.Errorf("fixture `%s` not found in any test root%s", name, hint)
}

// fromFixture has restore make what a fixture holds, which is built first where it must be.
// An entry that does not restore is thrown away, once.
func (f *file) fromFixture(ctx context.Context, s fixture.Source, kind fixture.Kind, restore func(*fixture.Entry) error) error {
	if err := f.build.cycle(s); err != nil {
		return err
	}
	cache := f.cfg.Fixtures
	for again := false; ; again = true {
		e, built, err := f.entry(ctx, s)
		if err != nil {
			return err
		}
		if e.Kind != kind {
			e.Close()
			right := map[fixture.Kind]string{fixture.VM: "vm_fixture", fixture.Lab: "lab_fixture"}
			return fmt.Errorf("fixture `%s` is a %s: use %s(\"%s\")", s.Name, e.Kind, right[e.Kind], s.Name)
		}
		err = cache.Verify(ctx, e)
		if err == nil {
			f.cfg.Host.Trust(e.Verified...)
			err = restore(e)
		}
		if err == nil {
			f.inUse(e)
			if !built {
				f.cfg.Emit(event.FixtureCacheHit{Path: s.Name})
			}
			return nil
		}
		if ctx.Err() != nil {
			e.Close()
			return context.Cause(ctx)
		}
		var refused *lab.AdmissionError
		if again || built || errors.As(err, &refused) {
			e.Close()
			return fmt.Errorf("fixture `%s`: %w", s.Name, err)
		}
		fmt.Fprintf(f.cfg.Stderr, "provium: %s: fixture `%s`: its cache entry cannot be used and is removed: %v\n", f.cfg.Path, s.Name, err)
		if err := cache.Evict(e); err != nil {
			return err
		}
	}
}

// inUse keeps an entry in the cache until the file ends, and notes that a build needs it.
func (f *file) inUse(e *fixture.Entry) {
	f.mu.Lock()
	f.entries = append(f.entries, e)
	f.mu.Unlock()
	if f.build != nil {
		f.build.trace.Entry(e)
	}
}

func (f *file) closeEntries() {
	for _, e := range f.entries {
		e.Close()
	}
}

// entry finds a valid entry or builds one.
func (f *file) entry(ctx context.Context, s fixture.Source) (e *fixture.Entry, built bool, err error) {
	cache := f.cfg.Fixtures
	if e, _, err = cache.Find(ctx, s); e != nil || err != nil {
		return e, false, err
	}
	goOn := func() {}
	lock, err := cache.Lock(ctx, s, f.onBehalf(), f.build.holding(), func(heldBy string) {
		f.cfg.Emit(event.FixtureBuildWaiting{Path: s.Name, HeldByFile: heldBy})
		resume, waited := f.wait.pause(), func() {}
		if f.cfg.Waits != nil {
			waited = f.cfg.Waits()
		}
		goOn = func() { resume(); waited() }
	})
	goOn()
	if err != nil {
		return nil, false, err
	}
	defer lock.Unlock()
	if e, _, err = cache.Find(ctx, s); e != nil || err != nil {
		return e, false, err // somebody else has built it meanwhile
	}
	e, err = f.buildFixture(ctx, s, lock)
	return e, true, err
}

// onBehalf is the test file that wants the fixture.
func (f *file) onBehalf() string { return f.cfg.Host.File }

// labDependsOnFile is lab:depends_on_file(path).
func (f *file) labDependsOnFile(a value.Args, _ *lab.Lab) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	path = f.hostPath(a.Call, path)
	if _, err := os.Stat(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	if err := f.uses(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}

// uses notes that a build depends on a file; in a test file it does nothing.
func (f *file) uses(path string) error {
	if f.build == nil {
		return nil
	}
	return f.build.trace.File(path)
}

// makes notes that a build writes a file; reading it makes it no dependency then.
func (f *file) makes(path string) {
	if f.build != nil {
		f.build.trace.Made(f.inProject(path))
	}
}

// restores notes that a build depends on a snapshot that it does not make. One that is
// missing is told by the restore.
func (f *file) restores(path string) error {
	path = f.inProject(path)
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return f.uses(path)
}
