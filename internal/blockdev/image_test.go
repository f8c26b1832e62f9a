package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/blockdev/fault"
)

func seal(t *testing.T, d *Disk) *Image {
	t.Helper()
	i, err := d.Seal()
	must(t, err)
	t.Cleanup(func() { must(t, i.Release()) })
	return i
}

// dumped returns an image that went through a file.
func dumped(t *testing.T, i *Image) *Image {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "dump"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("something before")
	must(t, err)
	d, err := i.Dump(func(p []byte) error {
		if len(p) != ChunkSize {
			t.Errorf("a chunk of %d bytes", len(p))
		}
		_, err := f.Write(p)
		return err
	})
	must(t, err)
	text, err := json.Marshal(d)
	must(t, err)
	again := &Dump{Map: d.Map}
	must(t, json.Unmarshal(text, again))
	out, err := LoadImage(again, f, int64(len("something before")), nil)
	must(t, err)
	t.Cleanup(func() { must(t, out.Release()) })
	return out
}

func everything(t *testing.T, d *Disk, pending bool) []byte {
	t.Helper()
	p := unwatched(t, int(d.Size()))
	must(t, d.readInto(context.Background(), p, 0, pending))
	return p
}

// unwatched returns n zero bytes outside of the Go heap, until the end of the test. The race
// detector does not look at them, and takes seconds to look at the same amount of heap.
func unwatched(t *testing.T, n int) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Munmap(p)) })
	return p
}

// unwatchedCopy returns p outside of the Go heap.
func unwatchedCopy(t *testing.T, p []byte) []byte {
	t.Helper()
	q := unwatched(t, len(p))
	copy(q, p)
	return q
}

// TestImages has a family of disks write at random, each compared with two arrays.
func TestImages(t *testing.T) {
	const sectors = chunkSectors + 300
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(5, 6))
	type member struct {
		d            *Disk
		medium, seen []byte
	}
	for name, cfg := range map[string]Config{
		"scratch":  {Size: sectors * SectorSize},
		"template": {Template: image(t, 't', sectors*SectorSize-5)},
		"in place": {Image: image(t, 'i', sectors*SectorSize-7)},
		"ext":      {Image: image(t, 0, sectors*SectorSize)},
	} {
		t.Run(name, func(t *testing.T) {
			first := open(t, cfg)
			family := []*member{{first, everything(t, first, false), everything(t, first, true)}}
			got := unwatched(t, int(first.Size()))
			holds := func(d *Disk, pending bool, want []byte) bool {
				must(t, d.readInto(ctx, got, 0, pending))
				return bytes.Equal(got, want)
			}
			for i := range 120 {
				m := family[rnd.IntN(len(family))]
				at := rnd.Int64N(sectors)
				n := 1 + rnd.Int64N(min(64, sectors-at))
				lo, hi := at*SectorSize, (at+n)*SectorSize
				switch rnd.IntN(9) {
				case 0, 1:
					must(t, m.d.guestWrite(ctx, block(byte(i), int(n)), lo, false))
					copy(m.seen[lo:hi], block(byte(i), int(n)))
				case 2:
					must(t, m.d.guestWrite(ctx, block(byte(i), int(n)), lo, true))
					copy(m.seen[lo:hi], block(byte(i), int(n)))
					copy(m.medium[lo:hi], m.seen[lo:hi])
				case 3:
					must(t, m.d.guestZero(ctx, lo, hi-lo, rnd.IntN(2) == 0))
					clear(m.seen[lo:hi])
					must(t, m.d.readInto(ctx, m.medium[lo:hi], lo, false))
				case 4:
					must(t, m.d.guestFlush(ctx))
					copy(m.medium, m.seen)
				case 5:
					p := bytes.Repeat([]byte{byte(i)}, int(hi-lo-rnd.Int64N(SectorSize)))
					must(t, m.d.WriteSectors(ctx, at, p))
					copy(m.seen[lo:], p)
					copy(m.medium[lo:], p)
				case 6:
					cut(t, m.d, Cut{})
					m.d.PowerOn()
					copy(m.seen, m.medium)
				default:
					image := seal(t, m.d)
					if rnd.IntN(3) == 0 {
						image = dumped(t, image)
					}
					family = append(family, &member{open(t, Config{From: image}), unwatchedCopy(t, m.medium),
						unwatchedCopy(t, m.seen)})
				}
				if i%10 > 0 {
					continue
				}
				for k, m := range family {
					if !holds(m.d, false, m.medium) || !holds(m.d, true, m.seen) {
						t.Fatalf("step %d: disk %d of %d differs", i, k, len(family))
					}
				}
			}
			// The image that was used in place is closed before what was made from it.
			must(t, first.Close())
			for k, m := range family[1:] {
				if !holds(m.d, false, m.medium) || !holds(m.d, true, m.seen) {
					t.Fatalf("disk %d of %d differs in the end", k, len(family))
				}
			}
		})
	}
}

