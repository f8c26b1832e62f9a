package netapi

import (
	"math"
	"time"

	"provium/internal/lua"
	"provium/internal/netserver"
	"provium/internal/network"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

func newRAType(x *env) *lua.Type {
	return newServerType(x, "ra", func(s *network.RAServer) *network.Server { return s.Server },
		map[string]binding.Method[*env, *network.RAServer]{
			"counters": func(x *env, _ value.Args, s *network.RAServer) ([]lua.Value, error) {
				sent, solicited := s.Counters()
				t := x.State.NewTable()
				value.MustSet(t, "sent", int64(sent))
				value.MustSet(t, "solicited", int64(solicited))
				return []lua.Value{t}, nil
			},
		})
}

// serveRA is bridge:serve_ra{…}.
func serveRA(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	cfg := netserver.RAConfig{Autonomous: true}
	if err := readRA(o, &cfg); err != nil {
		return nil, err
	}
	s, err := b.ServeRA(cfg, x.Site(a.Call))
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return own(x, s.Server, x.Types.RAServer, s), nil
}

// readRA reads the options of a router.
func readRA(o value.Options, cfg *netserver.RAConfig) error {
	prefixes, err := list(o, "prefix")
	if err != nil {
		return err
	}
	if prefixes != nil {
		cfg.Prefixes = cfg.Prefixes[:0:0]
	}
	for _, v := range prefixes {
		p, err := networkOf(o, "prefix", v, 6)
		if err != nil {
			return err
		}
		cfg.Prefixes = append(cfg.Prefixes, p)
	}
	if err := flags(o, map[string]*bool{"autonomous": &cfg.Autonomous, "managed": &cfg.Managed,
		"other": &cfg.Other}); err != nil {
		return err
	}
	const most = math.MaxUint32 * time.Second // is for ever
	for _, d := range []struct {
		key            string
		into           *time.Duration
		absent, lo, hi time.Duration
	}{
		{"valid", &cfg.Valid, 24 * time.Hour, 0, most},
		{"preferred", &cfg.Preferred, 4 * time.Hour, 0, most},
		{"lifetime", &cfg.Lifetime, 30 * time.Minute, 0, math.MaxUint16 * time.Second},
		{"reachable", &cfg.Reachable, 0, 0, time.Hour},
		{"retransmit", &cfg.Retransmit, 0, 0, time.Hour},
		{"interval", &cfg.Interval, 10 * time.Second, 10 * time.Millisecond, 24 * time.Hour},
	} {
		if d.key == "preferred" {
			d.absent = min(d.absent, cfg.Valid)
		}
		if *d.into, err = within(o, d.key, d.absent, d.lo, d.hi); err != nil {
			return err
		}
	}
	if cfg.Preferred > cfg.Valid {
		return o.Errorf("preferred", "must not be more than opts.valid (%s)", value.FormatSeconds(cfg.Valid))
	}
	hops, err := o.IntegerWithin("hop_limit", 64, 0, 255)
	if err != nil {
		return err
	}
	mtu, err := o.IntegerWithin("mtu", 0, 1280, 9216)
	if err != nil {
		return err
	}
	cfg.HopLimit, cfg.MTU = int(hops), int(mtu)
	preference, err := o.Choice("preference", "medium", "low", "medium", "high")
	if err != nil {
		return err
	}
	cfg.Preference = netserver.Preference(preference)
	if cfg.RDNSS, err = addresses(o, "rdnss", 6); err != nil {
		return err
	}
	domains, err := list(o, "search")
	for _, v := range domains {
		name, ok := v.(string)
		if !ok {
			return o.Errorf("search", "must be a domain, or an array of them, got %s", lua.TypeName(v))
		}
		cfg.Search = append(cfg.Search, name)
	}
	return err
}
