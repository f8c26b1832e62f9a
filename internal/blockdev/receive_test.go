package blockdev

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/blockdev/fault"
)

// write writes p by one request.
func write(c *peer, p []byte, off int64) error {
	_, err := c.WriteAt(p, off)
	return err
}

// TestLargeRequests has a client make requests of the size that takes ways of its
// own, and compares with arrays: the medium, and each write that was not flushed.
func TestLargeRequests(t *testing.T) {
	const sectors = chunkSectors + 700
	rnd := rand.New(rand.NewPCG(7, 8))
	raw := image(t, 'i', sectors*SectorSize)
	hole, err := os.OpenFile(raw, os.O_RDWR, 0)
	must(t, err)
	must(t, rawBytes{hole}.Zero(1<<18, 1<<19))
	must(t, hole.Close())
	content, err := os.ReadFile(raw)
	must(t, err)
	short := image(t, 'o', sectors*SectorSize-5)
	odd, err := os.ReadFile(short)
	must(t, err)
	for _, m := range []struct {
		cfg   Config
		first []byte
	}{{Config{Size: sectors * SectorSize}, nil}, {Config{Template: raw}, content}, {Config{Image: short}, odd}} {
		d := open(t, m.cfg)
		c := dial(t, d)
		medium := unwatched(t, sectors*SectorSize)
		copy(medium, m.first)
		all, got := unwatched(t, len(medium)), unwatched(t, len(medium))
		type written struct {
			lo int64
			p  []byte
		}
		var pending []written
		with := func(n int) []byte {
			copy(all, medium)
			for _, w := range pending[:n] {
				copy(all[w.lo:], w.p)
			}
			return all
		}
		direct := 0
		for i := range 90 {
			// Few places, so that writes meet pages that there are.
			first := rnd.Int64N(5) * (sectors / 6)
			n := 1 + rnd.Int64N(min(2048, sectors-first))
			lo := first * SectorSize
			p := block(byte(i), int(n))
			if d.takes(lo, n*SectorSize) {
				direct++
			}
			switch rnd.IntN(10) {
			case 0, 1, 2, 3, 4:
				must(t, write(c, p, lo))
				pending = append(pending, written{lo, p})
			case 5:
				c.writeFUA(t, p, lo)
				for k := range pending { // what it covers of them is settled, too
					w := pending[k]
					if from, to := max(lo, w.lo), min(lo+n*SectorSize, w.lo+int64(len(w.p))); from < to {
						copy(w.p[from-w.lo:to-w.lo], p)
					}
				}
				copy(medium[lo:], p)
			case 6:
				must(t, c.Zero(lo, n*SectorSize))
				pending = append(pending, written{lo, make([]byte, n*SectorSize)})
			case 7:
				must(t, c.Flush())
				copy(medium, with(len(pending)))
				pending = nil
			case 8:
				k := rnd.IntN(len(pending) + 1)
				r := cut(t, d, Cut{Keep: KeepPrefix, Count: int64(k)})
				if r.Unflushed != len(pending) || r.Kept != k {
					t.Fatalf("step %d: %+v of %d, %d to keep", i, r, len(pending), k)
				}
				copy(medium, with(k))
				pending = nil
				d.PowerOn()
			case 9:
				must(t, d.Inject(fault.ModeWriteEIO))
				if err := write(c, p, lo); err != syscall.EIO {
					t.Fatalf("step %d: %v", i, err)
				}
				d.ClearModes()
			}
			_, err := c.ReadAt(got, 0)
			must(t, err)
			if !bytes.Equal(got, with(len(pending))) {
				t.Fatalf("step %d: the client sees something else", i)
			}
			must(t, d.readInto(t.Context(), got, 0, false))
			if !bytes.Equal(got, medium) {
				t.Fatalf("step %d: the medium differs", i)
			}
		}
		if direct == 0 {
			t.Error("no write met pages that there are")
		}
	}
}

// TestDirectWriteFaults has rules change writes that go right to the cache's file.
func TestDirectWriteFaults(t *testing.T) {
	d := open(t, Config{Size: 4 << 20})
	c := dial(t, d)
	writeAll := func(b byte) error { return write(c, block(b, 2048), 0) }
	must(t, writeAll('a'))
	if !d.takes(0, 1<<20) || d.takes(1<<20, 1<<20) || d.takes(0, 512) || d.takes(1<<20-4096, 8192) ||
		!d.takes(1<<20-8192, 8192) {
		t.Error("takes is wrong")
	}
	id, err := d.AddRule(fault.Rule{Op: fault.Write, Effect: fault.Torn, Seed: 3})
	must(t, err)
	must(t, writeAll('b'))
	p := everything(t, d, true)
	if n := bytes.Count(p, []byte{'b'}); n == 0 || n >= 1<<20 || n%SectorSize != 0 ||
		bytes.Count(p, []byte{'a'}) != 1<<20-n {
		t.Errorf("torn: %d", n)
	}
	must(t, d.RemoveRule(id))
	id, err = d.AddRule(fault.Rule{Op: fault.Write, Effect: fault.Misdirect, Seed: 3})
	must(t, err)
	must(t, writeAll('c'))
	if p := everything(t, d, true); bytes.Count(p[1<<20:], []byte{'c'}) != 1<<20 ||
		bytes.Count(p[:1<<20], []byte{'c'}) != 0 {
		t.Error("misdirected")
	}
	must(t, d.RemoveRule(id))
	must(t, writeAll('d'))
	rec, err := d.Record(RecordLimit)
	must(t, err)
	must(t, writeAll('e'))
	must(t, c.Flush())
	d.StopRecording()
	states, err := rec.States()
	must(t, err)
	if log := states.Log(); len(log) < 2 || log[len(log)-2].Count != 2048 {
		t.Errorf("recorded: %v", log)
	}
	must(t, rec.Close())
	if sector(t, d, 2047, false) != 'e' {
		t.Error("the write that was recorded is lost")
	}
}

