package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/blockdev/crash"
)

// recorded makes a recording of a little of everything, and saves it.
func recorded(t testing.TB, path string) *Recording {
	ctx := context.Background()
	d, err := Open(Config{Size: 3<<20 + 512, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	var rec *Recording
	for _, step := range []func() error{
		func() error { return d.WriteSectors(ctx, 5000, block('B', 20)) },
		func() error { return d.guestWrite(ctx, block('P', 4), 8*SectorSize, false) },
		func() (err error) { rec, err = d.Record(1 << 20); return err },
		func() error { return d.guestWrite(ctx, block('a', 8), 4*SectorSize, false) },
		func() error { return d.guestFlush(ctx) },
		func() error { return rec.Mark("one") },
		func() error { return d.guestZero(ctx, 5000*SectorSize, 10*SectorSize, false) },
		func() error { return d.guestWrite(ctx, block('f', 1), 6*SectorSize, true) },
		func() error { return d.guestWrite(ctx, block('z', 3), 5*SectorSize, false) },
		func() error { d.StopRecording(); return rec.Save(path) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { rec.Close() })
	return rec
}

func TestSavedRecording(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rec")
	rec := recorded(t, path)
	again, err := LoadRecording(path)
	must(t, err)
	if !slices.Equal(rec.Log(), again.Log()) || again.Bytes() != rec.Bytes() {
		t.Fatalf("%+v\n%+v", rec.Log(), again.Log())
	}
	a, err := rec.States()
	must(t, err)
	b, err := again.States()
	must(t, err)
	plan := crash.NewPlan(rec.Log(), crash.Options{Reorder: true, Torn: true})
	for n := 1; n <= plan.Len(); n++ {
		pt := plan.Point(n)
		p, q := make([]byte, 3<<20+512), make([]byte, 3<<20+512)
		must(t, a.Content(pt.State).readAt(p, 0))
		must(t, b.Content(pt.State).readAt(q, 0))
		if !bytes.Equal(p, q) {
			t.Fatalf("point %d has another content", n)
		}
	}
	// What was loaded can be saved.
	must(t, again.Save(path+"2"))
	must(t, again.Close())
	first, err := os.ReadFile(path)
	must(t, err)
	second, err := os.ReadFile(path + "2")
	must(t, err)
	if !bytes.Equal(first, second) {
		t.Error("it is saved otherwise the second time")
	}
	// Any byte matters.
	for _, at := range []int{0, 9, recordHead + 100, len(first) - 2000, len(first) - 10} {
		bad := slices.Clone(first)
		bad[at] ^= 0x41
		must(t, os.WriteFile(path, bad, 0o600))
		if r, err := LoadRecording(path); err == nil {
			r.Close()
			t.Errorf("a change at %d of %d was not noticed", at, len(bad))
		} else if !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
	}
	if _, err := LoadRecording(filepath.Join(t.TempDir(), "none")); err == nil ||
		!strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestSaveRefuses(t *testing.T) {
	d := open(t, Config{Size: 1 << 20})
	rec, err := d.Record(10)
	must(t, err)
	if err := rec.Save(filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Error(err)
	}
	must(t, d.guestWrite(context.Background(), block('a', 1), 0, false))
	if err := rec.Save(filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "not complete") {
		t.Error(err)
	}
	d.StopRecording()
	must(t, rec.Close())
}

// FuzzLoadRecording decodes hostile descriptions of recordings. Those that are accepted
// keep within the disk, and are the same after encoding.
func FuzzLoadRecording(f *testing.F) {
	path := filepath.Join(f.TempDir(), "rec")
	recorded(f, path)
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	begin := bytes.Index(text, []byte(`{"dump"`))
	at := int64(begin - 8)
	f.Add(text[begin:])
	f.Add([]byte(`{"dump":{"size":1048576},"entries":[[0,0,8,0,-1],[1],[2],[0,4,8,1,-1]],"labels":["x"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		place := at
		s, log, err := decodeRecording(text, place)
		if err != nil {
			place = recordHead
			s, log, err = decodeRecording(text, place)
		}
		if err != nil {
			return
		}
		encoded, err := json.Marshal(s)
		must(t, err)
		if _, again, err := decodeRecording(encoded, place); err != nil || !slices.Equal(again, log) {
			t.Fatalf("encoded and decoded again: %v, %v, want %v", again, err, log)
		}
		for i, op := range log {
			data := s.Entries[i][4]
			if op.Kind == crash.Write && (op.First < 0 || op.First+op.Count > s.Dump.Size/SectorSize || data+
				op.Count*SectorSize > s.Data && data >= 0) {
				t.Fatalf("%+v", op)
			}
		}
		plan := crash.NewPlan(log, crash.Options{Reorder: true, Torn: true})
		for _, n := range plan.Sample(20, 1) {
			if pt := plan.Point(n); pt.State.At > len(log) {
				t.Fatalf("point %d: cut after %d of %d entries", n, pt.State.At, len(log))
			}
		}
	})
}
