package script

import (
	"context"
	"errors"
	"fmt"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// rootLab is what the global `provium` stands for: the lab of the running test, else that of
// the file. The handle stays the same, so that a script may keep it.
type rootLab struct{ f *file }

// labOf is the lab behind a handle.
func labOf(obj any) (*lab.Lab, bool) {
	switch o := obj.(type) {
	case *rootLab:
		return o.f.scope, true
	case *lab.Lab:
		return o, true
	}
	return nil, false
}

// labHandle is the one handle of a lab.
func (f *file) labHandle(l *lab.Lab) lua.Value {
	if l == f.root || l == f.scope {
		return f.provium
	}
	return f.state.NewUserdata(f.types.lab, l)
}

type labMethod = func(f *file, a value.Args, l *lab.Lab) ([]lua.Value, error)

func (f *file) newLabType() *lua.Type {
	t := &lua.Type{
		Name:    "lab",
		Methods: map[string]lua.GoFunc{},
		Index: func(c *lua.Call, obj any, key lua.Value) (lua.Value, bool, error) {
			return f.labIndex(obj, key), true, nil
		},
		NewIndex: func(c *lua.Call, obj any, key, v lua.Value) error {
			if _, ok := obj.(*rootLab); ok {
				return f.assign(key, v)
			}
			l, _ := labOf(obj)
			return fmt.Errorf("lab `%s`: cannot assign %s (settings are assigned on provium: %s)", l.Name(), value.FormatKey(key), settings)
		},
		ToString: func(c *lua.Call, obj any) string {
			l, _ := labOf(obj)
			return "lab(" + l.Name() + ")"
		},
	}
	for name, method := range map[string]labMethod{
		"vm":            (*file).labVM,
		"lab":           (*file).labLab,
		"bridge":        (*file).labBridge,
		"bridge_names":  (*file).labBridgeNames,
		"include":       (*file).labInclude,
		"remove":        (*file).labRemove,
		"members":       (*file).labMembers,
		"vm_names":      (*file).labVMNames,
		"sub_lab_names": (*file).labSubLabNames,
		"boot":          (*file).labBoot,
		"shutdown":      plainLabOp((*lab.Lab).Shutdown),
		"pause":         plainLabOp((*lab.Lab).Pause),
		"resume":        plainLabOp((*lab.Lab).Resume),
		"claim":         (*file).labClaim,
		"snapshot":      (*file).labSnapshot,
		"restore":       (*file).labRestore,
		"fork":          (*file).labFork,
		"barrier":       (*file).labBarrier,

		"depends_on_file": (*file).labDependsOnFile,
		"name": func(_ *file, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
			return []lua.Value{l.Name()}, nil
		},
	} {
		t.Methods[name] = func(c *lua.Call) ([]lua.Value, error) {
			l, ok := labOf(object(c))
			if !ok {
				return nil, fmt.Errorf("lab:%s: the handle is of no lab", name)
			}
			a := value.MethodArgs(c, "lab:"+name)
			if err := f.ended(a, "lab", l.Name(), l); err != nil && name != "name" {
				return nil, err
			}
			return method(f, a, l)
		}
	}
	return t
}

// labIndex is lab.<key> for what is no method: a setting, a VM, a bridge, a sub-lab, or nil.
func (f *file) labIndex(obj any, key lua.Value) lua.Value {
	name, ok := key.(string)
	if !ok {
		return nil
	}
	if fn := f.packing[name]; fn != nil {
		return fn
	}
	if name == "vm_fixture" || name == "lab_fixture" {
		return f.fixtureFunction(obj, name)
	}
	if _, isRoot := obj.(*rootLab); isRoot && name == "timeout" {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.setting.raw
	}
	if _, isRoot := obj.(*rootLab); isRoot && name == "reset_between_tests" {
		return f.wantReset
	}
	l, _ := labOf(obj)
	if vm, ok := l.VM(name); ok {
		return f.vmHandle(vm)
	}
	if b, ok := l.LookupBridge(name); ok {
		return f.bridgeHandle(b)
	}
	if sub, ok := l.LookupLab(name); ok {
		return f.labHandle(sub)
	}
	return nil
}

// packFunctions are lab.pack and lab.unpack: those of string, callable with `.` and with `:`.
func (f *file) packFunctions() (map[string]*lua.Function, error) {
	library, ok := f.state.Global("string").(*lua.Table)
	if !ok {
		return nil, errors.New("the string library is missing")
	}
	out := map[string]*lua.Function{}
	for _, name := range []string{"pack", "unpack"} {
		original := library.Get(name)
		out[name] = f.state.NewFunction("lab."+name, func(c *lua.Call) ([]lua.Value, error) {
			values := c.Args()
			if len(values) > 0 {
				if u, ok := values[0].(*lua.Userdata); ok && u.Type() == f.types.lab {
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
	return func(f *file, a value.Args, l *lab.Lab) ([]lua.Value, error) { return nil, f.labOp(a, l, do) }
}

// labOp is an operation on all VMs of a lab.
func (f *file) labOp(a value.Args, l *lab.Lab, do func(*lab.Lab, context.Context) error) error {
	if f.current != nil {
		for _, vm := range l.AllVMs() {
			f.current.touch(vm)
		}
	}
	return f.op(a, nil, func(ctx context.Context) error { return do(l, ctx) })
}

func (f *file) labBoot(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	err := f.labOp(a, l, (*lab.Lab).Boot)
	return value.Results(err, a.Call.Arg(1))
}

// labVM is lab:vm(name), a lookup, or lab:vm(name, profile, opts?), a declaration.
func (f *file) labVM(a value.Args, l *lab.Lab) ([]lua.Value, error) {
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
		return []lua.Value{f.vmHandle(vm)}, nil
	}
	profile, err := a.Str(2, "profile")
	if err != nil {
		return nil, err
	}
	opts, err := bootOpts(a, 3)
	if err != nil {
		return nil, err
	}
	vm, err := l.DeclareVM(name, profile, opts)
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.vmHandle(vm)}, nil
}

func (f *file) labLab(a value.Args, l *lab.Lab) ([]lua.Value, error) {
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
	return []lua.Value{f.labHandle(sub)}, nil
}

// member is a VM, bridge or lab given as argument.
func (f *file) member(a value.Args, v lua.Value) (lab.Member, error) {
	if u, ok := v.(*lua.Userdata); ok {
		if vm, ok := u.Object().(*lab.VM); ok {
			return vm, nil
		}
		if b, ok := u.Object().(*lab.Bridge); ok {
			return b, nil
		}
		if l, ok := labOf(u.Object()); ok {
			return l, nil
		}
	}
	return nil, a.Errorf("expected a vm, a bridge or a lab, got %s", lua.TypeName(v))
}

func (f *file) labInclude(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	given := []lua.Value{a.Value(1)}
	if t, ok := a.Value(1).(*lua.Table); ok {
		var err error
		if given, err = value.Sequence(t); err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
	}
	members := make([]lab.Member, len(given))
	for i, v := range given {
		m, err := f.member(a, v)
		if err != nil {
			return nil, err
		}
		members[i] = m
	}
	return nil, l.Include(members)
}

func (f *file) labRemove(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	if name, ok := a.Value(1).(string); ok {
		return nil, l.RemoveName(name)
	}
	m, err := f.member(a, a.Value(1))
	if err != nil {
		return nil, a.Errorf("expected a name, a vm, a bridge or a lab, got %s", lua.TypeName(a.Value(1)))
	}
	return nil, l.Remove(m)
}

func (f *file) labMembers(_ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(f.state, l.Members(), func(m lab.MemberInfo) lua.Value {
		t := f.state.NewTable()
		value.MustSet(t, "kind", m.Kind)
		value.MustSet(t, "name", m.Name)
		return t
	})}, nil
}

func stringValue(s string) lua.Value { return s }

func (f *file) labVMNames(_ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(f.state, l.VMNames(), stringValue)}, nil
}

func (f *file) labSubLabNames(_ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(f.state, l.SubLabNames(), stringValue)}, nil
}

// labClaim is lab:claim({memory=, cpus=}). One claim holds for the whole file.
func (f *file) labClaim(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	o, err := a.Options(1, "memory", "memory_bytes", "cpus")
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
	if f.build != nil { // the budget is that of the file that asked for the fixture
		return nil, nil
	}
	if f.claimed {
		return nil, a.Errorf("claim already taken: a claim is one-shot, the file's one claim holds to its end")
	}
	if err := f.op(a, nil, func(ctx context.Context) error { return l.Claim(ctx, memory, int(cpus)) }); err != nil {
		return nil, err
	}
	f.claimed = true
	return nil, nil
}
