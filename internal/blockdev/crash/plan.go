package crash

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Options say which points a Plan lists beside what can be kept of the writes
// since the last flush when they reach the disk in order.
type Options struct {
	Reorder bool   // writes that are not settled are kept in any combination
	Torn    bool   // writes are kept in part
	Unit    int64  // sectors that are never torn apart; 0 is 1
	Seed    uint64 // of what is chosen by chance
}

const (
	// exhaustive is up to how many writes that are not settled all their subsets
	// are listed.
	exhaustive = 5
	// subsets is how many subsets are listed at one place in the log else.
	subsets = 32
)

// How is the rule that a point was made by.
type How string

// The rules.
const (
	None   How = "none"   // nothing is kept of what is not settled
	Prefix How = "prefix" // the first writes are
	Drop   How = "drop"   // all but one are
	Only   How = "only"   // one is
	Subset How = "subset" // some are
	Torn   How = "torn"   // the last one is, in part, after all before it
)

// Plan lists the points of a log: by number, from 1 on. The same log and
// options give the same list.
type Plan struct {
	log     []Op
	o       Options
	pending []int // writes that wait for a flush, of the whole log
	stages  []stage
}

// stage is a part of the log in which nothing is promised: no flush, no mark and
// no FUA write. What can be left behind within it can be left behind at its end.
type stage struct {
	at         int   // the cut comes after so many entries
	pending    []int // writes that are not settled there
	fresh      int   // of them, those in this stage: the last ones
	fua        int   // entry of the FUA write that ends it, or -1
	masks      []uint8
	from, size int // of its points
}

// NewPlan lists the points of a log.
func NewPlan(log []Op, o Options) *Plan {
	if o.Unit < 1 {
		o.Unit = 1
	}
	p := &Plan{log: log, o: o}
	for i := range log {
		if log[i].Kind == Write && !log[i].FUA {
			p.pending = append(p.pending, i)
		}
	}
	// Places in p.pending: what waits begins at first, this stage's at fresh.
	first, fresh, end := 0, 0, 0
	promised := true // something that the points before do not know of
	closeStage := func(at, fua int) {
		if promised || end > fresh || fua >= 0 {
			p.add(stage{at: at, pending: p.pending[first:end:end], fresh: end - fresh, fua: fua})
		}
		fresh, promised = end, false
	}
	for i := range log {
		switch op := &log[i]; {
		case op.Kind == Flush:
			closeStage(i, -1)
			first = end
		case op.Kind == Mark:
			closeStage(i, -1)
			promised = true
		case op.FUA:
			closeStage(i, i)
			promised = true
		default:
			end++
		}
	}
	closeStage(len(log), -1)
	return p
}

// add counts the points of a stage.
func (p *Plan) add(s stage) {
	if last := len(p.stages) - 1; last >= 0 {
		s.from = p.stages[last].from + p.stages[last].size
	}
	u := len(s.pending)
	s.size = 1 + s.prefixes()
	if p.o.Reorder && u >= 2 {
		if u <= exhaustive {
			for mask := 1; mask < 1<<u; mask++ {
				// Those that are no prefix.
				if mask&(mask+1) != 0 || !s.listsPrefix(mask) {
					s.masks = append(s.masks, uint8(mask))
				}
			}
			s.size += len(s.masks)
		} else {
			s.size += s.drops() + s.onlys() + subsets
		}
	}
	if p.o.Torn {
		s.size += 2 * len(p.tearable(&s))
	}
	p.stages = append(p.stages, s)
}

// prefixes returns how many prefixes a stage lists: up to each of its own writes, or
// what was written before it.
func (s *stage) prefixes() int {
	if s.fresh == 0 && len(s.pending) > 0 {
		return 1
	}
	return s.fresh
}

// listsPrefix reports whether a mask of the first writes is among the prefixes.
func (s *stage) listsPrefix(mask int) bool {
	n := 0
	for ; mask > 0; mask >>= 1 {
		n++
	}
	return n > len(s.pending)-s.prefixes()
}

// drops and onlys leave those out that are prefixes: dropping the last write,
// keeping the first.
func (s *stage) drops() int { return max(s.fresh-1, 0) }

