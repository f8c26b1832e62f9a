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

func newDNSType(x *env) *lua.Type {
	return newServerType(x, "dns", func(s *network.DNSServer) *network.Server { return s.Server },
		map[string]binding.Method[*env, *network.DNSServer]{"queries": dnsQueries, "set": dnsSet})
}

// maxTTL is the longest time for which an answer may be remembered.
const maxTTL = math.MaxInt32 * time.Second

// serveDNS is bridge:serve_dns{…}.
func serveDNS(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	at, err := addresses(o, "address", 0)
	if err != nil {
		return nil, err
	}
	cfg := netserver.DNSConfig{Records: map[string]netserver.Record{}}
	if cfg.Zone, err = o.Str("zone", ""); err != nil {
		return nil, err
	}
	if cfg.Delay, err = within(o, "delay", 0, 0, time.Hour); err != nil {
		return nil, err
	}
	if cfg.TTL, err = within(o, "ttl", time.Minute, 0, maxTTL); err != nil {
		return nil, err
	}
	if unknown, err := o.Str("unknown", "nxdomain"); err != nil {
		return nil, err
	} else if cfg.Unknown.Drop = unknown == "drop"; !cfg.Unknown.Drop {
		if cfg.Unknown.RCode, err = netserver.ParseRCode(unknown); err != nil {
			return nil, o.Errorf("unknown", "is `%s` (%w, or drop)", value.Clip(unknown, 40), err)
		}
	}
	switch t := o.Get("records").(type) {
	case nil:
	case *lua.Table:
		for _, p := range value.SortedPairs(t) {
			name, ok := p.Key.(string)
			if !ok {
				return nil, o.Errorf("records", "must have names as keys, got %s", value.FormatKey(p.Key))
			}
			if cfg.Records[name], err = dnsRecord(a, "opts.records: `"+value.Clip(name, 80)+"`", p.Value); err != nil {
				return nil, err
			}
		}
	default:
		return nil, o.TypeError("records", "a table")
	}
	s, err := b.ServeDNS(at, cfg, x.Site(a.Call))
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return own(x, s.Server, x.Types.DNSServer, s), nil
}

// dnsRecord reads an address, an array of addresses, or a table that says more.
func dnsRecord(a value.Args, what string, v lua.Value) (r netserver.Record, err error) {
	t, ok := v.(*lua.Table)
	if !ok {
		addr, ok := toAddress(v, 0)
		if !ok {
			return r, a.Errorf("%s must be an IP address, an array of them or a table {rcode=, drop=, delay=, ttl=}, "+
				"got %s", what, value.Format(v))
		}
		r.Addrs = append(r.Addrs, addr)
		return r, nil
	}
	named := lua.Value(nil)
	for _, p := range value.SortedPairs(t) {
		if _, isIndex := p.Key.(int64); !isIndex {
			named = p.Key
			continue
		}
		addr, ok := toAddress(p.Value, 0)
		if !ok {
			return r, a.Errorf("%s: entry %s must be an IP address, got %s", what, value.FormatKey(p.Key),
				value.Format(p.Value))
		}
		r.Addrs = append(r.Addrs, addr)
	}
	if named == nil {
		return r, nil
	}
	err = dnsBehaviour(a, what, t, &r)
	return r, err
}

// dnsBehaviour reads the named entries of a record.
func dnsBehaviour(a value.Args, what string, t *lua.Table, r *netserver.Record) (err error) {
	for _, p := range value.SortedPairs(t) {
		if _, isIndex := p.Key.(int64); isIndex {
			continue
		}
		switch p.Key {
		case lua.Value("rcode"):
			name, _ := p.Value.(string)
			if r.RCode, err = netserver.ParseRCode(name); err != nil {
				return a.Errorf("%s: rcode is %s (%w)", what, value.Format(p.Value), err)
			}
		case lua.Value("drop"):
			drop, ok := p.Value.(bool)
			if !ok {
				return a.Errorf("%s: drop must be true or false, got %s", what, lua.TypeName(p.Value))
			}
			r.Drop = drop
		case lua.Value("delay"), lua.Value("ttl"):
			d, err := value.ParseDuration(p.Value)
			if err != nil {
				return a.Errorf("%s: %s: %w", what, p.Key, err)
			}
			if p.Key == lua.Value("delay") {
				r.Delay = min(d, time.Hour)
			} else if r.TTL = min(d, maxTTL); d < time.Second {
				return a.Errorf("%s: ttl must be at least 1 s", what)
			}
		default:
			return a.Errorf("%s: unknown key %s (valid: addresses, rcode, drop, delay, ttl)", what,
				value.FormatKey(p.Key))
		}
	}
	if len(r.Addrs) > 0 && r.RCode != 0 {
		return a.Errorf("%s: has addresses and an rcode", what)
	}
	return nil
}

// dnsSet is server:set(name, record).
func dnsSet(_ *env, a value.Args, s *network.DNSServer) ([]lua.Value, error) {
	name, err := a.Str(1, "name")
	if err != nil {
		return nil, err
	}
	var r *netserver.Record
	if v := a.Value(2); v != nil {
		record, err := dnsRecord(a, "argument 2 (record)", v)
		if err != nil {
			return nil, err
		}
		r = &record
	}
	if err := s.Set(name, r); err != nil {
		return nil, a.Errorf("%w", err)
	}
	return nil, nil
}

// dnsQueries is server:queries().
func dnsQueries(x *env, _ value.Args, s *network.DNSServer) ([]lua.Value, error) {
	return []lua.Value{value.Array(x.State, s.Queries(), func(q netserver.Query) lua.Value {
		t := x.State.NewTable()
		value.MustSet(t, "name", q.Name)
		value.MustSet(t, "type", q.Type)
		value.MustSet(t, "from", q.From.Addr().String())
		value.MustSet(t, "port", int64(q.From.Port()))
		value.MustSet(t, "protocol", q.Protocol)
		value.MustSet(t, "time", float64(q.At.UnixNano())/1e9)
		if q.Answer != "" {
			value.MustSet(t, "answer", q.Answer)
		}
		return t
	})}, nil
}
