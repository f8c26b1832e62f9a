package netapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// receiveWait is how long port:recv waits by default.
const receiveWait = 10 * time.Second

type portMethod = binding.Method[*env, *network.Port]

// portResource is a port as a Resource: its Close cannot fail.
type portResource struct{ *network.Port }

// Close implements binding.Resource.
func (p portResource) Close(context.Context) error {
	p.Port.Close()
	return nil
}

func newPortType(x *env) *lua.Type {
	text := func(get func(*network.Port) string) portMethod {
		return func(_ *env, _ value.Args, p *network.Port) ([]lua.Value, error) { return []lua.Value{get(p)}, nil }
	}
	return &lua.Type{
		Name: "port",
		ToString: func(_ *lua.Call, obj any) string {
			p := obj.(*network.Port)
			if p.Bridge().Port(p.Name()) != p {
				return "port(" + p.Name() + " on " + p.Bridge().Name() + ", closed)"
			}
			return "port(" + p.Name() + " on " + p.Bridge().Name() + ")"
		},
		Methods: binding.MethodTable(x, "port", map[string]portMethod{
			"name":     text((*network.Port).Name),
			"bridge":   text(func(p *network.Port) string { return p.Bridge().Name() }),
			"mac":      text((*network.Port).MAC),
			"send":     portSend,
			"recv":     portReceive,
			"counters": portCounters,
			"close": func(x *env, _ value.Args, p *network.Port) ([]lua.Value, error) {
				tellDropped(x, p)
				x.Disown(binding.PortResource, portResource{p})
				p.Close()
				return nil, nil
			},
		}),
	}
}

// bridgePort is bridge:port({name=, promiscuous=}?).
func bridgePort(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	var opts network.PortOpts
	if opts.Name, err = o.Str("name", ""); err != nil {
		return nil, err
	}
	if opts.Name == "" && o.Has("name") {
		return nil, o.Errorf("name", "must not be empty")
	}
	if opts.Promiscuous, err = o.Bool("promiscuous", false); err != nil {
		return nil, err
	}
	p, err := b.OpenPort(opts, x.Site(a.Call))
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	x.Own(binding.PortResource, portResource{p})
	return []lua.Value{x.State.NewUserdata(x.Types.Port, p)}, nil
}

// portSend is port:send(frame).
func portSend(_ *env, a value.Args, p *network.Port) ([]lua.Value, error) {
	frame, err := a.Str(1, "frame")
	if err != nil {
		return nil, err
	}
	if err := p.Send([]byte(frame)); err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}

// portReceive is port:recv(timeout?).
func portReceive(x *env, a value.Args, p *network.Port) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", receiveWait)
	if err != nil {
		return nil, err
	}
	var frame []byte
	late := errors.New("timeout")
	err = x.Op(a, nil, func(ctx context.Context) (err error) {
		limited, cancel := context.WithTimeoutCause(ctx, limit, late)
		defer cancel()
		frame, err = p.Receive(limited)
		return err
	})
	tellDropped(x, p)
	switch {
	case errors.Is(err, late):
		return []lua.Value{nil}, nil
	case errors.Is(err, network.ErrPortClosed):
		return nil, a.Errorf("%w", err)
	case err != nil:
		return nil, err
	}
	return []lua.Value{frame}, nil
}

// tellDropped puts a warning into the test's log if frames were lost since the last one.
func tellDropped(x *env, p *network.Port) {
	if n := p.TakeDropped(); n > 0 {
		x.Warn(fmt.Sprintf("port `%s` on bridge `%s` lost %d frames, since 4 MiB of frames waited for port:recv",
			p.Name(), p.Bridge().Name(), n))
	}
}

// portCounters is port:counters().
func portCounters(x *env, _ value.Args, p *network.Port) ([]lua.Value, error) {
	t := counters(x, p.Counters())
	value.MustSet(t, "dropped", int64(p.Dropped()))
	return []lua.Value{t}, nil
}
