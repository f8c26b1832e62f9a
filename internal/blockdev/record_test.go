package blockdev

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"provium/internal/blockdev/crash"
	"provium/internal/fulltest"
)

func TestRecordedStates(t *testing.T) {
	ctx := context.Background()
	const sectors = 32
	for seed := range uint64(fulltest.Of(20, 60)) {
		r := rand.New(rand.NewPCG(seed, 5))
		d := open(t, Config{Size: sectors * SectorSize})
		must(t, d.WriteSectors(ctx, 3, block('B', 20)))
		must(t, d.guestWrite(ctx, block('P', 4), 8*SectorSize, false))
		must(t, d.guestZero(ctx, 14*SectorSize, 3*SectorSize, false))
		rec, err := d.Record(1 << 20)
		must(t, err)
		base, err := d.ReadSectors(ctx, 0, sectors, false)
		must(t, err)
		fill := map[int]byte{0: 'P', 1: 0}
		for i := range 1 + r.IntN(25) {
			first := r.Int64N(sectors)
			n := 1 + r.Int64N(min(6, sectors-first))
			at := rec.Len()
			b := byte(1 + i%3) // so that contents come back
			switch k := r.IntN(12); {
			case k == 0:
				must(t, d.guestFlush(ctx))
				continue
			case k == 1:
				must(t, rec.Mark("m"))
				continue
			case k == 2:
				must(t, d.WriteSectors(ctx, first, block(b, int(n))[:n*SectorSize-5]))
				if rec.Log()[at] != (crash.Op{First: first, Count: n, FUA: true}) {
					t.Fatalf("%+v", rec.Log()[at])
				}
				// Its tail is of before: make it whole for the comparison below.
				must(t, d.WriteSectors(ctx, first, block(b, int(n))))
				fill[at], fill[at+1] = b, b
				continue
			case k == 3:
				must(t, d.guestZero(ctx, first*SectorSize, n*SectorSize, false))
				b = 0
			default:
				must(t, d.guestWrite(ctx, block(b, int(n)), first*SectorSize, k == 4))
			}
			fill[at] = b
		}
		d.StopRecording()
		must(t, d.guestWrite(ctx, block('X', sectors), 0, true)) // is no part of it
		s, err := rec.States()
		must(t, err)
		log := s.Log()
		p := crash.NewPlan(log, crash.Options{Reorder: true, Torn: true, Seed: seed})
		prints := map[uint64]string{}
		contents := map[string]uint64{}
		other := open(t, Config{Size: sectors * SectorSize})
		for n := 1; n <= p.Len(); n++ {
			pt := p.Point(n)
			want := bytes.Clone(base)
			apply := func(op int, first, count int64) {
				copy(want[first*SectorSize:(first+count)*SectorSize], block(fill[op], int(count)))
			}
			flush := crash.SettledBefore(log, pt.At)
			keep := pt.Keep
			for i := range log[:pt.At] {
				if log[i].Kind == crash.Write && (i < flush || log[i].FUA && !(pt.InFlight && i == pt.At-1)) {
					apply(i, log[i].First, log[i].Count)
				}
				for len(keep) > 0 && keep[0].Op == i {
					apply(i, keep[0].First, keep[0].Count)
					keep = keep[1:]
				}
			}
			c := s.Content(pt.State)
			got := make([]byte, len(want))
			must(t, c.readAt(got, 0))
			blur(log, want, got)
			if !bytes.Equal(got, want) {
				t.Fatalf("seed %d point %d has another content: %s", seed, n, crash.Describe(log, &pt))
			}
			f := s.Fingerprint(pt.State)
			raw := make([]byte, len(want))
			must(t, c.readAt(raw, 0))
			if old, ok := prints[f]; ok && old != string(raw) {
				t.Fatalf("seed %d point %d: one fingerprint of two contents", seed, n)
			}
			if old, ok := contents[string(raw)]; ok && old != f {
				t.Fatalf("seed %d point %d: two fingerprints of one content", seed, n)
			}
			prints[f], contents[string(raw)] = string(raw), f
			// A disk has it, and what is written there stays there.
			must(t, other.Load(c))
			for off := int64(0); off < sectors*SectorSize; {
				hole, n := other.hole(off, sectors*SectorSize-off)
				if hole && !bytes.Equal(raw[off:off+n], make([]byte, n)) {
					t.Fatalf("seed %d point %d: no hole at %d+%d", seed, n, off, n)
				}
				off += n
			}
			have, err := other.ReadSectors(ctx, 0, sectors, true)
			must(t, err)
			if !bytes.Equal(have, raw) {
				t.Fatalf("seed %d point %d: the disk has another content", seed, n)
			}
			must(t, other.guestWrite(ctx, block('Y', 3), int64(n%20)*SectorSize, n%2 == 0))
		}
		must(t, rec.Close())
		must(t, d.Close())
		must(t, other.Close())
	}
}

// blur makes sectors alike that a sector write covered in part.
func blur(log []crash.Op, a, b []byte) {
	for i, op := range log {
		if op.FUA && i+1 < len(log) && log[i+1] == op {
			last := (op.First + op.Count - 1) * SectorSize
			clear(a[last : last+SectorSize])
			clear(b[last : last+SectorSize])
		}
	}
}

func TestRecordingEnds(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 1 << 20})
	rec, err := d.Record(10 * SectorSize)
	must(t, err)
	if _, err := d.Record(1); err != ErrRecording {
		t.Error(err)
	}
	if _, err := rec.States(); err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Error(err)
	}
	must(t, d.guestWrite(ctx, block('a', 8), 0, false))
	must(t, d.guestWrite(ctx, block('b', 8), 0, false)) // the disk does not mind
	if _, err := rec.Ended(); err == nil || !strings.Contains(err.Error(),
		"more than its limit of 5120 bytes was written") {
		t.Error(err)
	}
	if _, err := rec.States(); err == nil {
		t.Error("an incomplete recording gave states")
	}
	if err := rec.Mark("x"); err == nil {
		t.Error("a recording that has ended was marked")
	}
	d.StopRecording()
	must(t, rec.Close())

	rec, err = d.Record(RecordLimit)
	must(t, err)
	if rec.Len() != 1 {
		t.Errorf("what was in the cache gave %d entries", rec.Len())
	}
	cut(t, d, Cut{Off: true})
	if why, err := rec.Ended(); err != nil || why != "the power was cut" {
		t.Error(why, err)
	}
	if _, err := d.Record(1); err == nil || !strings.Contains(err.Error(), "no power") {
		t.Error(err)
	}
	d.PowerOn()
	s, err := rec.States()
	must(t, err)
	if err := open(t, Config{Size: 2 << 20}).Load(s.Content(crash.State{})); err == nil {
		t.Error("a disk of another size took a content")
	}
	if err := open(t, Config{Image: image(t, 'i', 1<<20)}).Load(s.Content(crash.State{})); err == nil {
		t.Error("an image in place took a content")
	}
	must(t, rec.Close())
}