func (s *stage) onlys() int {
	if s.fresh == len(s.pending) {
		return max(s.fresh-1, 0)
	}
	return s.fresh
}

// tearable returns the writes of a stage that consist of several units.
func (p *Plan) tearable(s *stage) []int {
	var out []int
	for _, op := range s.pending[len(s.pending)-s.fresh:] {
		if p.units(op) > 1 {
			out = append(out, op)
		}
	}
	if s.fua >= 0 && p.units(s.fua) > 1 {
		out = append(out, s.fua)
	}
	return out
}

// units is into how many parts a write can be torn.
func (p *Plan) units(op int) int64 {
	w := &p.log[op]
	return (w.First+w.Count-1)/p.o.Unit - w.First/p.o.Unit + 1
}

// Len returns how many points there are.
func (p *Plan) Len() int {
	if len(p.stages) == 0 {
		return 0
	}
	last := p.stages[len(p.stages)-1]
	return last.from + last.size
}

// Point is a state that a power cut could have left.
type Point struct {
	Number int
	State
	How     How
	Pending int // writes that were not settled
}

// Point makes the point of a number from 1 to Len.
func (p *Plan) Point(number int) Point {
	i, found := slices.BinarySearchFunc(p.stages, number-1, func(s stage, n int) int { return s.from - n })
	if !found {
		i--
	}
	s := &p.stages[i]
	pt := Point{Number: number, State: State{At: s.at}, Pending: len(s.pending)}
	n := number - 1 - s.from
	// Each part of a stage has its numbers; n counts from its begin.
	within := func(size int) bool {
		if n < size {
			return true
		}
		n -= size
		return false
	}
	before := len(s.pending) - s.fresh
	switch {
	case within(1):
		pt.How = None
	case within(s.prefixes()):
		pt.How = Prefix
		pt.Keep = p.whole(s.pending[:len(s.pending)-s.prefixes()+1+n])
	case s.masks != nil && within(len(s.masks)):
		pt.How = Subset
		for i, op := range s.pending {
			if s.masks[n]>>i&1 != 0 {
				pt.Keep = append(pt.Keep, p.piece(op))
			}
		}
	case s.reorders(p) && within(s.drops()):
		pt.How = Drop
		pt.Keep = slices.Concat(p.whole(s.pending[:before+n]), p.whole(s.pending[before+n+1:]))
	case s.reorders(p) && within(s.onlys()):
		pt.How = Only
		pt.Keep = []Piece{p.piece(s.pending[len(s.pending)-s.onlys()+n])}
	case s.reorders(p) && within(subsets):
		pt.How = Subset
		pt.Keep = p.choose(s.pending, p.chance(number))
	default:
		pt.How = Torn
		op := p.tearable(s)[n/2]
		for _, w := range s.pending {
			if w < op {
				pt.Keep = append(pt.Keep, p.piece(w))
			}
		}
		if op == s.fua {
			pt.At, pt.InFlight = op+1, true
		}
		pt.Keep = append(pt.Keep, p.tear(op, n%2 == 0, p.chance(number)))
	}
	return pt
}

// reorders reports whether a stage has drops, onlys and subsets.
func (s *stage) reorders(p *Plan) bool {
	return p.o.Reorder && s.masks == nil && len(s.pending) > exhaustive
}

func (p *Plan) chance(number int) *rand.Rand { return rand.New(rand.NewPCG(p.o.Seed, uint64(number))) }

func (p *Plan) piece(op int) Piece { return Piece{op, p.log[op].First, p.log[op].Count} }

func (p *Plan) whole(ops []int) []Piece {
	var out []Piece
	for _, op := range ops {
		out = append(out, p.piece(op))
	}
	return out
}

// choose keeps some of the writes: as many as chance has it, from few to most.
func (p *Plan) choose(pending []int, r *rand.Rand) []Piece {
	return Choose(p.log, pending, p.o.Torn && r.IntN(2) == 0, p.o.Unit, r)
}

