package netapi

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

type bridgeMethod = binding.Method[*env, *network.Bridge]

func newBridgeType(x *env) *lua.Type {
	methods := map[string]bridgeMethod{
		"name":    bridgeValue(func(b *network.Bridge) lua.Value { return b.Name() }),
		"seed":    bridgeValue(func(b *network.Bridge) lua.Value { return int64(b.Seed()) }),
		"attach":  bridgeAttach,
		"detach":  bridgeDetach,
		"members": bridgeMembers,
		"nic":     bridgeNIC,
		"close":   bridgeClose,
		"capture": bridgeCapture,

		"partition":      bridgePartition,
		"unpartition":    bridgeUnpartition,
		"partition_all":  plainBridgeOp((*network.Bridge).PartitionAll),
		"restore_all":    plainBridgeOp(func(b *network.Bridge) { b.Switch().RestoreAll() }),
		"is_partitioned": bridgeIsPartitioned,
		"isolate":        isolate(true),
		"unisolate":      isolate(false),
		"is_isolated":    bridgeIsIsolated,
		"reset":          plainBridgeOp(func(b *network.Bridge) { b.Switch().Reset() }),
	}
	addImpairments(methods)
	addRouting(methods)
	table := map[string]bridgeMethod{}
	for name, method := range methods {
		table[name] = func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
			if name != "name" && name != "close" {
				if err := x.Ended(a, "bridge", b.Name(), b); err != nil {
					return nil, err
				}
			}
			return method(x, a, b)
		}
	}
	return &lua.Type{
		Name:     "bridge",
		Methods:  binding.MethodTable(x, "bridge", table),
		ToString: func(_ *lua.Call, obj any) string { return "bridge(" + obj.(*network.Bridge).Name() + ")" },
	}
}

func bridgeValue(get func(*network.Bridge) lua.Value) bridgeMethod {
	return func(_ *env, _ value.Args, b *network.Bridge) ([]lua.Value, error) { return []lua.Value{get(b)}, nil }
}

func plainBridgeOp(do func(*network.Bridge)) bridgeMethod {
	return func(_ *env, _ value.Args, b *network.Bridge) ([]lua.Value, error) {
		do(b)
		return nil, nil
	}
}

// LabBridge is lab:bridge(name, {seed=, addressing=}?).
func LabBridge(x *env, a value.Args, l *lab.Lab) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2, "seed", "addressing")
	if err != nil {
		return nil, err
	}
	var opts network.BridgeOpts
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
	return []lua.Value{x.Bridge(b)}, nil
}

// LabBridgeNames is lab:bridge_names().
func LabBridgeNames(x *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, l.BridgeNames(), binding.StringValue)}, nil
}

// endpoint is a VM or the name of one; what names the argument in errors.
func endpoint(x *env, a value.Args, v lua.Value, what string) (network.Endpoint, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return network.Endpoint{}, a.Errorf("%s must not be empty", what)
		}
		return network.Endpoint{Name: v}, nil
	case *lua.Userdata:
		if vm, ok := v.Object().(*lab.VM); ok {
			if err := x.Ended(a, "vm", vm.Name(), vm); err != nil {
				return network.Endpoint{}, err
			}
			return network.Endpoint{VM: vm, Name: vm.Name()}, nil
		}
	}
	return network.Endpoint{}, a.Errorf("%s must be a vm or the name of one, got %s", what, lua.TypeName(v))
}

// endpoints reads as many VMs as there are names, and checks that they differ.
func endpoints(x *env, a value.Args, names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, n := range names {
		e, err := endpoint(x, a, a.Value(i+1), "argument "+string(rune('1'+i))+" ("+n+")")
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
func direction(x *env, a value.Args, b *network.Bridge, o value.Options, attached bool) (from, to string, err error) {
	var names [2]string
	for i, key := range []string{"from", "to"} {
		if !o.Has(key) {
			return "", "", a.Errorf("`%s` is missing (a table needs from and to, each a vm or the name of one)", key)
		}
		e, err := endpoint(x, a, o.Get(key), "`"+key+"`")
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

func bridgeAttach(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	var ends []network.Endpoint
	if t, ok := a.Value(1).(*lua.Table); ok {
		given, err := value.Sequence(t)
		if err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
		for i, v := range given {
			e, err := endpoint(x, a, v, elementName(i+1))
			if err != nil {
				return nil, err
			}
			ends = append(ends, e)
		}
	} else {
		e, err := endpoint(x, a, a.Value(1), "argument 1 (vm)")
		if err != nil {
			return nil, err
		}
		ends = append(ends, e)
	}
	for _, e := range ends {
		if vm, ok := e.VM.(*lab.VM); ok {
			x.Touch(vm)
		}
	}
	return nil, x.Op(a, nil, func(ctx context.Context) error { return b.Attach(ctx, ends) })
}

func bridgeDetach(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	names, err := endpoints(x, a, "vm")
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, nil, func(ctx context.Context) error { return b.Detach(ctx, names[0]) })
}

func bridgeClose(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	return nil, x.Op(a, nil, b.Close)
}

func bridgeMembers(x *env, _ value.Args, b *network.Bridge) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, b.Members(), binding.StringValue)}, nil
}

func bridgePartition(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	return partitionRule(x, a, b, true, b.Switch().Partition, b.Switch().PartitionOneWay)
}

func bridgeUnpartition(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	return partitionRule(x, a, b, false, b.Switch().Unpartition, b.Switch().UnpartitionOneWay)
}

func partitionRule(x *env, a value.Args, b *network.Bridge, attached bool, both, oneWay func(a, b string)) ([]lua.Value,
	error) {
	if _, ok := a.Value(1).(*lua.Table); ok {
		o, err := a.Options(1, "from", "to")
		if err != nil {
			return nil, err
		}
		from, to, err := direction(x, a, b, o, attached)
		if err != nil {
			return nil, err
		}
		oneWay(from, to)
		return nil, nil
	}
	names, err := endpoints(x, a, "a", "b")
	if err != nil {
		return nil, err
	}
	both(names[0], names[1])
	return nil, nil
}

func bridgeIsPartitioned(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	names, err := endpoints(x, a, "a", "b")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsPartitioned(names[0], names[1])}, nil
}

func isolate(on bool) bridgeMethod {
	return func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
		names, err := endpoints(x, a, "vm")
		if err != nil {
			return nil, err
		}
		b.Switch().Isolate(names[0], on)
		return nil, nil
	}
}

func bridgeIsIsolated(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	names, err := endpoints(x, a, "vm")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsIsolated(names[0])}, nil
}
