package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/netapi"
	"provium/internal/script/value"
)

// rootLab is what the global `provium` stands for: the lab of the running test, else that of
// the file. The handle stays the same, so that a script may keep it.
type rootLab struct{ x *env }

// labOf returns the lab behind a handle.
func labOf(obj any) (*lab.Lab, bool) {
	switch o := obj.(type) {
	case *rootLab:
		return o.x.Scope(), true
	case *lab.Lab:
		return o, true
	}
	return nil, false
}

// LabOf returns the lab that an object of Lua stands for, false for another object.
func LabOf(object any) (*lab.Lab, bool) { return labOf(object) }

// labHandle returns the handle of a lab.
func labHandle(x *env, l *lab.Lab) lua.Value {
	if l == x.Root() || l == x.Scope() {
		return x.provium
	}
	return x.State.NewUserdata(x.Types.Lab, l)
}

type labMethod = binding.Method[*env, *lab.Lab]

// networkMethod is a method that package netapi has.
func networkMethod(method binding.Method[*binding.Env, *lab.Lab]) labMethod {
	return func(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) { return method(x.Env, a, l) }
}

func newLabType(x *env) *lua.Type {
	t := &lua.Type{
		Name:    "lab",
		Methods: map[string]lua.GoFunc{},
		Index: func(c *lua.Call, obj any, key lua.Value) (lua.Value, bool, error) {
			return labIndex(x, obj, key), true, nil
		},
		NewIndex: func(c *lua.Call, obj any, key, v lua.Value) error {
			if _, ok := obj.(*rootLab); ok {
				return x.session.Assign(key, v)
			}
			l, _ := labOf(obj)
			return fmt.Errorf("lab `%s`: cannot assign %s (settings are assigned on provium: %s)", l.Name(),
				value.FormatKey(key), Settings)
		},
		ToString: func(c *lua.Call, obj any) string {
			l, _ := labOf(obj)
			return "lab(" + l.Name() + ")"
		},
	}
	for name, method := range map[string]labMethod{
		"vm":            labVM,
		"lab":           labLab,
		"bridge":        networkMethod(netapi.LabBridge),
		"bridge_names":  networkMethod(netapi.LabBridgeNames),
		"include":       labInclude,
		"remove":        labRemove,
		"members":       labMembers,
		"vm_names":      labVMNames,
		"sub_lab_names": labSubLabNames,
		"boot":          labBoot,
		"shutdown":      plainLabOp((*lab.Lab).Shutdown),
		"pause":         plainLabOp((*lab.Lab).Pause),
		"resume":        plainLabOp((*lab.Lab).Resume),
		"claim":         labClaim,
		"snapshot":      labSnapshot,
		"restore":       labRestore,
		"fork":          labFork,
		"barrier":       labBarrier,

		"depends_on_file": labDependsOnFile,
		"name": func(_ *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
			return []lua.Value{l.Name()}, nil
		},
	} {
		t.Methods[name] = func(c *lua.Call) ([]lua.Value, error) {
			l, ok := labOf(binding.Object(c))
			if !ok {
				return nil, fmt.Errorf("lab:%s: the handle is of no lab", name)
			}
			a := value.MethodArgs(c, "lab:"+name)
			if err := x.Ended(a, "lab", l.Name(), l); err != nil && name != "name" {
				return nil, err
			}
			values, err := method(x, a, l)
			x.Returned(a, l, values, err)
			return values, err
		}
	}
	return t
}

// labIndex is lab.<key> for a key that is not a method: a setting, a VM, a bridge, a sub-lab,
// or nil.
func labIndex(x *env, obj any, key lua.Value) lua.Value {
	name, ok := key.(string)
	if !ok {
		return nil
	}
	if fn := x.packing[name]; fn != nil {
		return fn
	}
	if name == "vm_fixture" || name == "lab_fixture" {
		return fixtureFunction(x, obj, name)
	}
	if _, isRoot := obj.(*rootLab); isRoot {
		if v, ok := x.session.Setting(name); ok {
			return v
		}
	}
	l, _ := labOf(obj)
	if vm, ok := l.VM(name); ok {
		return x.VM(vm)
	}
	if b, ok := l.LookupBridge(name); ok {
		return x.Bridge(b)
	}
	if sub, ok := l.LookupLab(name); ok {
		return labHandle(x, sub)
	}
	return nil
}

// packFunctions are lab.pack and lab.unpack: those of string, callable with `.` and with `:`.
func packFunctions(x *env) (map[string]*lua.Function, error) {
	library, ok := x.State.Global("string").(*lua.Table)
	if !ok {
		return nil, errors.New("the string library is missing")
	}
	out := map[string]*lua.Function{}
	for _, name := range []string{"pack", "unpack"} {
		original := library.Get(name)
		out[name] = x.State.NewFunction("lab."+name, func(c *lua.Call) ([]lua.Value, error) {
			values := c.Args()
			if len(values) > 0 {
				if u, ok := values[0].(*lua.Userdata); ok && u.Type() == x.Types.Lab {
					values = values[1:]
				}
			}
			values, err := c.Call(original, values...)
			var raised *lua.Error
			if errors.As(err, &raised) && c.Thread().Interrupted() == nil {
				return nil, errors.New(raised.Message)
			}
			return values, err
		})
	}
	return out, nil
}

func plainLabOp(do func(*lab.Lab, context.Context) error) labMethod {
	return func(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) { return nil, labOp(x, a, l, do) }
}

