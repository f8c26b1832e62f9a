package script

import (
	"fmt"
	"math"

	"provium/internal/lab"
	"provium/internal/lua"
)

// elementName names an element of a list in errors.
func elementName(i int) string { return fmt.Sprintf("element %d of the list", i) }

// impairment is one kind of impairment in the Lua API.
type impairment struct {
	setter, getter string
	key            string // of the value in a table
	kind           lab.Impairment
	percent        bool
}

var impairments = [...]impairment{
	{"add_latency", "latency_ms", "ms", lab.Latency, false},
	{"add_jitter", "jitter_ms", "ms", lab.Jitter, false},
	{"drop_rate", "drop_rate_pct", "p", lab.Loss, true},
	{"duplicate_rate", "duplicate_rate_pct", "p", lab.Duplicate, true},
	{"reorder_rate", "reorder_rate_pct", "p", lab.Reorder, true},
	{"corrupt_rate", "corrupt_rate_pct", "p", lab.Corrupt, true},
	{"bandwidth_limit", "bandwidth_bps", "bps", lab.Bandwidth, false},
}

// addImpairments adds the methods that set and get impairments.
func addImpairments(methods map[string]bridgeMethod) {
	for _, i := range impairments {
		methods[i.setter] = i.set(true)
		methods[i.getter] = i.get
	}
	methods["add_directional_latency"] = impairments[0].set(false)
	methods["directional_drop_rate"] = impairments[2].set(false)
}

// set is a method that takes a number for the whole bridge, if whole, or a table
// for one direction.
func (i impairment) set(whole bool) bridgeMethod {
	return func(f *file, a args, b *lab.Bridge) ([]lua.Value, error) {
		if _, ok := a.value(1).(*lua.Table); !ok {
			form := fmt.Sprintf("a table {from=, to=, %s=}", i.key)
			if !whole {
				return nil, a.wrong(1, "rule", form)
			}
			v, err := i.value(a, "argument 1", a.value(1), " or "+form)
			if err != nil {
				return nil, err
			}
			b.Switch().Set(i.kind, v)
			return nil, nil
		}
		o, err := a.options(1, "from", "to", i.key)
		if err != nil {
			return nil, err
		}
		from, to, err := f.direction(a, b, o, true)
		if err != nil {
			return nil, err
		}
		v, err := i.value(a, "`"+i.key+"`", o.get(i.key), "")
		if err != nil {
			return nil, err
		}
		b.Switch().SetPair(from, to, i.kind, v)
		return nil, nil
	}
}

// value reads a number; or is what else could stand there.
func (i impairment) value(a args, what string, v lua.Value, or string) (float64, error) {
	var n float64
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case float64:
		n = v
	default:
		return 0, a.errorf("%s must be a number%s, got %s", what, or, typeName(v))
	}
	if math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		return 0, a.errorf("%s must be a finite, non-negative number, got %s", what, show(v))
	}
	if i.percent {
		n = min(n, 100)
	}
	return n, nil
}

// get is a method that gives the whole bridge's value or, for two VMs, the one in
// force between them.
func (i impairment) get(f *file, a args, b *lab.Bridge) ([]lua.Value, error) {
	if a.count() == 0 {
		return []lua.Value{number(b.Switch().Value(i.kind))}, nil
	}
	names, err := f.endpoints(a, "from", "to")
	if err != nil {
		return nil, err
	}
	return []lua.Value{number(b.Switch().PairValue(names[0], names[1], i.kind))}, nil
}

// number is an integer where it can be one.
func number(v float64) lua.Value {
	if n, ok := toInteger(v); ok {
		return n
	}
	return v
}