// Choose keeps some of the pending writes, as many as chance has it, from few to
// most, with torn some in part. Unit is what is never torn apart.
func Choose(log []Op, pending []int, torn bool, unit int64, r *rand.Rand) []Piece {
	p := &Plan{log: log, o: Options{Unit: max(unit, 1)}}
	share := r.Float64()
	var out []Piece
	for _, op := range pending {
		switch {
		case r.Float64() >= share:
		case torn && p.units(op) > 1 && r.IntN(2) == 0:
			out = append(out, p.tear(op, r.IntN(2) == 0, r))
		default:
			out = append(out, p.piece(op))
		}
	}
	return out
}

// tear keeps the head or the tail of a write, which has several units.
func (p *Plan) tear(op int, head bool, r *rand.Rand) Piece {
	w := &p.log[op]
	// Some boundary of units within it.
	cut := (w.First/p.o.Unit + 1 + r.Int64N(p.units(op)-1)) * p.o.Unit
	if head {
		return Piece{op, w.First, cut - w.First}
	}
	return Piece{op, cut, w.First + w.Count - cut}
}

// Sample chooses n of the points, sorted. Each stage of the log gets its turn,
// so that a long stretch without a flush does not take them all.
func (p *Plan) Sample(n int, seed uint64) []int {
	if n >= p.Len() {
		all := make([]int, p.Len())
		for i := range all {
			all[i] = i + 1
		}
		return all
	}
	r := rand.New(rand.NewPCG(seed, 1<<63))
	type heap struct{ stage, left int }
	var open []heap
	for i := range p.stages {
		open = append(open, heap{i, p.stages[i].size})
	}
	taken := map[int]bool{}
	var out []int
	for len(out) < n {
		r.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		kept := open[:0]
		for _, h := range open {
			if len(out) == n {
				break
			}
			s := &p.stages[h.stage]
			number := s.from + 1 + r.IntN(s.size)
			for taken[number] {
				if number++; number > s.from+s.size {
					number = s.from + 1
				}
			}
			taken[number] = true
			out = append(out, number)
			if h.left--; h.left > 0 {
				kept = append(kept, h)
			}
		}
		open = kept
	}
	slices.Sort(out)
	return out
}

// Describe returns the description of a point.
func Describe(log []Op, pt *Point) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cut after entry %d of %d", pt.At, len(log))
	if label, ok := LastMark(log, pt.At); ok {
		fmt.Fprintf(&b, ", after mark `%s`", label)
	}
	kept := 0
	var names []string
	for i, p := range pt.Keep {
		if i == 0 || pt.Keep[i-1].Op != p.Op {
			kept++
		}
		w := &log[p.Op]
		name := fmt.Sprintf("#%d", p.Op+1)
		if p.Count < w.Count {
			name += fmt.Sprintf(" (torn: sectors %d+%d of %d+%d)", p.First, p.Count, w.First, w.Count)
		}
		names = append(names, name)
	}
	const shown = 8
	if len(names) > shown {
		names = append(append(names[:shown/2:shown/2], fmt.Sprintf("... %d more ...", len(names)-shown)),
			names[len(names)-shown/2:]...)
	}
	switch {
	case pt.Pending == 0 && kept == 0:
		b.WriteString(": all that was written had been flushed")
	case kept == 0:
		fmt.Fprintf(&b, ": none of %d un-flushed writes kept", pt.Pending)
	case pt.How == Drop:
		fmt.Fprintf(&b, ": %d of %d un-flushed writes kept, all but #%d", kept, pt.Pending, dropped(log, pt)+1)
	default:
		fmt.Fprintf(&b, ": %d of %d un-flushed writes kept (%s): %s", kept, max(pt.Pending, kept), pt.How,
			strings.Join(names, ", "))
	}
	return b.String()
}

// dropped returns the one write of a Drop that is not kept.
func dropped(log []Op, pt *Point) int {
	i := 0
	for op := SettledBefore(log, pt.At); op < pt.At; op++ {
		if log[op].Kind != Write || log[op].FUA {
			continue
		}
		if i == len(pt.Keep) || pt.Keep[i].Op != op {
			return op
		}
		i++
	}
	return -1
}

// LastMark returns the label of the last mark before at.
func LastMark(log []Op, at int) (label string, ok bool) {
	for at--; at >= 0; at-- {
		if log[at].Kind == Mark {
			return log[at].Label, true
		}
	}
	return "", false
}
