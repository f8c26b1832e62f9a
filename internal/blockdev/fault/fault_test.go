package fault

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

const size = 1 << 20

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run makes a request that a disk would carry out, and returns what it is to do.
func run(f *Faults, r Request) (did *Deed, err error) {
	err = f.Run(context.Background(), r, func(d Deed) error {
		did = &d
		return nil
	})
	return did, err
}

func TestEffects(t *testing.T) {
	for _, r := range []Rule{
		{Op: Read, Effect: Corrupt}, {Op: Write, Effect: Torn, Errno: "ENOSPC"}, {Op: Discard, Effect: Misdirect},
		{Op: Flush, Effect: Lose},
	} {
		var f Faults
		_, err := f.AddRule(size, r)
		must(t, err)
		request := Request{Op: r.Op, Off: 4096, N: 4096, Guest: true}
		if r.Op == Flush {
			request.Off, request.N = 0, 0
		}
		did, err := run(&f, request)
		var failed *Error
		switch {
		case did == nil || did.Effect != r.Effect:
			t.Errorf("%+v: %+v", r, did)
		case r.Errno == "" && err != nil, r.Errno != "" && (!errors.As(err, &failed) || failed.Errno != r.Errno):
			t.Errorf("%+v: %v", r, err)
		}
		request.Guest = false
		if did, err := run(&f, request); err != nil || did == nil || did.Effect != "" {
			t.Errorf("%+v: a sector operation: %+v, %v", r, did, err)
		}
		if hits := f.ListRules()[0].Hits; hits != 1 {
			t.Errorf("%+v: %d hits", r, hits)
		}
	}
}

func TestDeeds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		d := Deed{random: rnd.Uint64()}
		n := (1 + rnd.Int64N(16)) * sectorSize
		off := rnd.Int64N(64-n/sectorSize+1) * sectorSize
		const end = 64 * sectorSize
		at := d.Elsewhere(off, n, end)
		fits := off >= n || end-off-n >= n
		switch {
		case at%sectorSize != 0 || at < 0 || at > end-n:
			t.Fatalf("%d+%d goes to %d", off, n, at)
		case fits && at < off+n && off < at+n:
			t.Fatalf("%d+%d goes to %d, which overlaps", off, n, at)
		}
		if k := d.Part(n); k < 0 || k >= n || k%sectorSize != 0 {
			t.Fatalf("%d of %d", k, n)
		}
		p := make([]byte, n)
		d.Corrupt(p)
		changed := map[int]bool{}
		for i, b := range p {
			if b != 0 {
				changed[i/sectorSize] = true
			}
		}
		if len(changed) > 1 {
			t.Fatalf("%d sectors were changed", len(changed))
		}
	}
}

// TestForgetFlush undoes the flush of an emulator: hits, random numbers and the count of
// FailAfter are as before.
func TestForgetFlush(t *testing.T) {
	var f Faults
	_, err := f.AddRule(size, Rule{Op: Flush, Errno: "EIO", Probability: 0.5, Seed: 3})
	must(t, err)
	must(t, f.ChangePolicy(size, func(p *Policy) { p.FailAfter = 1000 }))
	for range 20 {
		f.ExpectFlush()
		before := f.State()
		_, _ = run(&f, Request{Op: Flush, Guest: true}) // may fail
		f.ForgetFlush(true)
		// The generator moves also when the rule does not strike, as it does not for a
		// flush that is not forgotten.
		after := f.State()
		if after.Passed != before.Passed || after.Rules.List[0].Hits != before.Rules.List[0].Hits {
			t.Fatalf("%+v, was %+v", after, before)
		}
	}
	f.ForgetFlush(false)
}

