package fault

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Effect is what a rule does to a request of the guest without any error or delay that
// would show it.
type Effect string

// Effects of rules.
const (
	Corrupt   Effect = "corrupt"   // some bits of one sector are changed
	Misdirect Effect = "misdirect" // the request goes to other sectors
	Torn      Effect = "torn"      // only the first sectors of a write are written
	Lose      Effect = "lose"      // nothing happens
)

var effects = []Effect{Corrupt, Misdirect, Torn, Lose}

// ruleOps lists the kinds of requests that a rule can be for.
var ruleOps = []Op{Read, Write, Discard, Flush, Any}

// ruleEffects are the effects that make sense for each kind of request.
var ruleEffects = map[Op][]Effect{
	Read:    {Corrupt, Misdirect},
	Write:   {Corrupt, Misdirect, Torn, Lose},
	Discard: {Misdirect, Torn, Lose},
	Flush:   {Lose},
}

// Rule is what happens to some requests.
type Rule struct {
	ID          int64         `json:"id"` // AddRule sets it
	Op          Op            `json:"op"` // "" is Any
	Sectors     Range         `json:"sectors"`
	Errno       string        `json:"errno,omitempty"` // the request fails; "" if it does not
	Effect      Effect        `json:"effect,omitempty"`
	Probability float64       `json:"probability,omitempty"` // of striking a request that fits; 0 is 1
	Count       int64         `json:"count,omitempty"`       // the most requests that are struck; 0 is no limit
	Delay       time.Duration `json:"delay,omitempty"`       // before anything else
	Seed        uint64        `json:"seed,omitempty"`        // of all random decisions
	Hits        int64         `json:"hits,omitempty"`        // requests that were struck
}

// Rules are the rules of a disk, for a snapshot.
type Rules struct {
	List   []Rule   `json:"list,omitempty"`
	Random [][]byte `json:"random,omitempty"` // per rule: the state of its generator
	Last   int64    `json:"last,omitempty"`   // the highest ID that was used
}

// MaxRules is the number of rules that a disk can have.
const MaxRules = 256

