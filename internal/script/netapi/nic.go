package netapi

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
	"provium/internal/stream"
	"provium/internal/vnet"
)

type nicMethod = binding.Method[*env, *network.NIC]

func newNICType(x *env) *lua.Type {
	return &lua.Type{
		Name: "nic",
		ToString: func(_ *lua.Call, obj any) string {
			n := obj.(*network.NIC)
			if n.Label() != "" {
				return "nic(" + n.VMName() + "/" + n.Label() + " on " + n.Bridge().Name() + ")"
			}
			return "nic(" + n.VMName() + " on " + n.Bridge().Name() + ")"
		},
		Methods: binding.MethodTable(x, "nic", map[string]nicMethod{
			"vm_name": func(_ *env, _ value.Args, n *network.NIC) ([]lua.Value,
				error) {
				return []lua.Value{n.VMName()}, nil
			},
			"bridge": func(_ *env, _ value.Args, n *network.NIC) ([]lua.Value, error) {
				return []lua.Value{n.Bridge().Name()}, nil
			},
			"mac": func(_ *env, _ value.Args, n *network.NIC) ([]lua.Value, error) { return []lua.Value{n.MAC()}, nil },
			"ip": func(_ *env, _ value.Args, n *network.NIC) ([]lua.Value, error) {
				if ip := n.IP(); ip != "" {
					return []lua.Value{ip}, nil
				}
				return []lua.Value{nil}, nil
			},
			"counters":   nicCounters,
			"capture":    nicCapture,
			"disconnect": plainNICOp((*network.NIC).Disconnect),
			"reconnect":  plainNICOp((*network.NIC).Reconnect),
		}),
	}
}

func plainNICOp(do func(*network.NIC, context.Context) error) nicMethod {
	return func(x *env, a value.Args, n *network.NIC) ([]lua.Value, error) {
		if err := x.Ended(a, "bridge", n.Bridge().Name(), n.Bridge()); err != nil {
			return nil, err
		}
		return nil, x.Op(a, nil, func(ctx context.Context) error { return do(n, ctx) })
	}
}

func nicCounters(x *env, _ value.Args, n *network.NIC) ([]lua.Value, error) {
	return []lua.Value{counters(x, n.Counters())}, nil
}

// counters returns the traffic of a port of the switch as a table.
func counters(x *env, c vnet.Counters) *lua.Table {
	t := x.State.NewTable()
	for key, v := range map[string]uint64{"rx_bytes": c.RxBytes, "tx_bytes": c.TxBytes,
		"rx_packets": c.RxPackets, "tx_packets": c.TxPackets, "errors": c.Errors} {
		value.MustSet(t, key, int64(v))
	}
	return t
}

// bridgeNIC is bridge:nic(vm).
func bridgeNIC(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	name, err := member(x, a, b, a.Value(1), "argument 1 (vm)")
	if err != nil {
		return nil, err
	}
	label, err := nicOption(a)
	if err != nil {
		return nil, err
	}
	n, err := b.NIC(name, label)
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return []lua.Value{x.NIC(n)}, nil
}

// vmNIC is vm:nic(name).
func vmNIC(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	n, err := vm.NIC(name)
	if err != nil {
		return nil, err
	}
	return []lua.Value{x.NIC(n)}, nil
}

// capture opens a stream of frames.
func capture(x *env, a value.Args,
	open func(o network.CaptureOpts, site stream.Site) (*stream.Stream, error)) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var how network.CaptureOpts
	if how.Nanoseconds, err = o.Bool("nanoseconds", false); err != nil {
		return nil, err
	}
	if how.Filter, err = o.Str("filter", ""); err != nil {
		return nil, err
	}
	return x.OpenStream(a, nil, func(_ context.Context, site stream.Site) (*stream.Stream, error) {
		return open(how, site)
	})
}

func nicCapture(x *env, a value.Args, n *network.NIC) ([]lua.Value, error) {
	return capture(x, a, n.Capture)
}

func bridgeCapture(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	return capture(x, a, b.Capture)
}
