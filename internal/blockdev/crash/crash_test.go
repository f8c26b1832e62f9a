package crash

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// parse reads a log: w10+2 a write, W a FUA write, f a flush, m:x a mark.
func parse(t testing.TB, text string) []Op {
	t.Helper()
	var log []Op
	for _, word := range strings.Fields(text) {
		var op Op
		switch word[0] {
		case 'f':
			op.Kind = Flush
		case 'm':
			op = Op{Kind: Mark, Label: word[2:]}
		default:
			op.FUA, op.Count = word[0] == 'W', 1
			if n, err := fmt.Sscanf(word[1:], "%d+%d", &op.First, &op.Count); n == 0 {
				t.Fatal(word, err)
			}
		}
		log = append(log, op)
	}
	return log
}

// random makes a log of n entries on a disk of a few sectors.
func random(r *rand.Rand, n int) []Op {
	var log []Op
	for i := range n {
		switch k := r.IntN(12); {
		case k < 2:
			log = append(log, Op{Kind: Flush})
		case k == 2:
			log = append(log, Op{Kind: Mark, Label: fmt.Sprint(i)})
		default:
			log = append(log, Op{First: r.Int64N(12), Count: 1 + r.Int64N(4), FUA: k == 3})
		}
	}
	return log
}

const sectors = 16

// content is what each sector has: the number of the write, or -1.
type content [sectors]int

// naive applies a state to the letter.
func naive(log []Op, s State) content {
	var c content
	for i := range c {
		c[i] = -1
	}
	flush := SettledBefore(log, s.At)
	keep := s.Keep
	for i := range log[:s.At] {
		w := log[i]
		if w.Kind != Write {
			continue
		}
		if s.settled(log, flush, i) {
			for n := range w.Count {
				c[w.First+n] = i
			}
		}
		for len(keep) > 0 && keep[0].Op == i {
			for n := range keep[0].Count {
				c[keep[0].First+n] = i
			}
			keep = keep[1:]
		}
	}
	return c
}

func TestEveryPointIsPermitted(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		log := random(r, r.IntN(40))
		p := NewPlan(log, Options{Reorder: seed%2 == 0, Torn: seed%3 == 0, Seed: seed, Unit: 1 + int64(seed%2)})
		x := NewIndex(log)
		for n := 1; n <= p.Len(); n++ {
			pt := p.Point(n)
			if pt.Number != n {
				t.Fatalf("point %d says it is %d", n, pt.Number)
			}
			if err := check(log, &pt.State); err != nil {
				t.Fatalf("seed %d point %d (%s): %v", seed, n, Describe(log, &pt), err)
			}
			if pt.How == Torn && !slices.ContainsFunc(pt.Keep,
				func(k Piece) bool { return k.Count < log[k.Op].Count }) {
				t.Fatalf("seed %d point %d is not torn: %s", seed, n, Describe(log, &pt))
			}
			for _, k := range pt.Keep {
				if u := 1 + int64(seed%2); k.First != log[k.Op].First && k.First%u != 0 {
					t.Fatalf("seed %d point %d tears a unit apart", seed, n)
				}
			}
			want, got := naive(log, pt.State), content{}
			v := x.View(pt.State)
			at := int64(0)
			_ = v.Runs(0, sectors, func(first, count int64, op int) error {
				if first != at || count < 1 {
					t.Fatalf("run %d+%d, expected one from %d", first, count, at)
				}
				for ; at < first+count; at++ {
					got[at] = op
				}
				return nil
			})
			if at != sectors || want != got {
				t.Fatalf("seed %d point %d:\n%v, want\n%v", seed, n, got, want)
			}
			if again := NewPlan(log, p.o).Point(n); !reflect.DeepEqual(pt, again) {
				t.Fatalf("point %d differs the second time", n)
			}
		}
	}
}

// world is a content and what had been promised.
type world struct {
	content
	marks int
}

// all returns the worlds that the rules permit, by trying everything.
func all(log []Op) map[world]bool {
	out := map[world]bool{}
	marks := 0
	for at := 0; at <= len(log); at++ {
		if at > 0 && log[at-1].Kind == Mark {
			marks++
		}
		flush := SettledBefore(log, at)
		var pending []int
		for i := flush; i < at; i++ {
			if log[i].Kind == Write && !log[i].FUA {
				pending = append(pending, i)
			}
		}
		for mask := range 1 << len(pending) {
			s := State{At: at}
			for i, op := range pending {
				if mask>>i&1 != 0 {
					s.Keep = append(s.Keep, Piece{op, log[op].First, log[op].Count})
				}
			}
			out[world{naive(log, s), marks}] = true
		}
	}
	return out
}

