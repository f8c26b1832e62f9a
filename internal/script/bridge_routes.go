package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
)

// addRouting adds the methods that concern a bridge's gateway.
func addRouting(methods map[string]bridgeMethod) {
	methods["route"] = (*file).bridgeRoute
	methods["routes"] = func(f *file, _ args, b *lab.Bridge) ([]lua.Value, error) {
		return []lua.Value{array(f.state, b.Routes(), stringValue)}, nil
	}
	methods["enable_uplink"] = blockingBridgeOp((*lab.Bridge).EnableUplink)
	methods["disable_uplink"] = blockingBridgeOp((*lab.Bridge).DisableUplink)
	methods["forward"] = (*file).bridgeForward
}

func blockingBridgeOp(do func(*lab.Bridge, context.Context) error) bridgeMethod {
	return func(f *file, a args, b *lab.Bridge) ([]lua.Value, error) {
		return nil, f.op(a, nil, func(ctx context.Context) error { return do(b, ctx) })
	}
}

// otherBridge is a bridge among the arguments; what names it in errors.
func (f *file) otherBridge(a args, v lua.Value, what string) (*lab.Bridge, error) {
	if u, ok := v.(*lua.Userdata); ok {
		if b, ok := u.Object().(*lab.Bridge); ok {
			return b, f.ended(a, "bridge", b.Name(), b)
		}
	}
	return nil, a.errorf("%s must be a bridge, got %s", what, typeName(v))
}

// bridgeRoute is bridge:route(other) and bridge:route({others}).
func (f *file) bridgeRoute(a args, b *lab.Bridge) ([]lua.Value, error) {
	var others []*lab.Bridge
	if t, ok := a.value(1).(*lua.Table); ok {
		given, err := sequence(t)
		if err != nil {
			return nil, a.errorf("argument 1 %w", err)
		}
		for i, v := range given {
			o, err := f.otherBridge(a, v, elementName(i+1))
			if err != nil {
				return nil, err
			}
			others = append(others, o)
		}
	} else {
		o, err := f.otherBridge(a, a.value(1), "argument 1 (other)")
		if err != nil {
			return nil, err
		}
		others = append(others, o)
	}
	return nil, f.op(a, nil, func(ctx context.Context) error { return b.Route(ctx, others) })
}

// bridgeForward is bridge:forward{vm=, port=, protocol=}.
func (f *file) bridgeForward(a args, b *lab.Bridge) ([]lua.Value, error) {
	if _, ok := a.value(1).(*lua.Table); !ok {
		return nil, a.wrong(1, "opts", "a table {vm=, port=}")
	}
	o, err := a.options(1, "vm", "port", "protocol")
	if err != nil {
		return nil, err
	}
	if !o.has("vm") {
		return nil, a.errorf("`vm` is missing (whose port: a vm or the name of one)")
	}
	vm, err := f.endpoint(a, o.get("vm"), "`vm`")
	if err != nil {
		return nil, err
	}
	port, given, err := o.integer("port")
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, a.errorf("`port` is missing (the port in the guest, 1 to 65535)")
	}
	if port < 1 || port > 65535 {
		return nil, o.errorf("port", "must be from 1 to 65535, got %d", port)
	}
	opts := lab.ForwardOpts{VM: vm.Name, Port: int(port)}
	switch v := o.get("protocol"); v {
	case nil, "tcp":
	case "udp":
		opts.UDP = true
	default:
		return nil, o.errorf("protocol", "must be \"tcp\" or \"udp\", got %s", show(v))
	}
	address, err := b.Forward(opts)
	if err != nil {
		return nil, a.errorf("%w", err)
	}
	return []lua.Value{address}, nil
}
