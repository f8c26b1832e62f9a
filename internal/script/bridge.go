package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

type bridgeMethod = func(f *file, a value.Args, b *lab.Bridge) ([]lua.Value, error)

func (f *file) newBridgeType() *lua.Type {
	methods := map[string]bridgeMethod{
		"name":    bridgeValue(func(b *lab.Bridge) lua.Value { return b.Name() }),
		"seed":    bridgeValue(func(b *lab.Bridge) lua.Value { return int64(b.Seed()) }),
		"attach":  (*file).bridgeAttach,
		"detach":  (*file).bridgeDetach,
		"members": (*file).bridgeMembers,
		"nic":     (*file).bridgeNIC,
		"close":   (*file).bridgeClose,
		"capture": (*file).bridgeCapture,

		"partition":      (*file).bridgePartition,
		"unpartition":    (*file).bridgeUnpartition,
		"partition_all":  plainBridgeOp((*lab.Bridge).PartitionAll),
		"restore_all":    plainBridgeOp(func(b *lab.Bridge) { b.Switch().RestoreAll() }),
		"is_partitioned": (*file).bridgeIsPartitioned,
		"isolate":        isolate(true),
		"unisolate":      isolate(false),
		"is_isolated":    (*file).bridgeIsIsolated,
		"reset":          plainBridgeOp(func(b *lab.Bridge) { b.Switch().Reset() }),
	}
	addImpairments(methods)
	addRouting(methods)
	table := map[string]bridgeMethod{}
	for name, method := range methods {
		table[name] = func(f *file, a value.Args, b *lab.Bridge) ([]lua.Value, error) {
			if name != "name" && name != "close" {
				if err := f.ended(a, "bridge", b.Name(), b); err != nil {
					return nil, err
				}
			}
			return method(f, a, b)
		}
	}
	return &lua.Type{
		Name:     "bridge",
		Methods:  methodTable(f, "bridge", table),
		ToString: func(_ *lua.Call, obj any) string { return "bridge(" + obj.(*lab.Bridge).Name() + ")" },
	}
}

func bridgeValue(get func(*lab.Bridge) lua.Value) bridgeMethod {
	return func(_ *file, _ value.Args, b *lab.Bridge) ([]lua.Value, error) { return []lua.Value{get(b)}, nil }
}

func plainBridgeOp(do func(*lab.Bridge)) bridgeMethod {
	return func(_ *file, _ value.Args, b *lab.Bridge) ([]lua.Value, error) {
		do(b)
		return nil, nil
	}
}

func (f *file) bridgeHandle(b *lab.Bridge) lua.Value { return f.state.NewUserdata(f.types.bridge, b) }

// labBridge is lab:bridge(name, {seed=, addressing=}?).
func (f *file) labBridge(a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2, "seed", "addressing")
	if err != nil {
		return nil, err
	}
	var opts lab.BridgeOpts
	seed, given, err := o.Integer("seed")
	if err != nil {
		return nil, err
	}
	if given {
		s := uint64(seed)
		opts.Seed = &s
	}
	switch v := o.Get("addressing"); v {
	case nil, "auto":
	case "none":
		opts.NoAddressing = true
	default:
		return nil, o.Errorf("addressing", "must be \"none\" or \"auto\", got %s", value.Format(v))
	}
	b, err := l.Bridge(name, &opts)
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.bridgeHandle(b)}, nil
}

func (f *file) labBridgeNames(_ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(f.state, l.BridgeNames(), stringValue)}, nil
}

// endpoint is a VM or the name of one; what names the argument in errors.
func (f *file) endpoint(a value.Args, v lua.Value, what string) (lab.Endpoint, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return lab.Endpoint{}, a.Errorf("%s must not be empty", what)
		}
		return lab.Endpoint{Name: v}, nil
	case *lua.Userdata:
		if vm, ok := v.Object().(*lab.VM); ok {
			if err := f.ended(a, "vm", vm.Name(), vm); err != nil {
				return lab.Endpoint{}, err
			}
			return lab.Endpoint{VM: vm, Name: vm.Name()}, nil
		}
	}
	return lab.Endpoint{}, a.Errorf("%s must be a vm or the name of one, got %s", what, lua.TypeName(v))
}

