package blockdev

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"provium/internal/blockdev/crash"
)

func cut(t *testing.T, d *Disk, c Cut) CutResult {
	t.Helper()
	r, err := d.PowerCut(c)
	must(t, err)
	return r
}

func TestPowerCutKeeps(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		cut    Cut
		want   string // sectors 0 to 5
		result CutResult
	}{
		{Cut{}, ".....f", CutResult{Unflushed: 4}},
		{Cut{Keep: KeepAll}, "bbcc0f", CutResult{Unflushed: 4, Kept: 4, KeptSectors: 5}},
		{Cut{Keep: KeepPrefix, Count: 0}, ".....f", CutResult{Unflushed: 4}},
		{Cut{Keep: KeepPrefix, Count: 1}, "aaaa.f", CutResult{Unflushed: 4, Kept: 1, KeptSectors: 4}},
		{Cut{Keep: KeepPrefix, Count: 2}, "bbaa.f", CutResult{Unflushed: 4, Kept: 2, KeptSectors: 4}},
		{Cut{Keep: KeepPrefix, Count: 3}, "bbcc.f", CutResult{Unflushed: 4, Kept: 3, KeptSectors: 4}},
		{Cut{Keep: KeepPrefix, Count: 99}, "bbcc0f", CutResult{Unflushed: 4, Kept: 4, KeptSectors: 5}},
	} {
		t.Run(fmt.Sprint(c.cut), func(t *testing.T) {
			d := open(t, Config{Size: 1 << 20})
			must(t, d.WriteSectors(ctx, 0, block('.', 6)))
			must(t, d.guestWrite(ctx, block('a', 4), 0, false))
			must(t, d.guestWrite(ctx, block('b', 2), 0, false))
			must(t, d.guestWrite(ctx, block('c', 2), 2*SectorSize, false))
			must(t, d.guestWrite(ctx, block('f', 1), 5*SectorSize, true))
			must(t, d.guestZero(ctx, 4*SectorSize, SectorSize, false))
			if r := cut(t, d, c.cut); r != c.result {
				t.Errorf("%+v, want %+v", r, c.result)
			}
			got := ""
			for i := range int64(6) {
				b := sector(t, d, i, false)
				if b == 0 {
					b = '0'
				}
				got += string(b)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestPowerCutKeepsWhatIsPermitted has the model decide on what is left.
func TestPowerCutKeepsWhatIsPermitted(t *testing.T) {
	ctx := context.Background()
	const sectors = 24
	seen := map[string]bool{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		d := open(t, Config{Size: sectors * SectorSize})
		var log []crash.Op
		note := func(op crash.Op) byte { log = append(log, op); return byte(len(log)) }
		for range 1 + r.IntN(30) {
			first := r.Int64N(sectors)
			n := 1 + r.Int64N(min(6, sectors-first))
			switch k := r.IntN(12); {
			case k == 0:
				note(crash.Op{Kind: crash.Flush})
				must(t, d.guestFlush(ctx))
			case k == 1:
				must(t, d.WriteSectors(ctx, first, block(note(crash.Op{First: first, Count: n, FUA: true}), int(n))))
			case k == 2:
				must(t, d.guestWrite(ctx, block(note(crash.Op{First: first, Count: n, FUA: true}), int(n)),
					first*SectorSize, true))
			default:
				must(t, d.guestWrite(ctx, block(note(crash.Op{First: first, Count: n}), int(n)), first*SectorSize,
					false))
			}
		}
		if seed%5 == 0 {
			d.unflushed.forget() // as with too many of them
		}
		c := Cut{Keep: []Keep{KeepRandom, KeepPrefix, KeepAll}[seed%3], Seed: seed, Torn: seed%2 == 0, Count: -1}
		cut(t, d, c)
		p, err := d.ReadSectors(ctx, 0, sectors, false)
		must(t, err)
		flush := crash.SettledBefore(log, len(log))
		kept := map[int]int{}  // write: sectors that it has
		owned := map[int]int{} // write: sectors that no later one could have overwritten
		for s := range int64(sectors) {
			b := p[s*SectorSize]
			if !bytes.Equal(p[s*SectorSize:(s+1)*SectorSize], block(b, 1)) {
				t.Fatalf("seed %d: sector %d is mixed", seed, s)
			}
			settled, newer := -1, []int{}
			for i, op := range log {
				if op.Kind == crash.Write && op.First <= s && s < op.First+op.Count {
					if i < flush || op.FUA {
						settled, newer = i, nil
					} else {
						newer = append(newer, i)
					}
				}
			}
			got := int(b) - 1
			ok := got == settled
			for _, i := range newer {
				if i == got {
					ok = true
					kept[i]++
				}
			}
			if len(newer) > 0 {
				owned[newer[len(newer)-1]]++
			}
			if !ok {
				t.Fatalf("seed %d, %+v: sector %d has write %d, settled is %d and then came %v", seed, c, s, got,
					settled, newer)
			}
		}
		for i, n := range kept {
			if !c.Torn && n > 0 && n < owned[i] {
				t.Fatalf("seed %d, %+v: write %d is torn", seed, c, i)
			}
		}
		seen[string(p)] = true
		must(t, d.Close())
	}
	if len(seen) < 100 {
		t.Errorf("only %d outcomes", len(seen))
	}
}

func TestPowerCutIsRepeatable(t *testing.T) {
	ctx := context.Background()
	outcome := func(seed uint64) string {
		d := open(t, Config{Size: 1 << 20})
		for i := range 40 {
			must(t, d.guestWrite(ctx, block(byte(i+1), 8), int64(i*4)*SectorSize, false))
		}
		r := cut(t, d, Cut{Keep: KeepRandom, Seed: seed, Torn: true})
		if r.Unflushed != 40 || r.Kept > 40 {
			t.Errorf("%+v", r)
		}
		p, err := d.ReadSectors(ctx, 0, 200, false)
		must(t, err)
		return string(p)
	}
	first := outcome(1)
	if first != outcome(1) || first == outcome(2) {
		t.Error("the seed does not decide")
	}
}

func TestManyUnflushedWritesAreOne(t *testing.T) {
	ctx := context.Background()
	for what, write := range map[string]func(d *Disk) error{
		"many writes": func(d *Disk) error {
			for i := range maxUnflushed + 1000 {
				if err := d.guestWrite(ctx, block(byte(i%200+1), 1), int64(i%100)*SectorSize, false); err != nil {
					return err
				}
			}
			return nil
		},
		"many sectors": func(d *Disk) error {
			for range maxSectors/2048 + 1 {
				if err := d.guestZero(ctx, 0, 1<<20, false); err != nil {
					return err
				}
			}
			return nil
		},
		"much that was replaced": func(d *Disk) error {
			for range maxReplaced>>20 + 3 {
				if err := d.guestWrite(ctx, block('x', 1<<20/SectorSize), 0, false); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := open(t, Config{Size: 1 << 20})
			must(t, write(d))
			before, err := d.ReadSectors(ctx, 0, 2048, true)
			must(t, err)
			if n := len(d.unflushed.writes); n != 0 {
				t.Fatalf("%d writes are told apart", n)
			}
			r := cut(t, d, Cut{Keep: KeepPrefix, Count: 1})
			if r.Unflushed != 1 || r.Kept != 1 {
				t.Errorf("%+v", r)
			}
			after, err := d.ReadSectors(ctx, 0, 2048, false)
			must(t, err)
			if !bytes.Equal(before, after) {
				t.Error("the one write was not kept")
			}
			// It ends with the flush, or the cut.
			d.PowerOn()
			must(t, d.guestWrite(ctx, block('y', 1), 0, false))
			if r := cut(t, d, Cut{}); r.Unflushed != 1 || sector(t, d, 0, false) != after[0] {
				t.Errorf("%+v", r)
			}
		})
	}
}
