package vnet

import "strings"

// pair is an ordered pair of port names.
type pair struct{ from, to string }

// override has the values set for one ordered pair.
type override struct {
	set    [kinds]bool
	values values
}

// rules are the rules of a switch. The ports that they name need not exist yet.
type rules struct {
	whole      values
	pairs      map[pair]*override
	partitions map[pair]bool // symmetric ones, both orders
	oneWay     map[pair]bool
	all        bool          // every pair is partitioned, also of ports that are added later
	lifted     map[pair]bool // exceptions of all, both orders
	isolated   map[string]bool
}

func newRules() rules {
	return rules{pairs: map[pair]*override{}, partitions: map[pair]bool{}, oneWay: map[pair]bool{},
		lifted: map[pair]bool{}, isolated: map[string]bool{}}
}

// isService reports whether a port is one of Provium itself, which no guest can have as a
// name. Neither isolation nor PartitionAll stops its frames.
func isService(name string) bool { return strings.HasPrefix(name, ".") }

// Rule is one impairment with its details.
type Rule struct {
	Kind  Kind
	Value float64 // in the unit of the kind; 0 is off
	// Distribution is for Jitter.
	Distribution Distribution
	// Burst is for Loss, whose Value is its mean then.
	Burst GilbertElliott
	// Queue is for Bandwidth: how many bytes may wait. 0 is half a second of
	// traffic, at least 32 KiB.
	Queue int64
}

// QueueBytes returns how much may wait for bandwidth; it is 0 without a limit.
func (r *Rule) QueueBytes() int64 {
	if r.Value == 0 || r.Queue > 0 {
		return r.Queue
	}
	return max(queueBytes, int64(r.Value/8*queueTime.Seconds()))
}

// put stores a rule among values.
func (r *Rule) put(v *values) {
	v[r.Kind] = r.Value
	if first, end := detailsOf(r.Kind); first < end {
		clear(v[first:end])
	}
	if r.Value == 0 {
		return
	}
	switch r.Kind {
	case Jitter:
		v[jitterShape] = float64(r.Distribution)
	case Loss:
		v[burstEnter], v[burstLeave], v[burstGood], v[burstBad] = r.Burst.Enter, r.Burst.Leave, r.Burst.Good,
			r.Burst.Bad
	case Bandwidth:
		v[queueLimit] = float64(r.Queue)
	}
}

// rule returns a kind's rule.
func (v *values) rule(k Kind) Rule {
	r := Rule{Kind: k, Value: v[k]}
	switch k {
	case Jitter:
		r.Distribution = v.distribution()
	case Loss:
		r.Burst = v.model()
	case Bandwidth:
		r.Queue = int64(v[queueLimit])
	}
	return r
}

// setPair sets, or with 0 removes, what overrides the whole switch's value.
func (r *rules) setPair(p pair, k Kind, v float64) {
	o := r.pairs[p]
	if o == nil {
		if v == 0 {
			return
		}
		o = &override{}
		r.pairs[p] = o
	}
	o.set[k], o.values[k] = v != 0, v
	if o.set == [kinds]bool{} {
		delete(r.pairs, p)
	}
}

// of returns the values in force for a pair. They do not include the bandwidth of the
// whole switch, which all pairs share.
func (r *rules) of(p pair) values {
	v := r.whole
	v[Bandwidth], v[queueLimit] = 0, 0
	if o := r.pairs[p]; o != nil {
		o.over(&v)
	}
	return v
}

// over replaces values by those that are set, each kind with its details.
func (o *override) over(v *values) {
	for k, set := range o.set {
		if !set {
			continue
		}
		v[k] = o.values[k]
		if first, end := detailsOf(Kind(k)); first < end {
			copy(v[first:end], o.values[first:end])
		}
	}
}

// partitioned reports whether a partition of either kind stops from from sending to to.
func (r *rules) partitioned(p pair) bool {
	return r.partitions[p] || r.oneWay[p] || r.all && !r.lifted[p] && !isService(p.from) && !isService(p.to)
}

func (r *rules) blocked(p pair) bool {
	if p.from == p.to {
		return false
	}
	if r.partitioned(p) {
		return true
	}
	return (r.isolated[p.from] || r.isolated[p.to]) && !isService(p.from) && !isService(p.to)
}

