package fault

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// met returns what an index finds, by looking at each rule.
func met(rules []*rule, op Op, first, count int64) (out ruleBits) {
	for i, r := range rules {
		switch s := r.Sectors; {
		case r.Op != op && r.Op != Any:
		case s == (Range{}), op != Flush && s.First < first+count && first < s.First+s.Count:
			out.add(i)
		}
	}
	return out
}

// compare has the indices of rules find what requests for some sectors meet.
func compare(t *testing.T, rules []*rule, requests []Range) {
	t.Helper()
	for _, op := range indexed {
		x := indexRules(rules, op)
		if want := met(rules, op, 0, math.MaxInt64) != (ruleBits{}); x.any != want {
			t.Errorf("%s: there are rules: %v, want %v", op, x.any, want)
		}
		for _, r := range requests {
			if op == Flush {
				r = Range{}
			}
			if got, want := x.find(r.First, r.Count), met(rules, op, r.First, r.Count); got != want {
				var list []string
				for i, r := range rules {
					list = append(list, fmt.Sprintf("%d: %s %+v", i, r.Op, r.Sectors))
				}
				t.Fatalf("%s of %+v meets %x, want %x; rules %q", op, r, got, want, list)
			}
		}
	}
}

func TestRuleIndex(t *testing.T) {
	const end = math.MaxInt64 / sectorSize // of the largest disk
	requests := []Range{{0, 1}, {0, 9}, {0, 100}, {0, end}, {9, 1}, {9, 2}, {10, 1}, {10, 5}, {12, 3}, {14, 1}, {14, 2},
		{15, 1}, {15, 5},
		{19, 1}, {20, 1}, {25, 50}, {99, 1}, {100, 1}, {end - 1, 1}, {end - 9, 9}}
	for name, list := range map[string][]Rule{
		"none":         nil,
		"everywhere":   {{Op: Write}, {Op: Any}, {Op: Flush}},
		"one sector":   {{Op: Read, Sectors: Range{10, 1}}},
		"first sector": {{Op: Any, Sectors: Range{0, 1}}},
		"last sector":  {{Op: Any, Sectors: Range{end - 1, 1}}},
		"whole disk":   {{Op: Any, Sectors: Range{0, end}}, {Op: Read, Sectors: Range{10, 5}}},
		"the same": {{Op: Read, Sectors: Range{10, 5}}, {Op: Read, Sectors: Range{10, 5}},
			{Op: Write, Sectors: Range{10, 5}}},
		"side by side": {{Op: Any, Sectors: Range{10, 5}}, {Op: Any, Sectors: Range{15, 5}}},
		"with a gap": {{Op: Any, Sectors: Range{15, 1}}, {Op: Any, Sectors: Range{10, 1}},
			{Op: Discard, Sectors: Range{99, 1}}},
		"overlapping": {{Op: Any, Sectors: Range{12, 5}}, {Op: Any, Sectors: Range{10, 5}}},
		"one in the other": {{Op: Any, Sectors: Range{0, 100}}, {Op: Any, Sectors: Range{10, 5}},
			{Op: Any, Sectors: Range{12, 1}}},
		"flushes and reads": {{Op: Flush}, {Op: Any, Sectors: Range{10, 5}}, {Op: Read}},
	} {
		t.Run(name, func(t *testing.T) {
			var rules []*rule
			for _, r := range list {
				rules = append(rules, &rule{Rule: r})
			}
			compare(t, rules, requests)
		})
	}
	t.Run("by chance", func(t *testing.T) {
		for seed := range uint64(200) {
			r := rand.New(rand.NewPCG(seed, 0))
			span := 1 + r.Int64N(500) // crowded or not
			some := func() Range { return Range{r.Int64N(span), 1 + r.Int64N(1+span/8)} }
			var rules []*rule
			for range 1 + r.IntN(MaxRules) {
				one := Rule{Op: ruleOps[r.IntN(len(ruleOps))]}
				if one.Op != Flush && r.IntN(20) > 0 {
					one.Sectors = some()
				}
				rules = append(rules, &rule{Rule: one})
			}
			var requests []Range
			for range 200 {
				requests = append(requests, some())
			}
			compare(t, rules, requests)
		}
	})
}

// FuzzRuleIndex reads rules of seven bytes, and takes the sectors of each rule for a
// request's as well.
func FuzzRuleIndex(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{4, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 10, 0, 0, 5, 1, 0, 0, 12, 0, 0, 5, 4, 0, 0, 15, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		var rules []*rule
		requests := []Range{{0, 1 << 25}}
		for ; len(p) >= 7 && len(rules) < MaxRules; p = p[7:] {
			one := Rule{Op: ruleOps[int(p[0])%len(ruleOps)]}
			sectors := Range{int64(binary.BigEndian.Uint32(p) & 0xffffff),
				int64(binary.BigEndian.Uint32(p[3:]) & 0xffffff)}
			if sectors.Count > 0 {
				requests = requests[:min(len(requests), 40)] // for speed
				requests = append(requests, sectors, Range{sectors.First + sectors.Count, 1})
				if one.Op != Flush {
					one.Sectors = sectors
				}
			}
			rules = append(rules, &rule{Rule: one})
		}
		compare(t, rules, requests)
	})
}
