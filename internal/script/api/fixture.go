package api

import (
	"context"
	"os"

	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// fixtureFunction is lab.vm_fixture or lab.lab_fixture of the lab behind obj, callable with
// `.` and with `:`. A lab given as first argument is the lab of that call only.
func fixtureFunction(x *env, obj any, name string) *lua.Function {
	return x.State.NewFunction("lab."+name, func(c *lua.Call) ([]lua.Value, error) {
		a := value.FunctionArgs(c, "lab:"+name)
		target := obj
		if u, ok := a.Value(1).(*lua.Userdata); ok {
			if _, isLab := labOf(u.Object()); isLab {
				target = u.Object()
				a.Values = a.Values[1:]
			}
		}
		l, _ := labOf(target)
		if err := x.Ended(a, "lab", l.Name(), l); err != nil {
			return nil, err
		}
		restore := labFixture
		if name == "vm_fixture" {
			restore = vmFixture
		}
		values, err := restore(x, a, l)
		x.Returned(a, l, values, err)
		return values, err
	})
}

// vmFixture is lab:vm_fixture(name).
func vmFixture(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	source, err := fixtureArg(x, a)
	if err != nil {
		return nil, err
	}
	var vm *lab.VM
	err = x.Op(a, nil, func(ctx context.Context) error {
		return x.session.RestoreFixture(ctx, source, fixture.VM, func(e *fixture.Entry) (err error) {
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
	x.Touch(vm)
	return []lua.Value{x.VM(vm)}, nil
}

// labFixture is lab:lab_fixture(name).
func labFixture(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	source, err := fixtureArg(x, a)
	if err != nil {
		return nil, err
	}
	var sub *lab.Lab
	err = x.Op(a, nil, func(ctx context.Context) error {
		return x.session.RestoreFixture(ctx, source, fixture.Lab, func(e *fixture.Entry) (err error) {
			sub, err = l.SubLabFrom(ctx, e.Path)
			return err
		})
	})
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	x.Touch(sub.AllVMs()...)
	return []lua.Value{labHandle(x, sub)}, nil
}

// fixtureArg reads the name and finds the file.
func fixtureArg(x *env, a value.Args) (source fixture.Source, err error) {
	name, err := a.Path(1, "name")
	if err != nil {
		return source, err
	}
	if source, err = x.session.FindFixture(name); err != nil {
		return source, a.Errorf("%w", err)
	}
	return source, nil
}

// labDependsOnFile is lab:depends_on_file(path). Outside of fixtures it does nothing.
func labDependsOnFile(x *env, a value.Args, _ *lab.Lab) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	if x.session.Build() == nil {
		return nil, nil
	}
	path = x.BesideFile(a.Call, path)
	if _, err := os.Stat(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	if err := x.session.Build().Uses(path); err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}