// forget removes every rule that names a port and reports whether there were any.
func (r *rules) forget(name string) (changed bool) {
	for _, m := range []map[pair]bool{r.partitions, r.oneWay, r.lifted} {
		for p := range m {
			if p.from == name || p.to == name {
				delete(m, p)
				changed = true
			}
		}
	}
	for p := range r.pairs {
		if p.from == name || p.to == name {
			delete(r.pairs, p)
			changed = true
		}
	}
	changed = changed || r.isolated[name]
	delete(r.isolated, name)
	return changed
}

// Set sets the value of the whole switch, in the unit of its kind; 0 removes it.
func (s *Switch) Set(k Kind, v float64) { s.Apply(Rule{Kind: k, Value: v}) }

// SetPair sets the value of one direction, which overrides the whole switch's; 0
// removes it.
func (s *Switch) SetPair(from, to string, k Kind, v float64) {
	s.ApplyPair(from, to, Rule{Kind: k, Value: v})
}

// Apply is Set with details.
func (s *Switch) Apply(rule Rule) { s.change(func(r *rules) { rule.put(&r.whole) }) }

// ApplyPair is SetPair with details.
func (s *Switch) ApplyPair(from, to string, rule Rule) {
	s.change(func(r *rules) {
		var v values
		rule.put(&v)
		p := pair{from, to}
		r.setPair(p, rule.Kind, rule.Value)
		first, end := detailsOf(rule.Kind)
		for k := first; k < end; k++ {
			r.setPair(p, k, v[k])
		}
	})
}

// Rule returns the whole switch's rule of that kind.
func (s *Switch) Rule(k Kind) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules.whole.rule(k)
}

// PairRule returns the rule of that kind in force for one direction.
func (s *Switch) PairRule(from, to string, k Kind) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.rules.whole
	if o := s.rules.pairs[pair{from, to}]; o != nil {
		o.over(&v)
	}
	return v.rule(k)
}

// Partition stops all frames between two ports.
func (s *Switch) Partition(a, b string) {
	s.change(func(r *rules) {
		for _, p := range []pair{{a, b}, {b, a}} {
			r.partitions[p] = true
			delete(r.lifted, p)
		}
	})
}

// Unpartition undoes Partition, and PartitionAll for these two ports.
func (s *Switch) Unpartition(a, b string) {
	s.change(func(r *rules) {
		for _, p := range []pair{{a, b}, {b, a}} {
			delete(r.partitions, p)
			if r.all {
				r.lifted[p] = true
			}
		}
	})
}

// PartitionOneWay stops the frames from one port to another.
func (s *Switch) PartitionOneWay(from, to string) {
	s.change(func(r *rules) { r.oneWay[pair{from, to}] = true })
}

// UnpartitionOneWay undoes PartitionOneWay.
func (s *Switch) UnpartitionOneWay(from, to string) {
	s.change(func(r *rules) { delete(r.oneWay, pair{from, to}) })
}

// PartitionAll partitions every pair of ports, also of those that are added later.
func (s *Switch) PartitionAll() {
	s.change(func(r *rules) {
		r.all = true
		clear(r.lifted)
	})
}

// RestoreAll removes every partition.
func (s *Switch) RestoreAll() {
	s.change(func(r *rules) {
		clear(r.partitions)
		clear(r.oneWay)
		clear(r.lifted)
		r.all = false
	})
}

// IsPartitioned reports whether a partition stops from from sending to to.
func (s *Switch) IsPartitioned(from, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules.partitioned(pair{from, to})
}

// Isolate cuts a port off from all others, or ends that.
func (s *Switch) Isolate(name string, isolated bool) {
	s.change(func(r *rules) {
		if isolated {
			r.isolated[name] = true
		} else {
			delete(r.isolated, name)
		}
	})
}

// IsIsolated reports whether a port is cut off.
func (s *Switch) IsIsolated(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules.isolated[name]
}

// Forget removes every rule that names a port.
func (s *Switch) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules.forget(name) {
		s.applyRules()
	}
}

// Reset removes all impairments and partitions. Isolation stays.
func (s *Switch) Reset() {
	s.change(func(r *rules) {
		isolated := r.isolated
		*r = newRules()
		r.isolated = isolated
	})
}

// change changes the rules and applies them to the frames under way.
func (s *Switch) change(alter func(*rules)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alter(&s.rules)
	s.applyRules()
}