func listed(log []Op, o Options) map[world]bool {
	out := map[world]bool{}
	p := NewPlan(log, o)
	for n := 1; n <= p.Len(); n++ {
		pt := p.Point(n)
		marks := 0
		for _, op := range log[:pt.At] {
			if op.Kind == Mark {
				marks++
			}
		}
		out[world{naive(log, pt.State), marks}] = true
	}
	return out
}

func TestEveryStateIsListedWhereFewWritesWait(t *testing.T) {
	compared := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		log := random(r, 3+r.IntN(9))
		p := NewPlan(log, Options{})
		if slices.ContainsFunc(p.stages, func(s stage) bool { return len(s.pending) > exhaustive }) {
			continue
		}
		compared++
		if want, got := all(log), listed(log, Options{Reorder: true}); !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: %d worlds listed, %d are possible; log %+v", seed, len(got), len(want), log)
		}
	}
	if compared < 100 {
		t.Errorf("only %d logs were compared", compared)
	}
}

// TestKnownBugs has the logs of programs as a file system would write them.
func TestKnownBugs(t *testing.T) {
	const (
		data, name, commit = 8, 1, 2
	)
	for _, c := range []struct {
		what, log string
		o         Options
		bad       func(c content, marks int) bool
		found     bool
	}{
		{"rename without fsync", "w8 w1 f", Options{Reorder: true},
			func(c content, _ int) bool { return c[name] >= 0 && c[data] < 0 }, true},
		{"in order it is not seen", "w8 w1 f", Options{}, func(c content, _ int) bool {
			return c[name] >= 0 &&
				c[data] < 0
		}, false},
		{"fsync, then rename", "w8 f w1 f", Options{Reorder: true, Torn: true},
			func(c content, _ int) bool { return c[name] >= 0 && c[data] < 0 }, false},
		{"FUA instead of a flush before", "w8 W1", Options{Reorder: true},
			func(c content, _ int) bool { return c[name] >= 0 && c[data] < 0 }, true},
		{"a promise without a flush", "w8 m:done", Options{},
			func(c content, marks int) bool { return marks > 0 && c[data] < 0 }, true},
		{"a promise with one", "w8 f m:done w9", Options{Reorder: true, Torn: true},
			func(c content, marks int) bool { return marks > 0 && c[data] < 0 }, false},
		{"a record without checksum", "w8+4 f", Options{Torn: true},
			func(c content, _ int) bool { return (c[8] < 0) != (c[11] < 0) }, true},
		{"commit overtakes its journal among many", "w3 w4 w5 w6 w7 w8 w9 w2 f", Options{Reorder: true},
			func(c content, _ int) bool { return c[commit] >= 0 && c[5] < 0 }, true},
		{"no unit is torn", "w8+4 f", Options{Torn: true, Reorder: true, Unit: 8},
			func(c content, _ int) bool { return (c[8] < 0) != (c[11] < 0) }, false},
		{"FUA is torn while it is under way", "W8+4", Options{Torn: true},
			func(c content, _ int) bool { return (c[8] < 0) != (c[11] < 0) }, true},
	} {
		found := false
		for w := range listed(parse(t, c.log), c.o) {
			found = found || c.bad(w.content, w.marks)
		}
		if found != c.found {
			t.Errorf("%s: found %v, want %v", c.what, found, c.found)
		}
	}
}

func TestSample(t *testing.T) {
	log := parse(t, strings.Repeat("w1 w2 w3 w4 w5 w6 w7 w8+4 ", 30)+"f w1 m:a w2 f m:b w3 f")
	p := NewPlan(log, Options{Reorder: true, Torn: true})
	for _, n := range []int{0, 1, 3, 50, p.Len() - 1, p.Len(), p.Len() + 5} {
		s := p.Sample(n, 7)
		if len(s) != min(n, p.Len()) || !slices.IsSorted(s) || len(slices.Compact(slices.Clone(s))) != len(s) {
			t.Errorf("sample of %d of %d: %v", n, p.Len(), s)
		}
		if len(s) > 0 && (s[0] < 1 || s[len(s)-1] > p.Len()) {
			t.Errorf("sample of %d of %d has %d to %d", n, p.Len(), s[0], s[len(s)-1])
		}
		if !slices.Equal(s, p.Sample(n, 7)) {
			t.Error("the same seed gives another sample")
		}
	}
	if slices.Equal(p.Sample(50, 1), p.Sample(50, 2)) {
		t.Error("two seeds give one sample")
	}
	// The last, short stages have their share.
	if s := p.Sample(60, 3); !slices.ContainsFunc(s, func(n int) bool { return p.Point(n).At == len(log)-1 }) {
		t.Errorf("a stage was left out")
	}
}

