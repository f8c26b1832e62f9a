package script

import (
	"context"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

type nicMethod = func(f *file, a value.Args, n *lab.NIC) ([]lua.Value, error)

func (f *file) newNICType() *lua.Type {
	return &lua.Type{
		Name: "nic",
		ToString: func(_ *lua.Call, obj any) string {
			n := obj.(*lab.NIC)
			return "nic(" + n.VMName() + " on " + n.Bridge().Name() + ")"
		},
		Methods: methodTable(f, "nic", map[string]nicMethod{
			"vm_name": func(_ *file, _ value.Args, n *lab.NIC) ([]lua.Value, error) { return []lua.Value{n.VMName()}, nil },
			"bridge": func(_ *file, _ value.Args, n *lab.NIC) ([]lua.Value, error) {
				return []lua.Value{n.Bridge().Name()}, nil
			},
			"mac": func(_ *file, _ value.Args, n *lab.NIC) ([]lua.Value, error) { return []lua.Value{n.MAC()}, nil },
			"ip": func(_ *file, _ value.Args, n *lab.NIC) ([]lua.Value, error) {
				if ip := n.IP(); ip != "" {
					return []lua.Value{ip}, nil
				}
				return []lua.Value{nil}, nil
			},
			"counters":   (*file).nicCounters,
			"capture":    (*file).nicCapture,
			"disconnect": plainNICOp((*lab.NIC).Disconnect),
			"reconnect":  plainNICOp((*lab.NIC).Reconnect),
		}),
	}
}

func plainNICOp(do func(*lab.NIC, context.Context) error) nicMethod {
	return func(f *file, a value.Args, n *lab.NIC) ([]lua.Value, error) {
		if err := f.ended(a, "bridge", n.Bridge().Name(), n.Bridge()); err != nil {
			return nil, err
		}
		return nil, f.op(a, nil, func(ctx context.Context) error { return do(n, ctx) })
	}
}

func (f *file) nicHandle(n *lab.NIC) lua.Value { return f.state.NewUserdata(f.types.nic, n) }

func (f *file) nicCounters(_ value.Args, n *lab.NIC) ([]lua.Value, error) {
	c := n.Counters()
	t := f.state.NewTable()
	for key, v := range map[string]uint64{"rx_bytes": c.RxBytes, "tx_bytes": c.TxBytes,
		"rx_packets": c.RxPackets, "tx_packets": c.TxPackets, "errors": c.Errors} {
		value.MustSet(t, key, int64(v))
	}
	return []lua.Value{t}, nil
}

// bridgeNIC is bridge:nic(vm).
func (f *file) bridgeNIC(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	names, err := f.endpoints(a, "vm")
	if err != nil {
		return nil, err
	}
	n, err := b.NIC(names[0])
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return []lua.Value{f.nicHandle(n)}, nil
}

// vmNIC is vm:nic(name).
func (f *file) vmNIC(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	n, err := vm.NIC(name)
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.nicHandle(n)}, nil
}

// capture opens a stream of frames.
func (f *file) capture(a value.Args, open func(o lab.CaptureOpts, site lab.Site) (*lab.Stream, error)) ([]lua.Value, error) {
	o, err := a.Options(1, "nanoseconds", "filter")
	if err != nil {
		return nil, err
	}
	var how lab.CaptureOpts
	if how.Nanoseconds, err = o.Bool("nanoseconds", false); err != nil {
		return nil, err
	}
	if how.Filter, err = o.Str("filter", ""); err != nil {
		return nil, err
	}
	return f.openStream(a, nil, func(_ context.Context, site lab.Site) (*lab.Stream, error) {
		return open(how, site)
	})
}

func (f *file) nicCapture(a value.Args, n *lab.NIC) ([]lua.Value, error) {
	return f.capture(a, n.Capture)
}

func (f *file) bridgeCapture(a value.Args, b *lab.Bridge) ([]lua.Value, error) {
	return f.capture(a, b.Capture)
}
