package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"provium/internal/blockdev/fault"
)

func template(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "template")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("t"), int(size)), 0o600))
	return path
}

func isOrigin(t *testing.T, d *Disk) bool {
	t.Helper()
	o, ok, err := d.Origin()
	must(t, err)
	if ok {
		o.Close()
	}
	return ok
}

// TestChanges has what was written to one disk applied to another one of the same
// origin, through a file, and taken back.
func TestChanges(t *testing.T) {
	ctx := context.Background()
	const size = 2*ChunkSize + 5*SectorSize
	path := template(t, size-100)
	for name, cfg := range map[string]Config{"blank": {Size: size}, "template": {Template: path}} {
		a, b := open(t, cfg), open(t, cfg)
		fresh := everything(t, a, true)
		must(t, a.guestWrite(ctx, bytes.Repeat([]byte("m"), 3*SectorSize), ChunkSize-SectorSize, false))
		must(t, a.guestZero(ctx, 10*SectorSize, 2*SectorSize, false))
		must(t, a.guestFlush(ctx))
		must(t, a.guestWrite(ctx, bytes.Repeat([]byte("p"), SectorSize), 0, false))
		must(t, a.guestZero(ctx, ChunkSize, SectorSize, false))
		if isOrigin(t, a) || !isOrigin(t, b) {
			t.Errorf("%s: origins", name)
		}
		image := seal(t, a)
		if !image.Changed() || seal(t, b).Changed() {
			t.Errorf("%s: what was changed", name)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "dump"))
		must(t, err)
		defer f.Close()
		d, err := image.DumpChanges(func(p []byte) error {
			_, err := f.Write(p)
			return err
		})
		must(t, err)
		if d.Medium != 2 || d.Pending != 2 {
			t.Errorf("%s: %d and %d chunks", name, d.Medium, d.Pending)
		}
		text, err := json.Marshal(d)
		must(t, err)
		again := &Dump{Map: d.Map}
		must(t, json.Unmarshal(text, again))
		loaded, err := LoadImage(again, f, 0, nil)
		must(t, err)
		must(t, b.Apply(loaded))
		must(t, loaded.Release())
		for _, pending := range []bool{false, true} {
			if !bytes.Equal(everything(t, a, pending), everything(t, b, pending)) {
				t.Errorf("%s: pending %v: the disks differ", name, pending)
			}
		}
		// They are apart from now on.
		must(t, b.guestWrite(ctx, bytes.Repeat([]byte("b"), SectorSize), 0, true))
		if p, err := a.ReadSectors(ctx, 0, 1, true); err != nil || p[0] != 'p' {
			t.Errorf("%s: %q, %v", name, p[:1], err)
		}
		must(t, b.Apply(nil))
		if !isOrigin(t, b) || !bytes.Equal(everything(t, b, true), fresh) ||
			!bytes.Equal(everything(t, b, false), fresh) {
			t.Errorf("%s: it is not what it was", name)
		}
		if other := open(t, Config{Size: ChunkSize}); other.Apply(image) == nil {
			t.Errorf("%s: applied to a disk of another size", name)
		}
	}
}

// TestOrigin has disks that are what they were made of, and others.
func TestOrigin(t *testing.T) {
	ctx := context.Background()
	path := template(t, 8*SectorSize)
	blank := func() Config { return Config{Size: 1 << 20} }
	nothing := func(*Disk) error { return nil }
	for name, c := range map[string]struct {
		cfg  Config
		do   func(d *Disk) error
		is   bool
		meet bool // a meddling
	}{
		"blank":           {blank(), nothing, true, false},
		"template":        {Config{Template: path}, nothing, true, false},
		"read-only image": {Config{Image: path, ReadOnly: true}, nothing, true, false},
		"image in place":  {Config{Image: template(t, 8*SectorSize)}, nothing, false, false},
		"private copy":    {Config{From: seal(t, open(t, blank()))}, nothing, false, false},
		"guest's write": {blank(), func(d *Disk) error {
			return d.guestWrite(ctx, make([]byte, SectorSize), 0, false)
		}, false, false},
		"discard": {blank(), func(d *Disk) error { return d.guestZero(ctx, 0, SectorSize, false) }, false, false},
		"read":    {blank(), func(d *Disk) error { return d.guestRead(ctx, make([]byte, SectorSize), 0) }, true, false},
		"flush":   {blank(), func(d *Disk) error { return d.guestFlush(ctx) }, true, false},
		"sectors": {blank(), func(d *Disk) error { return d.WriteSectors(ctx, 0, []byte("x")) }, false, true},
		"mode":    {blank(), func(d *Disk) error { return d.Inject(fault.ModeSlow) }, false, true},
		"cleared": {blank(), func(d *Disk) error { d.ClearModes(); return nil }, true, true},
		"policy": {blank(), func(d *Disk) error {
			return d.ChangePolicy(func(p *fault.Policy) { p.FailAfter = 5 })
		}, false, true},
		"rule": {blank(), func(d *Disk) error {
			_, err := d.AddRule(fault.Rule{Effect: fault.Lose, Op: fault.Flush})
			return err
		}, false, true},
		"counter": {blank(), func(d *Disk) error { d.CountRequests(fault.Any, 0); return nil }, false, true},
		"cut": {blank(), func(d *Disk) error {
			_, err := d.PowerCut(Cut{})
			return err
		}, true, true},
		"off": {blank(), func(d *Disk) error {
			_, err := d.PowerCut(Cut{Off: true})
			return err
		}, false, true},
		"off and on": {blank(), func(d *Disk) error {
			_, err := d.PowerCut(Cut{Off: true})
			d.PowerOn()
			return err
		}, true, true},
		"larger": {blank(), func(d *Disk) error { return d.Resize(2 << 20) }, true, true},
		"recording": {blank(), func(d *Disk) error {
			r, err := d.Record(1 << 20)
			if err == nil {
				t.Cleanup(func() { must(t, r.Close()) })
			}
			return err
		}, false, true},
		"shrunk": {Config{Template: template(t, 8*SectorSize)}, func(d *Disk) error {
			return os.Truncate(d.cfg.Template, SectorSize)
		}, false, false},
	} {
		d := open(t, c.cfg)
		must(t, c.do(d))
		if isOrigin(t, d) != c.is || d.Meddlings() > 0 != c.meet {
			t.Errorf("%s: origin %v, %d meddlings", name, !c.is, d.Meddlings())
		}
	}
	o, _, err := open(t, Config{Template: path}).Origin()
	must(t, err)
	defer o.Close()
	p := make([]byte, 3)
	if _, err := o.Base.ReadAt(p, 0); err != nil || string(p) != "ttt" || o.Size != 8*SectorSize {
		t.Errorf("%q, %v, size %d", p, err, o.Size)
	}
	closed, err := Open(blank())
	must(t, err)
	must(t, closed.Close())
	if isOrigin(t, closed) || closed.Apply(nil) == nil {
		t.Error("a closed disk")
	}
	if open(t, Config{Image: template(t, SectorSize)}).Apply(nil) == nil {
		t.Error("an image that is used in place")
	}
}