func TestDescribe(t *testing.T) {
	log := parse(t, "w1 w2 f m:one w3 w4+8 w5 w6 w7 w8")
	p := NewPlan(log, Options{Reorder: true, Torn: true})
	var texts []string
	for n := 1; n <= p.Len(); n++ {
		pt := p.Point(n)
		texts = append(texts, Describe(log, &pt))
	}
	for _, want := range []string{
		"cut after entry 2 of 10: none of 2 un-flushed writes kept",
		"cut after entry 2 of 10: 1 of 2 un-flushed writes kept (subset): #2",
		"cut after entry 10 of 10, after mark `one`: 2 of 6 un-flushed writes kept (prefix): #5, #6",
		"cut after entry 10 of 10, after mark `one`: 5 of 6 un-flushed writes kept, all but #6",
		"cut after entry 10 of 10, after mark `one`: 1 of 6 un-flushed writes kept (only): #7",
	} {
		if !slices.Contains(texts, want) {
			t.Errorf("no point is described as %q in\n%s", want, strings.Join(texts, "\n"))
		}
	}
	if !slices.ContainsFunc(texts, func(s string) bool {
		return strings.Contains(s, "2 of 6 un-flushed writes kept (torn): #5, #6 (torn: sectors ")
	}) {
		t.Errorf("no torn write is described in\n%s", strings.Join(texts, "\n"))
	}
}

func TestCheckRefuses(t *testing.T) {
	log := parse(t, "w1+4 f w2 W3 m:x w5+2")
	for want, s := range map[string]State{
		"cut after 7 of 6 entries":                   {At: 7},
		"entry 6 is kept, and the cut comes after 5": {At: 5, Keep: []Piece{{5, 5, 2}}},
		"entry 1 is settled, and listed":             {At: 3, Keep: []Piece{{0, 1, 1}}},
		"entry 4 is settled, and listed":             {At: 4, Keep: []Piece{{3, 3, 1}}},
		"entry 5 is kept, and is no write":           {At: 6, Keep: []Piece{{4, 0, 1}}},
		"sectors 6+2 are not those of entry 6":       {At: 6, Keep: []Piece{{5, 6, 2}}},
		"entry 3 is out of order":                    {At: 6, Keep: []Piece{{5, 5, 2}, {2, 2, 1}}},
	} {
		if err := check(log, &s); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := check(log, &State{At: 4, InFlight: true, Keep: []Piece{{2, 2, 1}, {3, 3, 1}}}); err != nil {
		t.Error(err)
	}
}

// FuzzPlan checks that all states of a plan are permitted, for any log.
func FuzzPlan(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\xf0\xe1\xd2"), uint64(1), true, true)
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, reorder, torn bool) {
		var log []Op
		for _, b := range text[:min(len(text), 100)] {
			switch b >> 5 {
			case 7:
				log = append(log, Op{Kind: Flush})
			case 6:
				log = append(log, Op{Kind: Mark})
			default:
				log = append(log, Op{First: int64(b & 7), Count: 1 + int64(b>>3&3), FUA: b>>5 == 5})
			}
		}
		p := NewPlan(log, Options{Reorder: reorder, Torn: torn, Seed: seed})
		for _, n := range p.Sample(200, seed) {
			pt := p.Point(n)
			if err := check(log, &pt.State); err != nil {
				t.Fatalf("point %d: %v", n, err)
			}
			_ = Describe(log, &pt)
		}
	})
}

// check returns an error for a state that a power cut cannot leave.
func check(log []Op, s *State) error {
	if s.At < 0 || s.At > len(log) || s.InFlight && s.At == 0 {
		return fmt.Errorf("cut after %d of %d entries", s.At, len(log))
	}
	flush := SettledBefore(log, s.At)
	last := Piece{Op: -1}
	for _, p := range s.Keep {
		switch {
		case p.Op < 0 || p.Op >= s.At:
			return fmt.Errorf("entry %d is kept, and the cut comes after %d", p.Op+1, s.At)
		case log[p.Op].Kind != Write:
			return fmt.Errorf("entry %d is kept, and is no write", p.Op+1)
		case s.settled(log, flush, p.Op):
			return fmt.Errorf("entry %d is settled, and listed", p.Op+1)
		case p.Count < 1 || p.First < log[p.Op].First || p.First+p.Count > log[p.Op].First+log[p.Op].Count:
			return fmt.Errorf("sectors %d+%d are not those of entry %d", p.First, p.Count, p.Op+1)
		case p.Op < last.Op || p.Op == last.Op && p.First < last.First+last.Count:
			return fmt.Errorf("entry %d is out of order", p.Op+1)
		}
		last = p
	}
	return nil
}