// endpoints reads as many VMs as there are names, and checks that they differ.
func (f *file) endpoints(a value.Args, names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, n := range names {
		e, err := f.endpoint(a, a.Value(i+1), "argument "+string(rune('1'+i))+" ("+n+")")
		if err != nil {
			return nil, err
		}
		out[i] = e.Name
	}
	if len(out) == 2 && out[0] == out[1] {
		return nil, a.Errorf("both are vm `%s` (they must differ)", out[0])
	}
	return out, nil
}

// direction reads from and to of a table, which must both be attached if so wanted.
func (f *file) direction(a value.Args, b *lab.Bridge, o value.Options, attached bool) (from, to string, err error) {
	var names [2]string
	for i, key := range []string{"from", "to"} {
		if !o.Has(key) {
			return "", "", a.Errorf("`%s` is missing (a table needs from and to, each a vm or the name of one)", key)
		}
		e, err := f.endpoint(a, o.Get(key), "`"+key+"`")
		if err != nil {
			return "", "", err
		}
		names[i] = e.Name
	}
	if names[0] == names[1] {
		return "", "", a.Errorf("from and to are both vm `%s` (they must differ)", names[0])
	}
	if attached {
		for _, n := range names {
			if _, err := b.NIC(n); err != nil {
				return "", "", a.Errorf("%w", err)
			}
		}
	}
	return names[0], names[1], nil
}

func (f *file) bridgeAttach(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	var ends []lab.Endpoint
	if t, ok := a.Value(1).(*lua.Table); ok {
		given, err := value.Sequence(t)
		if err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
		for i, v := range given {
			e, err := f.endpoint(a, v, elementName(i+1))
			if err != nil {
				return nil, err
			}
			ends = append(ends, e)
		}
	} else {
		e, err := f.endpoint(a, a.Value(1), "argument 1 (vm)")
		if err != nil {
			return nil, err
		}
		ends = append(ends, e)
	}
	for _, e := range ends {
		if e.VM != nil && f.current != nil {
			f.current.touch(e.VM)
		}
	}
	return nil, f.op(a, nil, func(ctx context.Context) error { return b.Attach(ctx, ends) })
}

func (f *file) bridgeDetach(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	names, err := f.endpoints(a, "vm")
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, nil, func(ctx context.Context) error { return b.Detach(ctx, names[0]) })
}

func (f *file) bridgeClose(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	return nil, f.op(a, nil, b.Close)
}

func (f *file) bridgeMembers(_ value.Args, b *lab.Bridge) ([]lua.Value, error) {
	return []lua.Value{value.Array(f.state, b.Members(), stringValue)}, nil
}

func (f *file) bridgePartition(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	return f.partitionRule(a, b, true, b.Switch().Partition, b.Switch().PartitionOneWay)
}

func (f *file) bridgeUnpartition(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	return f.partitionRule(a, b, false, b.Switch().Unpartition, b.Switch().UnpartitionOneWay)
}

func (f *file) partitionRule(a value.Args, b *lab.Bridge, attached bool, both, oneWay func(a, b string)) ([]lua.Value, error) {
	if _, ok := a.Value(1).(*lua.Table); ok {
		o, err := a.Options(1, "from", "to")
		if err != nil {
			return nil, err
		}
		from, to, err := f.direction(a, b, o, attached)
		if err != nil {
			return nil, err
		}
		oneWay(from, to)
		return nil, nil
	}
	names, err := f.endpoints(a, "a", "b")
	if err != nil {
		return nil, err
	}
	both(names[0], names[1])
	return nil, nil
}

func (f *file) bridgeIsPartitioned(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	names, err := f.endpoints(a, "a", "b")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsPartitioned(names[0], names[1])}, nil
}

func isolate(on bool) bridgeMethod {
	return func(f *file, a value.Args, b *lab.Bridge) ([]lua.Value, error) {
		names, err := f.endpoints(a, "vm")
		if err != nil {
			return nil, err
		}
		b.Switch().Isolate(names[0], on)
		return nil, nil
	}
}

func (f *file) bridgeIsIsolated(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	names, err := f.endpoints(a, "vm")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsIsolated(names[0])}, nil
}