// TestUnmappablePage has the kernel not be able to store what the client sends: the
// request must be carried out all the same, and the next one be understood.
func TestUnmappablePage(t *testing.T) {
	d := open(t, Config{Size: 4 << 20})
	c := dial(t, d)
	must(t, write(c, block('a', 2048), 0))
	d.mu.Lock()
	mem := d.cache.memory(0, 1<<20)
	if mem == nil {
		t.Fatal("no memory")
	}
	must(t, unix.Mprotect(mem[512<<10:], unix.PROT_READ)) // as a page that the filesystem has no room for
	d.mu.Unlock()
	for _, b := range []byte("bc") {
		must(t, write(c, block(b, 2048), 0))
		if p := everything(t, d, true)[:1<<20]; !bytes.Equal(p, block(b, 2048)) {
			t.Errorf("%c: the content differs", b)
		}
	}
}

// TestBrokenOffWrite has a client go in the middle of its data.
func TestBrokenOffWrite(t *testing.T) {
	var told error
	d := open(t, Config{Size: 4 << 20, OnError: func(err error) { told = err }})
	c := dial(t, d)
	must(t, write(c, block('a', 2048), 0))
	must(t, c.Flush())
	c.beginWrite(t, 0, 0, 1<<20, block('b', 1000))
	must(t, c.conn.Close())
	again := dial(t, d) // the disk is free again when this one is answered
	got := make([]byte, 1<<20)
	_, err := again.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, block('a', 2048)) {
		t.Error("a part of a write that was broken off is seen")
	}
	if r := cut(t, d, Cut{Keep: KeepAll}); r.Unflushed != 0 {
		t.Errorf("%+v", r)
	}
	if told != nil {
		t.Errorf("told of it: %v", told)
	}
}

// TestReadInPieces has reads meet files, holes, images and many small pieces.
func TestReadInPieces(t *testing.T) {
	ctx := context.Background()
	path := image(t, 'i', 4<<20)
	var told error
	d := open(t, Config{Template: path, OnError: func(err error) { told = err }})
	c := dial(t, d)
	want := bytes.Repeat([]byte{'i'}, 4<<20)
	for i := range int64(40) { // more than are sent one by one
		must(t, d.guestWrite(ctx, block('s', 1), i*4*SectorSize, false))
		copy(want[i*4*SectorSize:], block('s', 1))
	}
	must(t, d.guestZero(ctx, 1<<20, 1<<20, false))
	clear(want[1<<20 : 2<<20])
	got := make([]byte, 4<<20)
	for range 2 {
		_, err := c.ReadAt(got, 0)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("the content differs")
		}
		must(t, d.Flush())
	}
	x, p, err := d.guestExtents(ctx, 1<<20, 2<<20)
	if err != nil || p != nil || len(x) != 2 || x[0].File != nil || x[1].File == nil {
		t.Errorf("%v, %v, %v", x, p != nil, err)
	}
	x.Release()
	must(t, os.Truncate(path, 3<<20))
	if _, err := c.ReadAt(got[:1<<20], 3<<20); err == nil || told == nil || !strings.Contains(told.Error(), "shrunk") {
		t.Errorf("%v, %v", err, told)
	}
	if _, err := c.ReadAt(got[:1<<20], 1<<20); err != nil {
		t.Errorf("the rest: %v", err)
	}
}

func TestMappedPages(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const pages = 300
	var m mapped
	var have [pages]bool
	for range 200 {
		off := rnd.Int64N(pages * pageBytes)
		n := rnd.Int64N(min(pages*pageBytes-off, 80*pageBytes)) + 1
		m.wrote(off, n)
		for i := range have {
			have[i] = have[i] || off <= int64(i)*pageBytes && int64(i+1)*pageBytes <= off+n
		}
		for range 20 {
			off := rnd.Int64N(pages * pageBytes)
			n := rnd.Int64N(min(pages*pageBytes-off, 80*pageBytes)) + 1
			want := true
			for i := off / pageBytes; i*pageBytes < off+n; i++ {
				want = want && have[i]
			}
			if m.has(off, n) != want {
				t.Fatalf("%d+%d: %v", off, n, !want)
			}
		}
		if rnd.IntN(20) == 0 {
			m, have = mapped{}, [pages]bool{}
		}
	}
}
