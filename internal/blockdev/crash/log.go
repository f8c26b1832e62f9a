// Package crash knows which contents a power cut can leave on a disk that has a
// volatile write cache, and lists them for a log of what was done to the disk.
//
// The rules: a write is settled, and never lost, once a flush came after it, or
// when it has FUA. Of the writes that are not settled a power cut keeps any, in
// part or whole: a sector is old or new and never mixed, and what is kept of two
// writes to one sector is the later one. That is all subsets in the order of the
// log, since the order in which a cache writes different sectors cannot be told
// from which of them it did not write.
//
// It handles numbers only: no bytes, no files, no clock; chance comes from a seed.
package crash

import (
	"slices"
)

// Kind is the kind of an entry of a log.
type Kind uint8

const (
	Write Kind = iota // also of zeroes, and discards
	Flush
	Mark // of whoever drives the workload: all that is before it was done
)

// Op is an entry of a log.
type Op struct {
	Kind         Kind
	First, Count int64  // sectors of a write
	FUA          bool   // a write that is settled with its end
	Label        string // of a mark
}

// Piece is what is kept of a write: sectors of it.
type Piece struct {
	Op           int // index in the log
	First, Count int64
}

// State is the content of a disk after a power cut: what is settled, and Keep.
type State struct {
	// At is how many entries of the log came before the cut.
	At int
	// InFlight says that the last of them was still under way: a FUA write is
	// not settled then.
	InFlight bool
	// Keep is what is kept of the writes that are not settled, in the log's order.
	Keep []Piece
}

// SettledBefore returns the index of the last flush before at; all writes before it
// are settled.
func SettledBefore(log []Op, at int) int {
	for at--; at >= 0; at-- {
		if log[at].Kind == Flush {
			return at
		}
	}
	return 0
}

// settled reports whether a write is settled in s, given SettledBefore of s.
func (s *State) settled(log []Op, flush, op int) bool {
	return op < flush || log[op].FUA && !(s.InFlight && op == s.At-1)
}

// Whole returns the state at the end of a log with everything kept.
func Whole(log []Op) State {
	s := State{At: len(log)}
	for i := SettledBefore(log, s.At); i < len(log); i++ {
		if log[i].Kind == Write && !log[i].FUA {
			s.Keep = append(s.Keep, Piece{i, log[i].First, log[i].Count})
		}
	}
	return s
}

// Index finds the write that a sector's content comes from.
type Index struct {
	log  []Op
	keys []uint64 // sector and entry, sorted
}

// MaxOps is the most entries that the log of an Index can have.
const MaxOps = 1 << 22

// opBits is how many bits of a key are the number of an entry. The other 41 are a sector.
const opBits = 23

// NewIndex returns the index of a log of at most MaxOps entries.
func NewIndex(log []Op) *Index {
	x := &Index{log: log}
	n := int64(0)
	for i := range log {
		if log[i].Kind == Write {
			n += log[i].Count
		}
	}
	x.keys = make([]uint64, 0, n)
	for i := range log {
		if log[i].Kind == Write {
			for s := range log[i].Count {
				x.keys = append(x.keys, uint64(log[i].First+s)<<opBits|uint64(i))
			}
		}
	}
	slices.Sort(x.keys)
	return x
}

// Log returns what the index is of.
func (x *Index) Log() []Op { return x.log }

// Entries returns all pairs of a sector and a write to it, by sector, then in the
// log's order.
func (x *Index) Entries() int { return len(x.keys) }

// Entry returns one of them.
func (x *Index) Entry(i int) (sector int64, op int) { return split(x.keys[i]) }

func split(key uint64) (sector int64, op int) {
	return int64(key >> opBits), int(key & (1<<opBits - 1))
}

// View is an index as one state has it.
type View struct {
	x     *Index
	state State
	flush int
}

// View makes the view of a state that Check has nothing against.
func (x *Index) View(s State) *View { return &View{x, s, SettledBefore(x.log, s.At)} }

// Find returns the place of the first entry of a sector that is of write op or a later
// one.
func (x *Index) Find(sector int64, op int) int {
	i, _ := slices.BinarySearch(x.keys, uint64(sector)<<opBits|uint64(op))
	return i
}

// has reports whether a write reached the disk at a sector of it.
func (v *View) has(op int, sector int64) bool {
	if v.state.settled(v.x.log, v.flush, op) {
		return true
	}
	keep := v.state.Keep
	i, _ := slices.BinarySearchFunc(keep, op, func(p Piece, op int) int { return p.Op - op })
	for ; i < len(keep) && keep[i].Op == op; i++ {
		if p := &keep[i]; p.First <= sector && sector < p.First+p.Count {
			return true
		}
	}
	return false
}

// entry returns the entry that a sector has its content from, or -1; i is the place of
// its first one, or of the next sector's.
func (v *View) entry(sector int64, i int) int {
	found := -1
	for ; i < len(v.x.keys); i++ {
		at, op := split(v.x.keys[i])
		if at != sector || op >= v.state.At {
			break
		}
		if v.has(op, sector) {
			found = i
		}
	}
	return found
}

// from is entry's write, or -1.
func (v *View) from(sector int64, i int) int {
	if i = v.entry(sector, i); i < 0 {
		return -1
	}
	_, op := split(v.x.keys[i])
	return op
}

// Compare calls visit for the sectors of a range that were written at all, with
// the place of the first entry of each, and those of the entries that it has its
// content from in two views, or -1.
func (v *View) Compare(o *View, first, count int64, visit func(begin, ours, other int)) {
	keys := v.x.keys
	for i := v.x.Find(first, 0); i < len(keys); {
		sector, _ := split(keys[i])
		if sector >= first+count {
			return
		}
		visit(i, v.entry(sector, i), o.entry(sector, i))
		for i < len(keys) && int64(keys[i]>>opBits) == sector {
			i++
		}
	}
}

// Runs splits a range of sectors into runs that come from one write each, or
// from none (-1).
func (v *View) Runs(first, count int64, visit func(first, count int64, op int) error) error {
	keys := v.x.keys
	i := v.x.Find(first, 0)
	for end := first + count; first < end; {
		if i == len(keys) || int64(keys[i]>>opBits) >= end {
			return visit(first, end-first, -1)
		}
		if next := int64(keys[i] >> opBits); next > first {
			if err := visit(first, next-first, -1); err != nil {
				return err
			}
			first = next
		}
		op, n := v.from(first, i), int64(0)
		for first+n < end && i < len(keys) && int64(keys[i]>>opBits) == first+n &&
			(n == 0 || v.from(first+n, i) == op) {
			sector := first + n
			for i < len(keys) && int64(keys[i]>>opBits) == sector {
				i++
			}
			n++
		}
		if err := visit(first, n, op); err != nil {
			return err
		}
		first += n
	}
	return nil
}

// Next returns the first write to a sector after write op, or -1.
func (x *Index) Next(sector int64, op int) int {
	if i := x.Find(sector, op+1); i < len(x.keys) {
		if at, n := split(x.keys[i]); at == sector {
			return n
		}
	}
	return -1
}
