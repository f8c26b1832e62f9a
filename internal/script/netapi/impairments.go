package netapi

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/value"
	"provium/internal/vnet"
)

// elementName names an element of a list in errors.
func elementName(i int) string { return fmt.Sprintf("element %d of the list", i) }

// impairment is one kind of impairment in the Lua API.
type impairment struct {
	setter, getter string
	key            string // of the value in a table
	kind           vnet.Kind
	percent        bool
	describe       func(o value.Options, r *vnet.Rule) error // reads what else can be said; nil for nothing
}

var impairments = [...]impairment{
	{setter: "add_latency", getter: "latency_ms", key: "ms", kind: vnet.Latency},
	{setter: "add_jitter", getter: "jitter_ms", key: "ms", kind: vnet.Jitter, describe: jitterDetail},
	{setter: "drop_rate", getter: "drop_rate_pct", key: "p", kind: vnet.Loss, percent: true,
		describe: lossDetail},
	{setter: "duplicate_rate", getter: "duplicate_rate_pct", key: "p", kind: vnet.Duplicate, percent: true},
	{setter: "reorder_rate", getter: "reorder_rate_pct", key: "p", kind: vnet.Reorder, percent: true},
	{setter: "corrupt_rate", getter: "corrupt_rate_pct", key: "p", kind: vnet.Corrupt, percent: true},
	{setter: "bandwidth_limit", getter: "bandwidth_bps", key: "bps", kind: vnet.Bandwidth, describe: bandwidthDetail},
}

// addImpairments adds the methods that set and get impairments.
func addImpairments(methods map[string]bridgeMethod) {
	for _, i := range impairments {
		methods[i.setter] = i.set(true)
		methods[i.getter] = getRule(i.kind, func(_ *env, r vnet.Rule) lua.Value { return number(r.Value) })
	}
	methods["add_directional_latency"] = impairments[0].set(false)
	methods["directional_drop_rate"] = impairments[2].set(false)
	methods["jitter_distribution"] = getRule(vnet.Jitter, func(_ *env, r vnet.Rule) lua.Value {
		return distributions[r.Distribution]
	})
	methods["bandwidth_queue"] = getRule(vnet.Bandwidth, func(_ *env,
		r vnet.Rule) lua.Value {
		return r.QueueBytes()
	})
	methods["gilbert_elliott"] = bridgeGilbertElliott
	methods["loss_model"] = getRule(vnet.Loss, lossModel)
}

// distributions are the names of those of jitter.
var distributions = [...]string{vnet.Uniform: "uniform", vnet.Normal: "normal", vnet.Pareto: "pareto"}

func jitterDetail(o value.Options, r *vnet.Rule) error {
	name, err := o.Str("distribution", distributions[vnet.Uniform])
	if err != nil {
		return err
	}
	i := slices.Index(distributions[:], name)
	if i < 0 {
		return o.Errorf("distribution", "= `%s` is none (use %s)", value.Clip(name, 80),
			strings.Join(distributions[:], ", "))
	}
	r.Distribution = vnet.Distribution(i)
	return nil
}

// lossDetail has losses come in bursts of so many frames on average.
func lossDetail(o value.Options, r *vnet.Rule) error {
	burst, given, err := o.Number("burst")
	if err != nil || !given {
		return err
	}
	if burst < 1 {
		return o.Errorf("burst", "must be at least 1 (frames lost in a row, on average), got %s",
			value.Format(o.Get("burst")))
	}
	if r.Value == 0 || r.Value == 100 {
		return nil
	}
	leave := 100 / burst
	enter := leave * r.Value / (100 - r.Value)
	if enter > 100 {
		return o.Errorf("burst", "must be at least %.4g where %s %% of the frames are lost, got %s",
			r.Value/(100-r.Value), value.Format(number(r.Value)), value.Format(o.Get("burst")))
	}
	r.Burst = vnet.GilbertElliott{Enter: enter, Leave: leave, Bad: 100}
	return nil
}

func bandwidthDetail(o value.Options, r *vnet.Rule) error {
	if !o.Has("queue") {
		return nil
	}
	n, err := value.ParseSize(o.Get("queue"))
	if err != nil {
		return o.Errorf("queue", "%w", err)
	}
	r.Queue = n
	return nil
}