// labOp is an operation on all VMs of a lab.
func labOp(x *env, a value.Args, l *lab.Lab, do func(*lab.Lab, context.Context) error) error {
	x.Touch(l.TargetVMs()...)
	return x.Op(a, nil, func(ctx context.Context) error { return do(l, ctx) })
}

func labBoot(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	if err := a.AtMost(0, "lab:boot(), with options where the VMs are declared"); err != nil {
		return nil, err
	}
	err := labOp(x, a, l, (*lab.Lab).Boot)
	return value.Results(err, a.Call.Arg(1))
}

// labVM is lab:vm(name), a lookup, or lab:vm(name, profile, opts?), a declaration.
func labVM(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	if a.Value(2) == nil {
		if a.Value(3) != nil {
			return nil, a.TypeError(2, "profile", "a string")
		}
		vm, err := l.MustVM(name)
		if err != nil {
			return nil, err
		}
		return []lua.Value{x.VM(vm)}, nil
	}
	profile, err := a.Str(2, "profile")
	if err != nil {
		return nil, err
	}
	opts, err := bootOpts(x, a, 3)
	if err != nil {
		return nil, err
	}
	vm, err := l.DeclareVM(name, profile, opts)
	if err != nil {
		return nil, err
	}
	return []lua.Value{x.VM(vm)}, nil
}

func labLab(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name := ""
	if a.Value(1) != nil {
		var err error
		if name, err = a.Str(1, "name"); err != nil {
			return nil, err
		}
		if name == "" {
			return nil, a.Errorf("argument 1 (name) must not be empty (leave it out for a lab without a name)")
		}
	}
	sub, err := l.Lab(name)
	if err != nil {
		return nil, err
	}
	return []lua.Value{labHandle(x, sub)}, nil
}

// member is a VM, bridge or lab given as argument.
func member(x *env, a value.Args, v lua.Value) (lab.Member, error) {
	if u, ok := v.(*lua.Userdata); ok {
		if vm, ok := u.Object().(*lab.VM); ok {
			return vm, nil
		}
		if b, ok := u.Object().(*network.Bridge); ok {
			return b, nil
		}
		if l, ok := labOf(u.Object()); ok {
			return l, nil
		}
	}
	return nil, a.Errorf("expected a userdata (vm, bridge or lab), got %s", lua.TypeName(v))
}

func labInclude(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	given := []lua.Value{a.Value(1)}
	if t, ok := a.Value(1).(*lua.Table); ok {
		var err error
		if given, err = value.Sequence(t); err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
	}
	members := make([]lab.Member, len(given))
	for i, v := range given {
		m, err := member(x, a, v)
		if err != nil {
			return nil, err
		}
		members[i] = m
	}
	return nil, l.Include(members)
}

func labRemove(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	if name, ok := a.Value(1).(string); ok {
		return nil, l.RemoveName(name)
	}
	m, err := member(x, a, a.Value(1))
	if err != nil {
		return nil, a.Errorf("expected a name, a vm, a bridge or a lab, got %s", lua.TypeName(a.Value(1)))
	}
	return nil, l.Remove(m)
}

func labMembers(x *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, l.Members(), func(m lab.MemberInfo) lua.Value {
		t := x.State.NewTable()
		value.MustSet(t, "kind", m.Kind)
		value.MustSet(t, "name", m.Name)
		return t
	})}, nil
}

func labVMNames(x *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, l.VMNames(), binding.StringValue)}, nil
}

func labSubLabNames(x *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, l.SubLabNames(), binding.StringValue)}, nil
}

// labClaim is lab:claim({memory=, cpus=}). One claim holds for the whole file.
func labClaim(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var memory int64
	switch {
	case o.Has("memory") && o.Has("memory_bytes"):
		return nil, a.Errorf("opts.memory and opts.memory_bytes are the same (give one)")
	case o.Has("memory"):
		memory, err = value.ParseSize(o.Get("memory"))
	case o.Has("memory_bytes"):
		memory, err = value.ParseSize(o.Get("memory_bytes"))
		if _, isText := o.Get("memory_bytes").(string); isText {
			err = errors.New("memory_bytes must be an integer, got string")
		}
	}
	if err != nil {
		return nil, a.Errorf("memory: %w", err)
	}
	cpus, hasCPUs, err := o.Integer("cpus")
	if err != nil {
		return nil, err
	}
	if hasCPUs && (cpus < 1 || cpus > 1<<20) {
		return nil, o.Errorf("cpus", "must be an integer of at least 1, got %d", cpus)
	}
	if memory == 0 && !hasCPUs {
		return nil, a.Errorf("nothing is claimed (give memory, cpus or both, as in {memory = \"2G\", cpus = 2})")
	}
	return nil, x.session.Claim(a, l, memory, int(cpus))
}

const (
	barrierWait = 60 * time.Second
	barrierMax  = 1 << 16 // tasks that may be asked for
)

// labBarrier is lab:barrier(name, count, timeout?).
func labBarrier(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, a.Errorf("argument 1 (name) must not be empty")
	}
	count, ok := value.ToInteger(a.Value(2))
	if !ok {
		return nil, a.TypeError(2, "count", "an integer")
	}
	if count < 1 || count > barrierMax {
		return nil, a.Errorf("argument 2 (count) must be between 1 and %d, got %d", barrierMax, count)
	}
	limit, err := a.Duration(3, "timeout", barrierWait)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		return nil, a.Errorf("argument 3 (timeout) must be above 0")
	}
	if err := x.session.Barrier(a, l, name, int(count), limit); err != nil {
		return nil, err
	}
	return []lua.Value{true}, nil
}
