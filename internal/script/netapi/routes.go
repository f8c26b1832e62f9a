package netapi

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// addRouting adds the methods that concern a bridge's gateway.
func addRouting(methods map[string]bridgeMethod) {
	methods["route"] = bridgeRoute
	methods["routes"] = func(x *env, _ value.Args, b *network.Bridge) ([]lua.Value, error) {
		return []lua.Value{value.Array(x.State, b.Routes(), binding.StringValue)}, nil
	}
	methods["enable_uplink"] = blockingBridgeOp((*network.Bridge).EnableUplink)
	methods["disable_uplink"] = blockingBridgeOp((*network.Bridge).DisableUplink)
	methods["forward"] = bridgeForward
}

func blockingBridgeOp(do func(*network.Bridge, context.Context) error) bridgeMethod {
	return func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
		return nil, x.Op(a, nil, func(ctx context.Context) error { return do(b, ctx) })
	}
}

// otherBridge reads a bridge, or the name of one that may be declared later: then it
// returns no bridge. what names the argument in errors.
func otherBridge(x *env, a value.Args, b *network.Bridge, v lua.Value, what string) (*network.Bridge, string, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil, "", a.Errorf("%s must not be empty", what)
		}
		if v == b.Name() {
			return b, v, nil
		}
		found, ok := b.Scope().Bridge(v)
		if !ok {
			found, _ = x.Scope().LookupBridge(v)
		}
		return found, v, nil
	case *lua.Userdata:
		if o, ok := v.Object().(*network.Bridge); ok {
			return o, o.Name(), x.Ended(a, "bridge", o.Name(), o)
		}
	}
	return nil, "", a.Errorf("%s must be a bridge or the name of one, got %s", what, lua.TypeName(v))
}

// bridgeRoute is bridge:route(other) and bridge:route({others}).
func bridgeRoute(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	given, names := []lua.Value{a.Value(1)}, func(int) string { return "argument 1 (other)" }
	if t, ok := a.Value(1).(*lua.Table); ok {
		var err error
		if given, err = value.Sequence(t); err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
		names = elementName
	}
	var others []*network.Bridge
	var later []string
	for i, v := range given {
		o, name, err := otherBridge(x, a, b, v, names(i+1))
		switch {
		case err != nil:
			return nil, err
		case o != nil:
			others = append(others, o)
			continue
		}
		if err := topology.CheckName("bridge", name); err != nil {
			return nil, a.Errorf("%s: %w", names(i+1), err)
		}
		later = append(later, name)
	}
	if err := x.Op(a, nil, func(ctx context.Context) error { return b.Route(ctx, others) }); err != nil {
		return nil, err
	}
	for _, name := range later {
		if err := b.AwaitRoute(name, lab.Scope{Lab: x.Scope()}); err != nil {
			return nil, a.Errorf("%w", err)
		}
	}
	return nil, nil
}

// bridgeForward is bridge:forward{vm=, port=, protocol=}.
func bridgeForward(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	if _, ok := a.Value(1).(*lua.Table); !ok {
		return nil, a.TypeError(1, "opts", "a table {vm=, port=}")
	}
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	if !o.Has("vm") {
		return nil, a.Errorf("`vm` is missing (whose port: a vm or the name of one)")
	}
	vm, err := member(x, a, b, o.Get("vm"), "`vm`")
	if err != nil {
		return nil, err
	}
	port, given, err := o.Integer("port")
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, a.Errorf("`port` is missing (the port in the guest, 1 to 65535)")
	}
	if port < 1 || port > 65535 {
		return nil, o.Errorf("port", "must be from 1 to 65535, got %d", port)
	}
	opts := network.ForwardOpts{VM: vm, Port: int(port)}
	switch v := o.Get("protocol"); v {
	case nil, "tcp":
	case "udp":
		opts.UDP = true
	default:
		return nil, o.Errorf("protocol", "must be \"tcp\" or \"udp\", got %s", value.Format(v))
	}
	address, err := b.Forward(opts)
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return []lua.Value{address}, nil
}