// set is a method that takes a number for the whole bridge, if whole, or a table
// for one direction.
func (i impairment) set(whole bool) bridgeMethod {
	return func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
		r := vnet.Rule{Kind: i.kind}
		if _, ok := a.Value(1).(*lua.Table); !ok {
			form := fmt.Sprintf("a table {from=, to=, %s=}", i.key)
			if !whole {
				return nil, a.TypeError(1, "rule", form)
			}
			var err error
			if r.Value, err = i.value(a, "argument 1", a.Value(1), " or "+form); err != nil {
				return nil, err
			}
			o, err := a.Options(2)
			if err != nil {
				return nil, err
			}
			if i.describe != nil {
				if err := i.describe(o, &r); err != nil {
					return nil, err
				}
			}
			b.Switch().Apply(r)
			return nil, nil
		}
		o, err := a.Options(1)
		if err != nil {
			return nil, err
		}
		from, to, err := direction(x, a, b, o, true)
		if err != nil {
			return nil, err
		}
		if r.Value, err = i.value(a, "`"+i.key+"`", o.Get(i.key), ""); err != nil {
			return nil, err
		}
		if i.describe != nil {
			if err := i.describe(o, &r); err != nil {
				return nil, err
			}
		}
		b.Switch().ApplyPair(from, to, r)
		return nil, nil
	}
}

// bridgeGilbertElliott is bridge:gilbert_elliott{enter=, leave=, good=, bad=, from=, to=}.
func bridgeGilbertElliott(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
	if _, ok := a.Value(1).(*lua.Table); !ok {
		return nil, a.TypeError(1, "rule",
			"a table {enter=, leave=, good=, bad=}, with from= and to= for one direction")
	}
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	percent := func(key string, absent float64) (float64, error) {
		if !o.Has(key) && absent >= 0 {
			return absent, nil
		}
		return impairments[2].value(a, "`"+key+"`", o.Get(key), "")
	}
	var g vnet.GilbertElliott
	for _, field := range []struct {
		key    string
		absent float64
		to     *float64
	}{{"enter", -1, &g.Enter}, {"leave", -1, &g.Leave}, {"good", 0, &g.Good}, {"bad", 100, &g.Bad}} {
		if *field.to, err = percent(field.key, field.absent); err != nil {
			return nil, err
		}
	}
	if g.Enter > 0 && g.Leave == 0 {
		return nil, a.Errorf("`leave` must be more than 0, got %s (a link that turned bad would stay so)",
			value.Format(o.Get("leave")))
	}
	r := vnet.Rule{Kind: vnet.Loss, Value: g.Mean(), Burst: g}
	if g.Mean() == 0 {
		r.Burst = vnet.GilbertElliott{} // removes
	}
	if !o.Has("from") && !o.Has("to") {
		b.Switch().Apply(r)
		return nil, nil
	}
	from, to, err := direction(x, a, b, o, true)
	if err != nil {
		return nil, err
	}
	b.Switch().ApplyPair(from, to, r)
	return nil, nil
}

// lossModel is nil for loss that looks at each frame on its own.
func lossModel(x *env, r vnet.Rule) lua.Value {
	if r.Burst == (vnet.GilbertElliott{}) {
		return nil
	}
	t := x.State.NewTable()
	value.MustSet(t, "enter", number(r.Burst.Enter))
	value.MustSet(t, "leave", number(r.Burst.Leave))
	value.MustSet(t, "good", number(r.Burst.Good))
	value.MustSet(t, "bad", number(r.Burst.Bad))
	return t
}

// value reads a number; or is what else could stand there.
func (i impairment) value(a value.Args, what string, v lua.Value, or string) (float64, error) {
	var n float64
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case float64:
		n = v
	default:
		return 0, a.Errorf("%s must be a number%s, got %s", what, or, lua.TypeName(v))
	}
	if math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		return 0, a.Errorf("%s must be a finite, non-negative number, got %s", what, value.Format(v))
	}
	if i.percent {
		n = min(n, 100)
	}
	return n, nil
}

// getRule is a method that returns something of the whole bridge's rule or, for two
// VMs, of the one in force between them.
func getRule(kind vnet.Kind, tell func(x *env, r vnet.Rule) lua.Value) bridgeMethod {
	return func(x *env, a value.Args, b *network.Bridge) ([]lua.Value, error) {
		if a.Len() == 0 {
			return []lua.Value{tell(x, b.Switch().Rule(kind))}, nil
		}
		ends, err := endpoints(x, a, b, "from", "to")
		if err != nil {
			return nil, err
		}
		return []lua.Value{tell(x, b.Switch().PairRule(ends[0].Name, ends[1].Name, kind))}, nil
	}
}

// number is an integer where it can be one.
func number(v float64) lua.Value {
	if n, ok := value.ToInteger(v); ok {
		return n
	}
	return v
}