// errnos lists the names that a rule's Errno can have. A guest of virtio-blk sees EIO
// for all of them.
func errnos() []string {
	var out []string
	for e := syscall.Errno(1); e < 134; e++ {
		if name := unix.ErrnoName(e); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// check returns an error if a disk of size bytes cannot have the rule.
func (r *Rule) check(size int64) error {
	valid := ruleOps
	switch {
	case !slices.Contains(valid, r.Op):
		return fmt.Errorf("unknown op `%s` (valid: %s)", r.Op, join(valid))
	case r.Errno != "" && !slices.Contains(errnos(), r.Errno):
		return fmt.Errorf("unknown errno `%s` (a name such as EIO or ENOSPC; the guest sees EIO)", r.Errno)
	case !(r.Probability > 0 && r.Probability <= 1): // also NaN
		return fmt.Errorf("probability must be more than 0 and at most 1, got %v", r.Probability)
	case r.Count < 0 || r.Hits < 0:
		return fmt.Errorf("count must be at least 1, got %d", r.Count)
	case r.Delay < 0:
		return fmt.Errorf("delay must not be negative, got %v", r.Delay)
	case r.Op == Flush && r.Sectors != Range{}:
		return errors.New("sectors have no meaning for a flush")
	}
	if r.Sectors != (Range{}) {
		if err := r.Sectors.Check(size); err != nil {
			return err
		}
	}
	if r.Effect == "" {
		return nil
	}
	if !slices.Contains(effects, r.Effect) {
		return fmt.Errorf("unknown effect `%s` (valid: %s)", r.Effect, join(effects))
	}
	if fit := ruleEffects[r.Op]; r.Op == Any {
		return fmt.Errorf("effect `%s` needs an op (valid: read, write, discard, flush)", r.Effect)
	} else if !slices.Contains(fit, r.Effect) {
		return fmt.Errorf("effect `%s` makes no sense for op `%s` (valid: %s)", r.Effect, r.Op, join(fit))
	}
	return nil
}

// join lists words.
func join[T ~string](list []T) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

// rule is a Rule in force.
type rule struct {
	Rule
	mu     sync.Mutex // of Hits and chance
	chance *rand.PCG
}

// ruleBits is a set of rules, by their position in the list.
type ruleBits [MaxRules / 64]uint64

func (b *ruleBits) add(i int) { b[i/64] |= 1 << (i % 64) }

// ruleSet finds the rules that a request meets. It does not change, except for the
// counts of the rules.
type ruleSet struct {
	rules []*rule
	last  int64
	ops   [4]ruleIndex // one for each of indexed
	waits bool         // a rule has a delay
	lies  bool         // a rule loses flushes
}

// indexed are the kinds of requests that there is an index for.
var indexed = [4]Op{Read, Write, Flush, Discard}

// ruleIndex has the rules for one kind of request.
type ruleIndex struct {
	everywhere ruleBits // those of all sectors
	any        bool
	from       []int64 // sectors at which another set begins, ascending
	sets       []ruleBits
}

// newRuleSet returns the set of rules, which is nil for no rules and a zero last.
func newRuleSet(rules []*rule, last int64) *ruleSet {
	if len(rules) == 0 && last == 0 {
		return nil
	}
	s := &ruleSet{rules: rules, last: last}
	for _, r := range rules {
		s.waits = s.waits || r.Delay > 0
		s.lies = s.lies || r.Op == Flush && r.Effect == Lose
	}
	for o, op := range indexed {
		s.ops[o] = indexRules(rules, op)
	}
	return s
}

// indexRules returns the index of the rules for op.
func indexRules(rules []*rule, op Op) (x ruleIndex) {
	fits := func(r *rule) bool { return r.Op == op || r.Op == Any }
	for i, r := range rules {
		if !fits(r) || op == Flush && r.Sectors != (Range{}) {
			continue
		}
		x.any = true
		if r.Sectors == (Range{}) {
			x.everywhere.add(i)
			continue
		}
		x.from = append(x.from, r.Sectors.First, r.Sectors.First+r.Sectors.Count)
	}
	slices.Sort(x.from)
	x.from = slices.Compact(x.from)
	x.sets = make([]ruleBits, len(x.from))
	for i, r := range rules {
		if !fits(r) || r.Sectors == (Range{}) {
			continue
		}
		at, _ := slices.BinarySearch(x.from, r.Sectors.First)
		for ; at < len(x.from) && x.from[at] < r.Sectors.First+r.Sectors.Count; at++ {
			x.sets[at].add(i)
		}
	}
	return x
}

// find returns the rules that a request meets.
func (x *ruleIndex) find(first, count int64) ruleBits {
	out := x.everywhere
	at, exact := slices.BinarySearch(x.from, first)
	if !exact {
		at--
	}
	for ; at < len(x.from); at++ {
		if at < 0 {
			continue
		}
		if x.from[at] >= first+count {
			break
		}
		for i, b := range x.sets[at] {
			out[i] |= b
		}
	}
	return out
}

// Deed is what the disk must do with a request.
type Deed struct {
	Effect Effect // "" is what the request asks for
	random uint64
	err    error // the request fails after that
}

// strike decides on a request: delays add up, and of what else may happen the first
// rule that strikes counts. Effects are for the guest's requests only.
func (s *ruleSet) strike(r Request) (what Deed, delay time.Duration, flush []struckRule, err error) {
	x := &s.ops[slices.Index(indexed[:], r.Op)]
	if !x.any {
		return Deed{}, 0, nil, nil
	}
	found := x.find(r.Off/sectorSize, (r.N+sectorSize-1)/sectorSize)
	decided := false
	for w, b := range found {
		for ; b != 0; b &= b - 1 {
			rule := s.rules[w*64+bits.TrailingZeros64(b)]
			acts := rule.Errno != "" || rule.Effect != ""
			if rule.Effect != "" && !r.Guest || acts && decided && rule.Delay == 0 {
				continue
			}
			random, before, struck := rule.struck()
			if !struck {
				continue
			}
			if r.Op == Flush {
				flush = append(flush, struckRule{rule, before})
			}
			delay += rule.Delay
			if !acts || decided {
				continue
			}
			decided = true
			what = Deed{Effect: rule.Effect, random: random}
			if rule.Errno != "" {
				err = &Error{By: "inject", Errno: rule.Errno}
			}
		}
	}
	return what, delay, flush, err
}

// struckRule is a rule that struck a flush, and its generator before that.
type struckRule struct {
	rule   *rule
	before rand.PCG
}

// struck reports whether the rule strikes a request that fits, and draws the random
// number for its effect.
func (r *rule) struck() (random uint64, before rand.PCG, struck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = *r.chance
	if r.Count > 0 && r.Hits >= r.Count {
		return 0, before, false
	}
	if r.Probability < 1 && float64(r.chance.Uint64()>>11)/(1<<53) >= r.Probability {
		return 0, before, false
	}
	r.Hits++
	if r.Effect != "" {
		random = r.chance.Uint64()
	}
	return random, before, true
}

// delays reports whether a rule has a delay.
func (s *ruleSet) delays() bool { return s != nil && s.waits }

// LosesFUA reports whether a write with FUA must be carried out as one without.
func (f *Faults) LosesFUA() bool {
	s := f.now.Load()
	if s == nil || s.rules == nil || !s.rules.lies {
		return false
	}
	for _, r := range s.rules.rules {
		if r.Op != Flush || r.Effect != Lose {
			continue
		}
		if _, _, struck := r.struck(); struck {
			return true
		}
	}
	return false
}

// Elsewhere returns the offset at which a misdirected request for off is carried out: a
// random one that does not overlap, if there is such.
func (e Deed) Elsewhere(off, n, size int64) int64 {
	// The number of places that end before off, and that begin behind the request.
	before, behind := max(0, (off-n)/sectorSize+1), max(0, (size-off-2*n)/sectorSize+1)
	if off < n {
		before = 0
	}
	if before+behind == 0 {
		return off
	}
	at := int64(e.random % uint64(before+behind))
	if at < before {
		return at * sectorSize
	}
	return off + n + (at-before)*sectorSize
}

// Part returns how many of n bytes, in whole sectors, a torn write writes.
func (e Deed) Part(n int64) int64 { return int64(e.random%uint64(n/sectorSize)) * sectorSize }

// Corrupt changes some bits of one sector.
func (e Deed) Corrupt(p []byte) {
	r := rand.New(rand.NewPCG(e.random, 1))
	sector := p[r.IntN(len(p)/sectorSize)*sectorSize:][:sectorSize]
	for range 1 + r.IntN(8) {
		sector[r.IntN(sectorSize)] ^= byte(1 + r.IntN(255))
	}
}

// AddRule installs a rule of a disk of size bytes, behind the others, and returns its
// ID. A rule without delay, errno and effect gets the errno EIO.
func (f *Faults) AddRule(size int64, r Rule) (int64, error) {
	r.Op, r.Probability = cmp.Or(r.Op, Any), cmp.Or(r.Probability, 1)
	if r.Errno == "" && r.Effect == "" && r.Delay == 0 {
		r.Errno = "EIO"
	}
	r.Hits = 0
	if err := r.check(size); err != nil {
		return 0, err
	}
	err := f.change(func(s *set) error {
		var rules []*rule
		r.ID = 1
		if s.rules != nil {
			rules, r.ID = s.rules.rules, s.rules.last+1
		}
		if len(rules) == MaxRules {
			return fmt.Errorf("there are %d rules, more are not possible", MaxRules)
		}
		rules = append(slices.Clone(rules), &rule{Rule: r, chance: rand.NewPCG(r.Seed, uint64(r.ID))})
		s.rules = newRuleSet(rules, r.ID)
		return nil
	})
	return r.ID, err
}

// ListRules returns the rules in force, with their hits.
func (f *Faults) ListRules() []Rule { return f.set().rules.state().List }

// RemoveRule removes a rule.
func (f *Faults) RemoveRule(id int64) error {
	return f.change(func(s *set) error {
		var rules []*rule
		var known []string
		if s.rules != nil {
			for _, r := range s.rules.rules {
				if r.ID != id {
					rules = append(rules, r)
				}
				known = append(known, fmt.Sprint(r.ID))
			}
		}
		if len(rules) == len(known) {
			if len(known) == 0 {
				return fmt.Errorf("no rule %d: there are none", id)
			}
			return fmt.Errorf("no rule %d (there are: %s)", id, strings.Join(known, ", "))
		}
		s.rules = newRuleSet(rules, s.rules.last)
		return nil
	})
}

// RemoveRules removes all rules.
func (f *Faults) RemoveRules() {
	_ = f.change(func(s *set) error { // cannot fail
		if s.rules != nil {
			s.rules = newRuleSet(nil, s.rules.last)
		}
		return nil
	})
}

// state returns the rules, for a snapshot.
func (s *ruleSet) state() (out Rules) {
	if s == nil {
		return out
	}
	out.Last = s.last
	for _, r := range s.rules {
		r.mu.Lock()
		random, _ := r.chance.MarshalBinary() // cannot fail
		out.List, out.Random = append(out.List, r.Rule), append(out.Random, random)
		r.mu.Unlock()
	}
	return out
}

// set returns the rules of a state that passed check.
func (r Rules) set() *ruleSet {
	var rules []*rule
	for i, one := range r.List {
		c := rand.NewPCG(one.Seed, uint64(one.ID))
		_ = c.UnmarshalBinary(r.Random[i]) // checked
		rules = append(rules, &rule{Rule: one, chance: c})
	}
	return newRuleSet(rules, r.Last)
}

// check returns an error if the rules, which come from a file, cannot be those of a disk
// of size bytes.
func (r *Rules) check(size int64) error {
	if len(r.List) > MaxRules || len(r.List) != len(r.Random) {
		return fmt.Errorf("%d rules", len(r.List))
	}
	for i := range r.List {
		if err := r.List[i].check(size); err != nil {
			return err
		}
		if id := r.List[i].ID; id < 1 || id > r.Last || i > 0 && id <= r.List[i-1].ID {
			return fmt.Errorf("rule %d", id)
		}
		if err := new(rand.PCG).UnmarshalBinary(r.Random[i]); err != nil || len(r.Random[i]) != 20 {
			return fmt.Errorf("rule %d: its generator", r.List[i].ID)
		}
	}
	return nil
}