func TestImageOfFaults(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 64 * SectorSize})
	must(t, d.Inject(fault.ModeSlow))
	must(t, d.ChangePolicy(func(p *fault.Policy) {
		p.FailAfter, p.Delay, p.FailRanges = 2, time.Millisecond, []fault.Range{{First: 3, Count: 4}}
	}))
	must(t, d.guestFlush(ctx))
	cut(t, d, Cut{Off: true})
	i := dumped(t, seal(t, d))
	d.ClearModes()
	for range 2 {
		copied := open(t, Config{From: i})
		copied.Arm(i.State())
		if m := copied.ActiveModes(); len(m) != 1 || m[0] != fault.ModeSlow {
			t.Error(m)
		}
		if p := copied.Policy(); p.FailAfter != 2 || p.Delay != time.Millisecond || len(p.FailRanges) != 1 {
			t.Errorf("%+v", p)
		}
		copied.ClearModes()
		if err := copied.guestWrite(ctx, block('x', 1), 0, false); err != errPowerCut {
			t.Error(err)
		}
		if err := copied.guestFlush(ctx); err == nil { // number three
			t.Error("the count began anew")
		}
	}
}

// TestImageTellsWritesApart: a power cut of a copy keeps what one of the disk does.
func TestImageTellsWritesApart(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(20) {
		d := open(t, Config{Size: 64 * SectorSize})
		write := func(n int) {
			for i := range n {
				must(t, d.guestWrite(ctx, block(byte(100*n+i), 4), int64(i*3%50)*SectorSize, i%7 == 6))
			}
		}
		write(20)
		first := open(t, Config{From: seal(t, d)})
		write(30)
		second := open(t, Config{From: seal(t, d)})
		third := open(t, Config{From: seal(t, second)})
		c := Cut{Keep: KeepRandom, Seed: seed, Torn: seed%2 == 0}
		r := cut(t, d, c)
		for _, o := range []*Disk{second, third} {
			if got := cut(t, o, c); got != r || !bytes.Equal(everything(t, o, true), everything(t, d, true)) {
				t.Errorf("seed %d: %+v, want %+v", seed, got, r)
			}
		}
		if got := cut(t, first, Cut{Keep: KeepAll}); got.Unflushed != 18 || got.Kept != 18 {
			t.Errorf("%+v", got)
		}
	}
}

// TestSealCostsNothing: a chain of copies refers to what it needs only.
func TestSealCostsNothing(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 1 << 40})
	must(t, d.guestWrite(ctx, block('a', 1), 0, true))
	must(t, d.guestWrite(ctx, block('z', 1), 1<<40-SectorSize, true))
	for k := range 300 {
		image, err := d.Seal()
		must(t, err)
		next, err := Open(Config{From: image})
		must(t, err)
		must(t, image.Release())
		must(t, d.Close())
		d = next
		must(t, d.guestWrite(ctx, block(byte(k), 1), SectorSize, true))
		if n := len(d.medium.(*stack).over.files); n > 40 {
			t.Fatalf("%d files after %d copies", n, k)
		}
	}
	defer d.Close()
	if sector(t, d, 0, false) != 'a' || sector(t, d, 1<<31-1, false) != 'z' || sector(t, d, 1, false) != 299%256 {
		t.Error("the contents differ")
	}
}

// FuzzLoadImage loads images from hostile descriptions, and compares those that are
// accepted with what they say of themselves.
func FuzzLoadImage(f *testing.F) {
	d, err := Open(Config{Size: 3000 * SectorSize})
	if err != nil {
		f.Fatal(err)
	}
	ctx := context.Background()
	_ = d.guestWrite(ctx, block('x', 5), 2046*SectorSize, true)
	_ = d.guestWrite(ctx, block('y', 5), 10*SectorSize, false)
	_ = d.guestZero(ctx, 2100*SectorSize, 100*SectorSize, false)
	i, err := d.Seal()
	if err != nil {
		f.Fatal(err)
	}
	dump, err := i.Dump(func([]byte) error { return nil })
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(dump)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, dump.Map)
	f.Add(text, dump.Map[1:])
	f.Add([]byte(`{"size":512,"state":{"policy":{"fail_ranges":[{"first":9223372036854775807,"count":1}]}}}`), []byte{})
	f.Fuzz(func(t *testing.T, text, sectors []byte) {
		var d Dump
		if json.Unmarshal(text, &d) != nil {
			return
		}
		d.Map = sectors
		if len(sectors) > 16*MapEntry {
			return // for speed
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "chunks"))
		must(t, err)
		defer file.Close()
		must(t, file.Truncate(int64(len(sectors)/MapEntry)*ChunkSize))
		i, err := LoadImage(&d, file, 0, nil)
		if err != nil {
			return
		}
		// The map that the image itself makes is the same, without empty chunks.
		var want []byte
		for at := 0; at < len(sectors); at += MapEntry {
			if entry := sectors[at : at+MapEntry]; len(bytes.Trim(entry[8:], "\x00")) > 0 {
				want = append(want, entry...)
			}
		}
		changes, err := i.DumpChanges(func([]byte) error { return nil })
		must(t, err)
		if changes.Size != d.Size || !bytes.Equal(changes.Map, want) {
			t.Errorf("map %x, want %x", changes.Map, want)
		}
		if !reflect.DeepEqual(i.State(), d.State) {
			t.Errorf("state %+v, want %+v", i.State(), d.State)
		}
		again, err := Open(Config{From: i})
		must(t, err)
		if _, err := again.ReadSectors(ctx, 0, 1, true); err != nil {
			t.Error(err)
		}
		must(t, again.Close())
		must(t, i.Release())
	})
}
