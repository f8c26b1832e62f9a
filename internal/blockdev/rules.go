package blockdev

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

// Effect is what a rule does to a request beside failing or delaying it.
type Effect string

// What can happen to a request of the guest without anybody telling it.
const (
	EffectCorrupt   Effect = "corrupt"   // of one sector, some bits are others
	EffectMisdirect Effect = "misdirect" // it meets other sectors
	EffectTorn      Effect = "torn"      // of a write, only the first sectors are written
	EffectLose      Effect = "lose"      // it has no effect at all
)

// Effects lists them.
func Effects() []Effect {
	return []Effect{EffectCorrupt, EffectMisdirect, EffectTorn, EffectLose}
}

// DiscardRequest is a discard or a write of zeroes. A rule for writes is not for
// these, unlike CountRequests.
const DiscardRequest Request = "discard"

// RuleRequests lists the kinds of requests that a rule can be for.
func RuleRequests() []Request {
	return []Request{ReadRequest, WriteRequest, DiscardRequest, FlushRequest, AnyRequest}
}

// effects that make sense per kind of request.
var ruleEffects = map[Request][]Effect{
	ReadRequest:    {EffectCorrupt, EffectMisdirect},
	WriteRequest:   {EffectCorrupt, EffectMisdirect, EffectTorn, EffectLose},
	DiscardRequest: {EffectMisdirect, EffectTorn, EffectLose},
	FlushRequest:   {EffectLose},
}

// Rule says what happens to some requests.
type Rule struct {
	ID          int64         `json:"id"` // given by AddRule
	Op          Request       `json:"op"` // "" is AnyRequest
	Sectors     Range         `json:"sectors"`
	Errno       string        `json:"errno,omitempty"` // the request fails; "" if it does not
	Effect      Effect        `json:"effect,omitempty"`
	Probability float64       `json:"probability,omitempty"` // that a request that fits is struck; 0 is 1
	Count       int64         `json:"count,omitempty"`       // so many are struck at the most; 0: no limit
	Delay       time.Duration `json:"delay,omitempty"`       // before anything else
	Seed        uint64        `json:"seed,omitempty"`        // of all that is left to chance
	Hits        int64         `json:"hits,omitempty"`        // requests that were struck
}

// Rules are the rules of a disk, for an Image.
type Rules struct {
	List   []Rule   `json:"list,omitempty"`
	Random [][]byte `json:"random,omitempty"` // per rule: where its generator is
	Last   int64    `json:"last,omitempty"`   // the highest ID that was given
}

// MaxRules is how many rules a disk can have.
const MaxRules = 256

