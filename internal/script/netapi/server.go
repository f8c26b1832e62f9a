package netapi

import (
	"context"
	"net/netip"
	"time"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// addServers adds the methods that start servers.
func addServers(methods map[string]bridgeMethod) {
	methods["serve_dhcp"] = serveDHCP
	methods["serve_ra"] = serveRA
	methods["serve_dns"] = serveDNS
}

// serverResource is a server as a Resource: its Close cannot fail.
type serverResource struct{ *network.Server }

// Close implements binding.Resource.
func (s serverResource) Close(context.Context) error {
	s.Stop()
	return nil
}

// newServerType returns the type of one kind of servers. server returns what all kinds share.
func newServerType[T any](x *env, kind string, server func(T) *network.Server,
	methods map[string]binding.Method[*env, T]) *lua.Type {
	methods["stop"] = func(x *env, a value.Args, s T) ([]lua.Value, error) {
		x.Disown(binding.PortResource, serverResource{server(s)})
		return nil, x.Op(a, nil, func(context.Context) error {
			server(s).Stop()
			return nil
		})
	}
	methods["address"] = func(_ *env, _ value.Args, s T) ([]lua.Value, error) {
		var all []lua.Value
		for _, a := range server(s).Addresses() {
			all = append(all, a.String())
		}
		return all, nil
	}
	return &lua.Type{
		Name:    kind + "_server",
		Methods: binding.MethodTable(x, kind+"_server", methods),
		ToString: func(_ *lua.Call, obj any) string {
			s := server(obj.(T))
			if s.IsStopped() {
				return kind + "_server(" + s.Bridge().Name() + ", stopped)"
			}
			return kind + "_server(" + s.Bridge().Name() + ")"
		},
	}
}

// own registers a server that was started, and returns its handle.
func own(x *env, s *network.Server, of *lua.Type, object any) []lua.Value {
	x.Own(binding.PortResource, serverResource{s})
	return []lua.Value{x.State.NewUserdata(of, object)}
}

// toAddress reads an address of a family, which is 4, 6, or 0 for both.
func toAddress(v lua.Value, family int) (netip.Addr, bool) {
	text, _ := v.(string)
	a, err := netip.ParseAddr(text)
	ok := err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.Is4In6() &&
		(family == 0 || a.Is4() == (family == 4))
	return a, ok
}

// families are the names of families of addresses.
var families = map[int]string{0: "an IP address", 4: "an IPv4 address", 6: "an IPv6 address"}

// address reads an option with one address, or returns the zero Addr.
func address(o value.Options, key string, family int) (netip.Addr, error) {
	if !o.Has(key) {
		return netip.Addr{}, nil
	}
	a, ok := toAddress(o.Get(key), family)
	if !ok {
		return a, o.Errorf(key, "must be %s, got %s", families[family], value.Format(o.Get(key)))
	}
	return a, nil
}

// addresses reads an option with one address, or an array of them, which may be empty. It
// returns nil for an absent one.
func addresses(o value.Options, key string, family int) ([]netip.Addr, error) {
	items, err := list(o, key)
	if err != nil || items == nil {
		return nil, err
	}
	all := make([]netip.Addr, len(items))
	for i, v := range items {
		var ok bool
		if all[i], ok = toAddress(v, family); !ok {
			return nil, o.Errorf(key, "must be %s, or an array of them, got %s", families[family], value.Format(v))
		}
	}
	return all, nil
}

// list reads an option with one value or an array, or returns nil for an absent one.
func list(o value.Options, key string) ([]lua.Value, error) {
	switch v := o.Get(key).(type) {
	case nil:
		return nil, nil
	case *lua.Table:
		items, err := value.Sequence(v)
		if err != nil {
			return nil, o.Errorf(key, "%w", err)
		}
		return append([]lua.Value{}, items...), nil
	default:
		return []lua.Value{v}, nil
	}
}

// network reads an option with a network of a family, like 192.0.2.0/24.
func networkOf(o value.Options, key string, v lua.Value, family int) (netip.Prefix, error) {
	text, _ := v.(string)
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4() != (family == 4) || p.Addr().Is4In6() {
		want := "192.0.2.0/24"
		if family == 6 {
			want = "fd00:1::/64"
		}
		return p, o.Errorf(key, "must be a network like %s, got %s", want, value.Format(v))
	}
	return p.Masked(), nil
}

// within reads a duration between lo and hi.
func within(o value.Options, key string, absent, lo, hi time.Duration) (time.Duration, error) {
	d, err := o.Duration(key, absent)
	if err == nil && (d < lo || d > hi) {
		err = o.Errorf(key, "must be between %s and %s, got %s", value.FormatSeconds(lo), value.FormatSeconds(hi),
			value.FormatSeconds(d))
	}
	return d, err
}

// flags reads options that are true or false.
func flags(o value.Options, into map[string]*bool) error {
	for key, flag := range into {
		v, err := o.Bool(key, *flag)
		if err != nil {
			return err
		}
		*flag = v
	}
	return nil
}
