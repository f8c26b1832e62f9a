package blockdev

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/blockdev/fault"
)

func open(t *testing.T, cfg Config) *Disk {
	t.Helper()
	cfg.TempDir = t.TempDir()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func block(c byte, sectors int) []byte { return bytes.Repeat([]byte{c}, sectors*SectorSize) }

// image makes a file of n bytes that are all c.
func image(t *testing.T, c byte, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, bytes.Repeat([]byte{c}, n), 0o600))
	return path
}

func sector(t *testing.T, d *Disk, n int64, pending bool) byte {
	t.Helper()
	p, err := d.ReadSectors(context.Background(), n, 1, pending)
	must(t, err)
	if !bytes.Equal(p, block(p[0], 1)) {
		t.Fatalf("sector %d is mixed: %q ... %q", n, p[0], p[511])
	}
	return p[0]
}

func TestWritesCountOnceFlushed(t *testing.T) {
	ctx := context.Background()
	path := image(t, 'i', 64*SectorSize)
	for name, cfg := range map[string]Config{"image": {Image: path},
		"template": {Template: image(t, 'i', 64*SectorSize)}} {
		t.Run(name, func(t *testing.T) {
			d := open(t, cfg)
			expect := func(n int64, committed, seen byte) {
				t.Helper()
				if a, b := sector(t, d, n, false), sector(t, d, n, true); a != committed || b != seen {
					t.Errorf("sector %d: %q on the medium, %q for the guest; want %q, %q", n, a, b, committed, seen)
				}
			}
			must(t, d.guestWrite(ctx, block('a', 4), 8*SectorSize, false))
			must(t, d.guestZero(ctx, 9*SectorSize, SectorSize, false))
			expect(8, 'i', 'a')
			expect(9, 'i', 0)
			expect(12, 'i', 'i')
			must(t, d.guestFlush(ctx))
			expect(8, 'a', 'a')
			expect(9, 0, 0)
			must(t, d.guestWrite(ctx, block('b', 2), 8*SectorSize, false))
			must(t, d.guestWrite(ctx, block('f', 1), 9*SectorSize, true))
			expect(8, 'a', 'b')
			expect(9, 'f', 'f')
			cut(t, d, Cut{})
			expect(8, 'a', 'a')
			must(t, d.guestWrite(ctx, block('c', 1), 8*SectorSize, false))
			expect(8, 'a', 'c')
			cut(t, d, Cut{Off: true})
			for name, do := range map[string]func() error{
				"write": func() error { return d.guestWrite(ctx, block('c', 1), 8*SectorSize, false) },
				"zero":  func() error { return d.guestZero(ctx, 8*SectorSize, SectorSize, true) },
				"flush": func() error { return d.guestFlush(ctx) },
				"read":  func() error { return d.guestRead(ctx, make([]byte, SectorSize), 8*SectorSize) },
				"extents": func() error {
					x, _, err := d.guestExtents(ctx, 8*SectorSize, SectorSize)
					x.Release()
					return err
				},
				"read sectors":  func() error { _, err := d.ReadSectors(ctx, 8, 1, false); return err },
				"write sectors": func() error { return d.WriteSectors(ctx, 8, []byte("x")) },
				"second cut":    func() error { cut(t, d, Cut{}); return d.guestFlush(ctx) },
			} {
				if err := do(); err == nil || err.Error() != "EIO (power_cut)" {
					t.Errorf("%s of a disk without power: %v", name, err)
				}
			}
			d.PowerOn()
			expect(8, 'a', 'a')
			must(t, d.guestWrite(ctx, block('d', 1), 8*SectorSize, false))
			must(t, d.guestFlush(ctx))
			expect(8, 'd', 'd')
		})
	}
	p, err := os.ReadFile(path)
	if err != nil || p[8*SectorSize] != 'd' || p[9*SectorSize] != 'f' || len(p) != 64*SectorSize {
		t.Errorf("the image was not written: %v", err)
	}
}

func TestTemplateStays(t *testing.T) {
	path := image(t, 't', 10*SectorSize-100)
	d := open(t, Config{Template: path})
	if d.Size() != 10*SectorSize {
		t.Errorf("%d bytes", d.Size())
	}
	must(t, d.WriteSectors(context.Background(), 9, block('x', 1)))
	must(t, d.guestWrite(context.Background(), block('y', 9), 0, true))
	if sector(t, d, 9, false) != 'x' || sector(t, d, 0, false) != 'y' {
		t.Error("writes were lost")
	}
	if p, err := os.ReadFile(path); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{'t'}, len(p))) {
		t.Errorf("the template was changed: %v", err)
	}
}

func TestSectorWritesKeepTheRest(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 1 << 20})
	must(t, d.guestWrite(ctx, block('m', 4), 0, true))
	must(t, d.guestWrite(ctx, block('p', 4), 0, false))
	must(t, d.WriteSectors(ctx, 1, bytes.Repeat([]byte{'w'}, SectorSize+10)))
	want := func(pending bool, rest byte) {
		t.Helper()
		p, err := d.ReadSectors(ctx, 0, 4, pending)
		must(t, err)
		full := append(block(rest, 1), bytes.Repeat([]byte{'w'}, SectorSize+10)...)
		full = append(full, bytes.Repeat([]byte{rest}, 4*SectorSize-len(full))...)
		if !bytes.Equal(p, full) {
			t.Errorf("pending %v: %q", pending, p)
		}
	}
	want(false, 'm')
	want(true, 'p')
}

