package netapi

import (
	"context"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
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

// otherBridge is a bridge among the arguments; what names it in errors.
func otherBridge(x *env, a value.Args, v lua.Value, what string) (*network.Bridge, error) {
	if u, ok := v.(*lua.Userdata); ok {
		if b, ok := u.Object().(*network.Bridge); ok {
			return b, x.Ended(a, "bridge", b.Name(), b)
		}
	}
	return nil, a.Errorf("%s must be a bridge, got %s", what, lua.TypeName(v))
}

// bridgeRoute is bridge:route(other) and bridge:route({others}).
func bridgeRoute(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	var others []*network.Bridge
	if t, ok := a.Value(1).(*lua.Table); ok {
		given, err := value.Sequence(t)
		if err != nil {
			return nil, a.Errorf("argument 1 %w", err)
		}
		for i, v := range given {
			o, err := otherBridge(x, a, v, elementName(i+1))
			if err != nil {
				return nil, err
			}
			others = append(others, o)
		}
	} else {
		o, err := otherBridge(x, a, a.Value(1), "argument 1 (other)")
		if err != nil {
			return nil, err
		}
		others = append(others, o)
	}
	return nil, x.Op(a, nil, func(ctx context.Context) error { return b.Route(ctx, others) })
}

// bridgeForward is bridge:forward{vm=, port=, protocol=}.
func bridgeForward(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	if _, ok := a.Value(1).(*lua.Table); !ok {
		return nil, a.TypeError(1, "opts", "a table {vm=, port=}")
	}
	o, err := a.Options(1, "vm", "port", "protocol")
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
