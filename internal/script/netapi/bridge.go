package netapi

import (
	"context"
	"fmt"

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
		"port":    bridgePort,

		"partition":      bridgePartition,
		"unpartition":    bridgeUnpartition,
		"partition_all":  plainBridgeOp(func(b *network.Bridge) { b.Switch().PartitionAll() }),
		"restore_all":    plainBridgeOp(func(b *network.Bridge) { b.Switch().RestoreAll() }),
		"is_partitioned": bridgeIsPartitioned,
		"isolate":        isolate(true),
		"unisolate":      isolate(false),
		"is_isolated":    bridgeIsIsolated,
		"reset":          plainBridgeOp(func(b *network.Bridge) { b.Switch().Reset() }),
	}
	addImpairments(methods)
	addRouting(methods)
	addServers(methods)
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
	o, err := a.Options(2)
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
	if b.NeedsSync() {
		if err := x.Op(a, nil, b.SyncRoutes); err != nil {
			return nil, err
		}
	}
	return []lua.Value{x.Bridge(b)}, nil
}

// LabBridgeNames is lab:bridge_names().
func LabBridgeNames(x *env, _ value.Args, l *lab.Lab) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, l.BridgeNames(), binding.StringValue)}, nil
}

func bridgeAttach(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	var ends []network.Endpoint
	if t, ok := a.Value(1).(*lua.Table); ok {
		given, err := value.Sequence(t)
		if err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
		for i, v := range given {
			e, err := endpoint(x, a, b, v, elementName(i+1))
			if err != nil {
				return nil, err
			}
			ends = append(ends, e)
		}
	} else {
		e, err := endpoint(x, a, b, a.Value(1), "argument 1 (vm)")
		if err != nil {
			return nil, err
		}
		ends = append(ends, e)
	}
	label, err := nicOption(a)
	if err != nil {
		return nil, err
	}
	for i := range ends {
		ends[i].NIC = label
		if vm, ok := ends[i].VM.(*lab.VM); ok {
			x.Touch(vm)
		}
		if n, err := b.NIC(ends[i].Name, label); err == nil && n.Label() == label {
			x.Warn(onBridge(b, ends[i]))
		}
	}
	return nil, x.Op(a, nil, func(ctx context.Context) error { return b.Attach(ctx, ends) })
}

// nicOption reads the opts {nic=}, which name a further NIC of a VM on the bridge.
func nicOption(a value.Args) (string, error) {
	o, err := a.Options(2)
	if err != nil {
		return "", err
	}
	label, err := o.Str("nic", "")
	if err == nil && label == "" && o.Has("nic") {
		err = o.Errorf("nic", "must not be empty")
	}
	return label, err
}

// onBridge is the note for a VM that is to be attached again.
func onBridge(b *network.Bridge, e network.Endpoint) string {
	if e.NIC != "" {
		return fmt.Sprintf("bridge:attach: vm `%s` has its NIC `%s` on bridge `%s` already", e.Name, e.NIC, b.Name())
	}
	return fmt.Sprintf("bridge:attach: vm `%s` is on bridge `%s` already; attach(vm, {nic = \"NAME\"}) gives it "+
		"another NIC there", e.Name, b.Name())
}

func bridgeDetach(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	name, err := member(x, a, b, a.Value(1), "argument 1 (vm)")
	if err != nil {
		return nil, err
	}
	label, err := nicOption(a)
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, nil, func(ctx context.Context) error { return b.Detach(ctx, name, label) })
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

// partitionRule is a method for two VMs, or for one direction between them, whose ends must
// be attached if so wanted.
func partitionRule(x *env, a value.Args, b *network.Bridge, attached bool, both, oneWay func(a, b string)) ([]lua.Value,
	error) {
	if _, ok := a.Value(1).(*lua.Table); ok {
		o, err := a.Options(1)
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
	ends, err := endpoints(x, a, b, "a", "b")
	if err != nil {
		return nil, err
	}
	if attached {
		b.Await(ends...)
	}
	both(ends[0].Name, ends[1].Name)
	return nil, nil
}

func bridgeIsPartitioned(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	ends, err := endpoints(x, a, b, "a", "b")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsPartitioned(ends[0].Name, ends[1].Name)}, nil
}

func isolate(on bool) bridgeMethod {
	return func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
		ends, err := endpoints(x, a, b, "vm")
		if err != nil {
			return nil, err
		}
		if on {
			b.Await(ends...)
		}
		b.Switch().Isolate(ends[0].Name, on)
		return nil, nil
	}
}

func bridgeIsIsolated(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	ends, err := endpoints(x, a, b, "vm")
	if err != nil {
		return nil, err
	}
	return []lua.Value{b.Switch().IsIsolated(ends[0].Name)}, nil
}