// TestStopFlushIsForgotten plays what an emulator sends when it stops.
func TestStopFlushIsForgotten(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 1 << 20})
	w := func(c byte) { t.Helper(); must(t, d.guestWrite(ctx, block(c, 1), 0, false)) }
	w('a')
	d.HoldFlushes()
	must(t, d.guestFlush(ctx)) // the guest's: a write follows
	w('b')
	if c := sector(t, d, 0, false); c != 'a' {
		t.Errorf("the guest's flush was forgotten: %q", c)
	}
	must(t, d.guestFlush(ctx)) // the guest's: another flush follows
	must(t, d.guestFlush(ctx)) // the emulator's own
	if c := sector(t, d, 0, false); c != 'b' {
		t.Errorf("the guest's second flush was forgotten: %q", c)
	}
	d.IgnoreFlushes()
	must(t, d.Inject(fault.ModeWriteEIO))
	must(t, d.guestFlush(ctx))
	d.ClearModes()
	must(t, d.ObeyFlushes())
	w('c')
	d.HoldFlushes()
	must(t, d.guestFlush(ctx)) // the emulator's own
	d.IgnoreFlushes()
	must(t, d.guestFlush(ctx))
	if c := sector(t, d, 0, false); c != 'b' {
		t.Errorf("stopping flushed %q", c)
	}
	must(t, d.ObeyFlushes())
	must(t, d.guestFlush(ctx))
	if c := sector(t, d, 0, false); c != 'c' {
		t.Errorf("a flush after going on left %q", c)
	}
}

func TestFaults(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 1 << 20})
	try := func() string {
		var out []string
		for _, err := range []error{d.guestRead(ctx, make([]byte, SectorSize), 5*SectorSize),
			d.guestWrite(ctx, block('x', 1), 5*SectorSize, false), d.guestFlush(ctx)} {
			var f *fault.Error
			switch {
			case err == nil:
				out = append(out, "ok")
			case errors.As(err, &f):
				out = append(out, f.By)
			default:
				out = append(out, err.Error())
			}
		}
		return strings.Join(out, " ")
	}
	rule := func(change func(*fault.Policy)) func() error { return func() error { return d.ChangePolicy(change) } }
	mode := func(m string) func() error { return func() error { return d.Inject(m) } }
	for _, tc := range []struct {
		set  func() error
		want string
	}{
		{mode(fault.ModeReadEIO), "fault_inject ok ok"},
		{mode(fault.ModeWriteEIO), "ok fault_inject fault_inject"},
		{mode(fault.ModeSlow), "ok ok ok"},
		{rule(func(p *fault.Policy) { p.FailReads = true }), "fail_reads ok ok"},
		{rule(func(p *fault.Policy) { p.FailWrites = true }), "ok fail_writes fail_writes"},
		{rule(func(p *fault.Policy) { p.FailAfter = 2 }), "ok ok fail_after"},
		{rule(func(p *fault.Policy) { p.FailRanges = []fault.Range{{First: 5, Count: 1}} }),
			"fail_range fail_range ok"},
		{rule(func(p *fault.Policy) { p.FailRanges = []fault.Range{{First: 0, Count: 5}, {First: 6, Count: 10}} }),
			"ok ok ok"},
		{rule(func(p *fault.Policy) { p.Delay = time.Millisecond }), "ok ok ok"},
	} {
		must(t, tc.set())
		if got := try(); got != tc.want {
			t.Errorf("%v %+v: %s, want %s", d.ActiveModes(), d.Policy(), got, tc.want)
		}
		if _, err := d.ReadSectors(ctx, 5, 1, false); (err == nil) != strings.HasPrefix(tc.want, "ok ok ok") &&
			strings.HasPrefix(tc.want, "f") {
			t.Errorf("%v: sector op: %v", d.ActiveModes(), err)
		}
		d.ClearModes()
		must(t, d.ChangePolicy(func(p *fault.Policy) { *p = fault.Policy{} }))
	}
	if err := d.Inject("boom"); err == nil || err.Error() != "unknown mode `boom` (valid: eio_read, eio_write, slow)" {
		t.Error(err)
	}
	for _, bad := range []func(*fault.Policy){
		func(p *fault.Policy) { p.FailAfter = -3 }, func(p *fault.Policy) {
			p.FailRanges = []fault.Range{{First: 0, Count: 0}}
		},
		func(p *fault.Policy) { p.FailRanges = []fault.Range{{First: 2047, Count: 2}} },
		func(p *fault.Policy) { p.Delay = -1 },
	} {
		if d.ChangePolicy(bad) == nil {
			t.Error("a bad rule was accepted")
		}
	}
}

