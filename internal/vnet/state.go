package vnet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// State is what a switch does to frames, for a file: the rules, and the position in the
// random numbers of each link. Frames under way are not part of it.
type State struct {
	Whole      map[string]float64 `json:"whole,omitempty"` // by kind
	Pairs      []PairState        `json:"pairs,omitempty"`
	Partitions []Pair             `json:"partitions,omitempty"` // each once, in either order
	OneWay     []Pair             `json:"one_way,omitempty"`
	All        bool               `json:"all,omitempty"`    // every pair is partitioned
	Lifted     []Pair             `json:"lifted,omitempty"` // but these, each once, in either order
	Isolated   []string           `json:"isolated,omitempty"`
	Links      []LinkState        `json:"links,omitempty"`
}

// Pair is two ports, of which the first one sends.
type Pair struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// PairState has the values of one direction.
type PairState struct {
	Pair
	Values map[string]float64 `json:"values"`
}

// LinkState has the number of the next frame of a link, from which its impairments
// follow.
type LinkState struct {
	Pair
	Next uint64 `json:"next"`
}

func comparePairs(a, b Pair) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func listPairs(of map[pair]bool, once bool) (out []Pair) {
	for p, on := range of {
		if on && (!once || p.from < p.to) {
			out = append(out, Pair{p.from, p.to})
		}
	}
	slices.SortFunc(out, comparePairs)
	return out
}

// Save returns the state of the switch.
func (s *Switch) Save() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.rules
	out := State{Partitions: listPairs(r.partitions, true), OneWay: listPairs(r.oneWay, false),
		All: r.all, Lifted: listPairs(r.lifted, true),
		Isolated: slices.Sorted(maps.Keys(r.isolated))}
	for k, v := range r.whole {
		if v != 0 {
			if out.Whole == nil {
				out.Whole = map[string]float64{}
			}
			out.Whole[kindNames[k]] = v
		}
	}
	for p, o := range r.pairs {
		values := map[string]float64{}
		for k, set := range o.set {
			if set {
				values[kindNames[k]] = o.values[k]
			}
		}
		out.Pairs = append(out.Pairs, PairState{Pair{p.from, p.to}, values})
	}
	slices.SortFunc(out.Pairs, func(a, b PairState) int { return comparePairs(a.Pair, b.Pair) })
	s.eachLink(func(l *link) {
		if l.index > 0 {
			out.Links = append(out.Links, LinkState{Pair{l.from.name, l.to.name}, l.index})
		}
	})
	slices.SortFunc(out.Links, func(a, b LinkState) int { return comparePairs(a.Pair, b.Pair) })
	return out
}

// Forget removes everything that names a port.
func (s *State) Forget(name string) {
	names := func(p Pair) bool { return p.From == name || p.To == name }
	s.Pairs = slices.DeleteFunc(slices.Clone(s.Pairs), func(p PairState) bool { return names(p.Pair) })
	s.Partitions = slices.DeleteFunc(slices.Clone(s.Partitions), names)
	s.OneWay = slices.DeleteFunc(slices.Clone(s.OneWay), names)
	s.Lifted = slices.DeleteFunc(slices.Clone(s.Lifted), names)
	s.Isolated = slices.DeleteFunc(slices.Clone(s.Isolated), func(n string) bool { return n == name })
	s.Links = slices.DeleteFunc(slices.Clone(s.Links), func(l LinkState) bool { return names(l.Pair) })
}

// Load restores a state. The ports that its links name must exist. Frames under way are
// dropped. After an error nothing is changed.
func (s *Switch) Load(state State) error {
	r := newRules()
	setAll := func(values map[string]float64, set func(Kind, float64)) error {
		for name, v := range values {
			k := slices.Index(kindNames[:], name)
			if k < 0 {
				return fmt.Errorf("impairment %q is unknown", name)
			}
			if !Kind(k).takes(v) {
				return fmt.Errorf("impairment %s is %v", name, v)
			}
			set(Kind(k), v)
		}
		return nil
	}
	if err := setAll(state.Whole, func(k Kind, v float64) { r.whole[k] = v }); err != nil {
		return err
	}
	for _, p := range state.Pairs {
		if err := setAll(p.Values, func(k Kind, v float64) { r.setPair(pair{p.From, p.To}, k, v) }); err != nil {
			return err
		}
	}
	for _, p := range state.Partitions {
		r.partitions[pair{p.From, p.To}], r.partitions[pair{p.To, p.From}] = true, true
	}
	for _, p := range state.OneWay {
		r.oneWay[pair{p.From, p.To}] = true
	}
	r.all = state.All
	for _, p := range state.Lifted {
		r.lifted[pair{p.From, p.To}], r.lifted[pair{p.To, p.From}] = true, true
	}
	for _, name := range state.Isolated {
		r.isolated[name] = true
	}
	next := map[Pair]uint64{}
	for _, l := range state.Links {
		next[l.Pair] = l.Next
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eachLink(s.drain)
	s.shaper = shaper{}
	s.rules = r
	s.applyRules()
	s.eachLink(func(l *link) {
		l.shaper = shaper{rate: l.shaper.rate, queue: l.shaper.queue}
		l.index, l.badAt = next[Pair{l.from.name, l.to.name}], 0
	})
	return nil
}