// TestState restores a state that went through JSON.
func TestState(t *testing.T) {
	var f, g Faults
	must(t, f.Inject(ModeSlow))
	must(t, f.Inject(ModeReadEIO))
	for range 3 {
		_, err := f.AddRule(size, Rule{Op: Write, Sectors: Range{1, 2}, Delay: time.Millisecond, Probability: 0.25,
			Seed: 9})
		must(t, err)
	}
	must(t, f.RemoveRule(2))
	must(t, f.ChangePolicy(size, func(p *Policy) { p.FailAfter, p.FailRanges = 7, []Range{{3, 4}} }))
	text, err := json.Marshal(f.State())
	must(t, err)
	var s State
	must(t, json.Unmarshal(text, &s))
	must(t, s.Check(size))
	g.Restore(s)
	if !reflect.DeepEqual(g.State(), f.State()) || !g.Delays() || !g.Active() {
		t.Errorf("%+v, want %+v", g.State(), f.State())
	}
	id, err := g.AddRule(size, Rule{})
	if err != nil || id != 4 {
		t.Errorf("rule %d, %v", id, err)
	}
	g.RemoveRules()
	g.ClearModes()
	must(t, g.ChangePolicy(size, func(p *Policy) { *p = Policy{} }))
	if _, err := run(&g, Request{Op: Read, Off: 512, N: 512}); err != nil || g.Delays() {
		t.Errorf("all was cleared: %v", err)
	}
	if err := s.Check(3 * sectorSize); err == nil {
		t.Error("a range behind the end was accepted")
	}
	s.Modes = []string{ModeSlow, ModeReadEIO}
	if err := s.Check(size); err == nil {
		t.Error("modes out of order were accepted")
	}
}

func TestRuleErrors(t *testing.T) {
	for want, r := range map[string]Rule{
		"unknown op `x` (valid: read, write, discard, flush, any)":                {Op: "x"},
		"unknown errno `EFOO` (a name such as EIO or ENOSPC; the guest sees EIO)": {Errno: "EFOO"},
		"probability must be more than 0 and at most 1, got 2":                    {Probability: 2},
		"count must be at least 1, got -1":                                        {Count: -1},
		"delay must not be negative, got -1ns":                                    {Delay: -1},
		"sectors have no meaning for a flush":                                     {Op: Flush, Sectors: Range{1, 1}},
		"sector -1 is negative":                                                   {Sectors: Range{-1, 1}},
		"0 sectors from sector 5 on: at least 1 is needed":                        {Sectors: Range{5, 0}},
		"unknown effect `x` (valid: corrupt, misdirect, torn, lose)":              {Op: Read, Effect: "x"},
		"effect `torn` needs an op (valid: read, write, discard, flush)":          {Effect: Torn},
		"effect `torn` makes no sense for op `read` (valid: corrupt, misdirect)":  {Op: Read, Effect: Torn},
	} {
		var f Faults
		if _, err := f.AddRule(size, r); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if f.Active() {
			t.Errorf("%s: a rule was installed", want)
		}
	}
	var f Faults
	if err := f.RemoveRule(3); err == nil || err.Error() != "no rule 3: there are none" {
		t.Error(err)
	}
	for range MaxRules {
		_, err := f.AddRule(size, Rule{})
		must(t, err)
	}
	if _, err := f.AddRule(size, Rule{}); err == nil {
		t.Error("too many rules were accepted")
	}
}

func TestCount(t *testing.T) {
	var f Faults
	must(t, f.Note(Read, 0, 512))
	c := f.Count(Write, 2)
	if !f.Counting() || !f.Active() {
		t.Error("it does not count")
	}
	for _, r := range []Request{{Op: Read, N: 512}, {Op: Write, N: 512}, {Op: Flush}} {
		must(t, f.Note(r.Op, r.Off, r.N))
	}
	var failed *Error
	if err := f.Note(Discard, 4096, 1024); !errors.As(err, &failed) {
		t.Errorf("the second write: %v", err)
	}
	must(t, f.Note(Write, 0, 512))
	if c.Seen() != 3 || c.Hit() != "write of sectors 8+2" {
		t.Errorf("%d seen, hit %q", c.Seen(), c.Hit())
	}
	f.StopCounting()
	must(t, f.Note(Write, 0, 512))
	if c.Seen() != 3 {
		t.Error("it still counts")
	}
}

func TestLosesFUA(t *testing.T) {
	var f Faults
	if f.LosesFUA() {
		t.Error("without a rule")
	}
	_, err := f.AddRule(size, Rule{Op: Flush, Effect: Lose, Count: 1})
	must(t, err)
	if !f.LosesFUA() || f.LosesFUA() {
		t.Error("it is not just one")
	}
}