// TestFaultDuringARequest sets a fault while a request waits.
func TestFaultDuringARequest(t *testing.T) {
	d := open(t, Config{Size: 1 << 20})
	must(t, d.ChangePolicy(func(p *fault.Policy) { p.Delay = time.Hour }))
	ctx, cancel := context.WithCancel(context.Background())
	waited := make(chan error)
	go func() { waited <- d.guestFlush(ctx) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t, d.ChangePolicy(func(p *fault.Policy) { p.Delay = 0 }))
	err := d.faults.Run(context.Background(), fault.Request{Op: fault.Read, N: SectorSize},
		func(fault.Deed) error { return d.Inject(fault.ModeReadEIO) })
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	busy := image(t, 'b', SectorSize)
	open(t, Config{Image: busy})
	shared := image(t, 's', SectorSize)
	open(t, Config{Template: shared})
	open(t, Config{Template: shared})
	open(t, Config{Image: shared, ReadOnly: true})
	for want, cfg := range map[string]Config{
		"no such file":                    {Image: "/no/such/image"},
		"is a directory":                  {Image: t.TempDir()},
		"is no regular file":              {Template: "/dev/null"},
		"is empty":                        {Image: image(t, 0, 0)},
		"in use by another disk":          {Image: busy},
		"0 is not a positive multiple":    {},
		"513 is not a positive multiple":  {Size: 513},
		"-512 is not a positive multiple": {Size: -512},
	} {
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	if _, err := Open(Config{Image: shared}); err == nil {
		t.Error("a template in use was opened for writing")
	}
}

func TestRanges(t *testing.T) {
	ctx := context.Background()
	d := open(t, Config{Size: 4 * SectorSize})
	for _, r := range []fault.Range{{First: -1, Count: 1}, {First: 0, Count: 0}, {First: 0, Count: -1},
		{First: 4, Count: 1}, {First: 3, Count: 2}, {First: 1 << 62, Count: 1 << 62}} {
		if _, err := d.ReadSectors(ctx, r.First, r.Count, false); err == nil {
			t.Errorf("%+v was read", r)
		}
	}
	if err := d.WriteSectors(ctx, 3, make([]byte, SectorSize+1)); err == nil ||
		!strings.Contains(err.Error(), "4 sectors (2048 bytes)") {
		t.Error(err)
	}
	if err := d.WriteSectors(ctx, 0, nil); err == nil {
		t.Error("nothing was written")
	}
	ro := open(t, Config{Image: image(t, 'r', SectorSize), ReadOnly: true})
	if err := ro.WriteSectors(ctx, 0, []byte("x")); !errors.Is(err, errReadOnly) {
		t.Error(err)
	}
}

func TestShrunkImage(t *testing.T) {
	path := image(t, 'i', 8*SectorSize)
	var told error
	d := open(t, Config{Image: path, OnError: func(err error) { told = err }})
	must(t, os.Truncate(path, 2*SectorSize))
	if err := d.guestRead(context.Background(), make([]byte, SectorSize), 6*SectorSize); err == nil || told == nil ||
		!strings.Contains(told.Error(), "shrunk") {
		t.Errorf("%v, %v", err, told)
	}
	if d.FileSize() != 2*SectorSize {
		t.Error(d.FileSize())
	}
}

// TestRandomRequests compares with two arrays: the medium and what the guest sees.
func TestRandomRequests(t *testing.T) {
	const sectors = chunkSectors + 300
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, cfg := range []Config{{Size: sectors * SectorSize}, {Template: image(t, 0, sectors*SectorSize-5)}} {
		d := open(t, cfg)
		medium, seen := unwatched(t, sectors*SectorSize), unwatched(t, sectors*SectorSize)
		for i := range 80 {
			first := rnd.Int64N(sectors)
			n := 1 + rnd.Int64N(min(64, sectors-first))
			lo, hi := first*SectorSize, (first+n)*SectorSize
			switch rnd.IntN(8) {
			case 0, 1, 2:
				must(t, d.guestWrite(ctx, block(byte(i), int(n)), lo, false))
				copy(seen[lo:hi], block(byte(i), int(n)))
			case 3:
				must(t, d.guestWrite(ctx, block(byte(i), int(n)), lo, true))
				copy(seen[lo:hi], block(byte(i), int(n)))
				copy(medium[lo:hi], seen[lo:hi])
			case 4:
				must(t, d.guestZero(ctx, lo, hi-lo, false))
				clear(seen[lo:hi])
			case 5:
				must(t, d.guestFlush(ctx))
				copy(medium, seen)
			case 6:
				p := bytes.Repeat([]byte{byte(i)}, int(hi-lo-rnd.Int64N(SectorSize)))
				must(t, d.WriteSectors(ctx, first, p))
				copy(seen[lo:], p)
				copy(medium[lo:], p)
			case 7:
				cut(t, d, Cut{})
				d.PowerOn()
				copy(seen, medium)
			}
			for _, v := range []struct {
				want    []byte
				pending bool
			}{{medium, false}, {seen, true}} {
				got, err := d.ReadSectors(ctx, 0, sectors, v.pending)
				must(t, err)
				if !bytes.Equal(got, v.want) {
					t.Fatalf("step %d, pending %v: the disk differs", i, v.pending)
				}
			}
		}
	}
}