// Errnos lists the names that a rule's Errno can have. A guest of virtio-blk sees
// EIO whatever it is.
func Errnos() []string {
	var out []string
	for e := syscall.Errno(1); e < 134; e++ {
		if name := unix.ErrnoName(e); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// check tells what is wrong with a rule.
func (r *Rule) check(size int64) error {
	valid := RuleRequests()
	switch {
	case !slices.Contains(valid, r.Op):
		return fmt.Errorf("unknown op `%s` (valid: %s)", r.Op, join(valid))
	case r.Errno != "" && !slices.Contains(Errnos(), r.Errno):
		return fmt.Errorf("unknown errno `%s` (a name such as EIO or ENOSPC; the guest sees EIO)", r.Errno)
	case !(r.Probability > 0 && r.Probability <= 1): // also NaN
		return fmt.Errorf("probability must be more than 0 and at most 1, got %v", r.Probability)
	case r.Count < 0 || r.Hits < 0:
		return fmt.Errorf("count must be at least 1, got %d", r.Count)
	case r.Delay < 0:
		return fmt.Errorf("delay must not be negative, got %v", r.Delay)
	case r.Op == FlushRequest && r.Sectors != Range{}:
		return errors.New("sectors have no meaning for a flush")
	}
	if s := r.Sectors; s != (Range{}) {
		if n := size / SectorSize; s.First < 0 || s.Count < 1 || s.Count > n || s.First > n-s.Count {
			return &RangeError{s.First, s.Count, n}
		}
	}
	if r.Effect == "" {
		return nil
	}
	if !slices.Contains(Effects(), r.Effect) {
		return fmt.Errorf("unknown effect `%s` (valid: %s)", r.Effect, join(Effects()))
	}
	if fit := ruleEffects[r.Op]; r.Op == AnyRequest {
		return fmt.Errorf("effect `%s` needs an op (valid: read, write, discard, flush)", r.Effect)
	} else if !slices.Contains(fit, r.Effect) {
		return fmt.Errorf("effect `%s` makes no sense for op `%s` (valid: %s)", r.Effect, r.Op, join(fit))
	}
	return nil
}

func join[T ~string](list []T) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

// rule is a Rule that is in force.
type rule struct {
	Rule
	mu     sync.Mutex // of hits and chance
	chance *rand.PCG
}

// ruleBits is a set of rules, by their position in the list.
type ruleBits [MaxRules / 64]uint64

func (b *ruleBits) add(i int) { b[i/64] |= 1 << (i % 64) }

// ruleSet finds the rules that a request meets. Its structure does not change: what
// rules count is in the rules.
type ruleSet struct {
	rules []*rule
	last  int64
	ops   [4]ruleIndex // by op
	holds bool
	lies  bool // there are rules about flushes that are lost
}

// ruleIndex has the rules for one op.
type ruleIndex struct {
	everywhere ruleBits // those of all sectors
	any        bool
	from       []int64 // sectors, ascending: where another set begins
	sets       []ruleBits
}

// newRuleSet makes the set of some rules; nil of none.
func newRuleSet(rules []*rule, last int64) *ruleSet {
	if len(rules) == 0 && last == 0 {
		return nil
	}
	s := &ruleSet{rules: rules, last: last}
	for _, r := range rules {
		s.holds = s.holds || r.Delay > 0
		s.lies = s.lies || r.Op == FlushRequest && r.Effect == EffectLose
	}
	for o, kinds := range [4]Request{opRead: ReadRequest, opWrite: WriteRequest, opFlush: FlushRequest, opDiscard: DiscardRequest} {
		s.ops[o] = indexRules(rules, kinds)
	}
	return s
}

func indexRules(rules []*rule, kind Request) (x ruleIndex) {
	fits := func(r *rule) bool { return r.Op == kind || r.Op == AnyRequest }
	for i, r := range rules {
		if !fits(r) || kind == FlushRequest && r.Sectors != (Range{}) {
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

// find gives the rules that a request meets.
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

// deed is what is to happen to a request.
type deed struct {
	effect Effect
	random uint64
	err    error // the request fails after that
}

// strike has the rules decide on a request: delays add up, and of what else may
// happen the first rule that strikes has its way. Effects are for the guest's
// requests only.
func (s *ruleSet) strike(r request) (what deed, hold time.Duration, flush []struckRule, err error) {
	x := &s.ops[r.op]
	if !x.any {
		return deed{}, 0, nil, nil
	}
	found := x.find(r.off/SectorSize, (r.n+SectorSize-1)/SectorSize)
	decided := false
	for w, b := range found {
		for ; b != 0; b &= b - 1 {
			rule := s.rules[w*64+bits.TrailingZeros64(b)]
			acts := rule.Errno != "" || rule.Effect != ""
			if rule.Effect != "" && !r.guests || acts && decided && rule.Delay == 0 {
				continue
			}
			random, before, struck := rule.struck()
			if !struck {
				continue
			}
			if r.op == opFlush {
				flush = append(flush, struckRule{rule, before})
			}
			hold += rule.Delay
			if !acts || decided {
				continue
			}
			decided = true
			what = deed{effect: rule.Effect, random: random}
			if rule.Errno != "" {
				err = &FaultError{By: "inject", Errno: rule.Errno}
			}
		}
	}
	return what, hold, flush, err
}

// struckRule is a rule that struck a flush, and its generator before that.
type struckRule struct {
	rule   *rule
	before rand.PCG
}

// struck tells whether the rule strikes a request that fits, and draws what chance
// is needed for it.
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

func (s *ruleSet) delays() bool { return s != nil && s.holds }

// liesAboutFlush tells whether a FUA write is treated as one that has none.
func (f *faults) liesAboutFlush() bool {
	s := f.now.Load()
	if s == nil || s.rules == nil || !s.rules.lies {
		return false
	}
	for _, r := range s.rules.rules {
		if r.Op != FlushRequest || r.Effect != EffectLose {
			continue
		}
		if _, _, struck := r.struck(); struck {
			return true
		}
	}
	return false
}

// elsewhere is where a request meets the disk that should have met it at off: a place
// chosen by chance that does not overlap, if there is one.
func (e deed) elsewhere(off, n, size int64) int64 {
	// Places before off that end there, and behind it.
	before, behind := max(0, (off-n)/SectorSize+1), max(0, (size-off-2*n)/SectorSize+1)
	if off < n {
		before = 0
	}
	if before+behind == 0 {
		return off
	}
	at := int64(e.random % uint64(before+behind))
	if at < before {
		return at * SectorSize
	}
	return off + n + (at-before)*SectorSize
}

// part is how much of n bytes, whole sectors, is written of a torn write.
func (e deed) part(n int64) int64 { return int64(e.random%uint64(n/SectorSize)) * SectorSize }

// corrupt changes some bits of one sector.
func (e deed) corrupt(p []byte) {
	r := rand.New(rand.NewPCG(e.random, 1))
	sector := p[r.IntN(len(p)/SectorSize)*SectorSize:][:SectorSize]
	for range 1 + r.IntN(8) {
		sector[r.IntN(SectorSize)] ^= byte(1 + r.IntN(255))
	}
}

// AddRule has a rule be in force, behind those that are, and returns its ID. One
// that neither delays nor has an Effect fails with EIO.
func (d *Disk) AddRule(r Rule) (int64, error) {
	r.Op, r.Probability = cmp.Or(r.Op, AnyRequest), cmp.Or(r.Probability, 1)
	if r.Errno == "" && r.Effect == "" && r.Delay == 0 {
		r.Errno = "EIO"
	}
	r.Hits = 0
	if err := r.check(d.size.Load()); err != nil {
		return 0, err
	}
	err := d.faults.change(func(s *faultSet) error {
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

// ListRules gives the rules in force, with what they have struck.
func (d *Disk) ListRules() []Rule { return d.faults.set().rules.state().List }

// RemoveRule ends a rule.
func (d *Disk) RemoveRule(id int64) error {
	return d.faults.change(func(s *faultSet) error {
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

// RemoveRules ends all rules.
func (d *Disk) RemoveRules() {
	_ = d.faults.change(func(s *faultSet) error { // cannot fail
		if s.rules != nil {
			s.rules = newRuleSet(nil, s.rules.last)
		}
		return nil
	})
}

// state describes the rules.
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

// set makes what state has described.
func (r Rules) set() *ruleSet {
	var rules []*rule
	for i, one := range r.List {
		c := rand.NewPCG(one.Seed, uint64(one.ID))
		_ = c.UnmarshalBinary(r.Random[i]) // checked
		rules = append(rules, &rule{Rule: one, chance: c})
	}
	return newRuleSet(rules, r.Last)
}

// check tells what is wrong with rules that come from a file.
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
