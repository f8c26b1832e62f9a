package disk

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/blockdev"
	"provium/internal/blockdev/fault"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// savedAt writes a snapshot with nothing but disks, and returns its path.
func savedAt(t *testing.T, env *Env, disks Sealed, form Form) string {
	t.Helper()
	path := filepath.Join(env.TempDir, fmt.Sprintf("%d.snap", env.NextSocket()))
	w, err := snapshot.Create(path, snapshot.PageSize)
	must(t, err)
	must(t, disks.Save(w, form))
	_, err = w.Commit(&snapshot.Manifest{})
	must(t, err)
	return path
}

// keptDisks has the disks of one token.
type keptDisks struct {
	token string
	disks Sealed
}

func (k *keptDisks) UseDisks(token string, use func(Sealed)) bool {
	if k == nil || token != k.token {
		return false
	}
	use(k.disks)
	return true
}

func openSnapshot(t *testing.T, path string) *snapshot.Reader {
	t.Helper()
	r, err := snapshot.Open(path)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// restore makes the disks of a snapshot those of a shelf. It returns the description
// of their machine.
func restore(t *testing.T, s *Shelf, path string, kept Kept) *qemu.Config {
	t.Helper()
	r, err := snapshot.Open(path)
	must(t, err)
	defer r.Close()
	plan, err := Load(r, kept)
	must(t, err)
	defer plan.Release()
	cfg := &qemu.Config{Disks: plan.Devices(), Restore: &qemu.Restore{}}
	drives, err := s.env.OpenDrives(plan, s.env.TempDir)
	must(t, err)
	drives.Connect(cfg)
	cfg.Restore.Loaded()
	must(t, s.Take(drives, nil))
	return cfg
}

func endedContext(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestSaveRestore takes disks through a snapshot, in the file and beside it.
func TestSaveRestore(t *testing.T) {
	for _, form := range []Form{{}, {Token: "secret"}} {
		t.Run("token "+form.Token, func(t *testing.T) { testSaveRestore(t, form) })
	}
}

func testSaveRestore(t *testing.T, form Form) {
	env, warned := testEnv(t)
	s, other := newShelf(t, env, "v"), newShelf(t, env, "w")
	specs := []Spec{{ID: "a", Scratch: mib}, {ID: "b", Scratch: mib, ReadOnly: true}}
	must(t, s.Declare(t.Context(), specs))
	d := s.All()[0]
	c, devices := plugIn(t, s)
	clientWrite(t, c, "flushed")
	must(t, c.Flush())
	clientWrite(t, c, "pending")
	_, err := d.AddRule(failFlushes, true)
	must(t, err)
	sealed, err := s.Seal()
	must(t, err)
	defer sealed.Close()
	for i, device := range sealed.Devices() {
		if device.Slot != i+1 || device.Serial != specs[i].ID || device.ReadOnly != specs[i].ReadOnly ||
			device.Socket != "" {
			t.Errorf("%+v", device)
		}
	}
	path := savedAt(t, env, sealed, form)
	kept := &keptDisks{form.Token, sealed}
	clientWrite(t, c, "later")
	must(t, d.ClearFaults())

	// In the same VM the handle stays valid, and a disk that was attached since goes.
	extra := add(t, s, Spec{ID: "extra", Scratch: mib})
	cfg := restore(t, s, path, kept)
	if got, err := s.Find("a"); got != d || err != nil || !extra.IsDetached() || len(s.All()) != 2 {
		t.Errorf("%v %v, %d disks", got, err, len(s.All()))
	}
	got, was := cfg.Disks[0], devices[0]
	if got.Slot != was.Slot || got.Serial != was.Serial || got.Socket == was.Socket {
		t.Errorf("%+v, was %+v", got, was)
	}
	// In another VM there are other disks with the same contents.
	restore(t, other, path, kept)
	if got, err := other.Find("a"); got == d || err != nil || got.Owner().Name() != "w" {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []*Shelf{s, other} {
		a := s.All()[0]
		if read(t, a, false) != "flushed" || read(t, a, true) != "pending" || a.Slot() != 1 {
			t.Errorf("%q, pending %q, in slot %d", read(t, a, false), read(t, a, true), a.Slot())
		}
		if rules, err := a.Rules(); err != nil || len(rules) != 1 || rules[0].Op != fault.Flush {
			t.Errorf("%+v %v", rules, err)
		}
		wantError(t, s.All()[1].WriteSectors(t.Context(), 0, sector("x")), "disk is read-only")
		// They count as declared.
		must(t, s.Declare(t.Context(), specs))
		if len(s.All()) != 2 {
			t.Errorf("%d disks", len(s.All()))
		}
		must(t, a.ClearFaults())
		must(t, a.WriteSectors(t.Context(), 0, sector(a.Owner().Name())))
	}
	if got := read(t, d, false); got != "v" {
		t.Errorf("%q: the copies are not apart", got)
	}
	// Errors of a disk are reported in the name of the VM that has it.
	other.All()[0].warn(fmt.Errorf("no space"))
	if got := warned.list(); len(got) != 1 || got[0] != "vm `w` disk `a`: no space" {
		t.Errorf("%q", got)
	}
}

// TestRestoreErrors loads disks that are not there.
func TestRestoreErrors(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	none, err := s.Seal()
	must(t, err)
	r := openSnapshot(t, savedAt(t, env, none, Form{}))
	if plan, err := Load(r, nil); plan != nil || err != nil {
		t.Errorf("%v %v without disks", plan, err)
	}
	must(t, s.Apply(r))
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	_, err = s.Devices(env.TempDir)
	must(t, err)
	sealed, err := s.Seal()
	must(t, err)
	defer sealed.Close()
	r = openSnapshot(t, savedAt(t, env, sealed, Form{Token: "x"}))
	_, err = Load(r, &keptDisks{"y", sealed})
	wantError(t, err, "were in the run that took it, or were deleted")
	_, err = Load(r, &keptDisks{"x", append(sealed[:1:1], sealed...)})
	wantError(t, err, "were in the run that took it, or were deleted")
	wantError(t, s.Apply(r), "is damaged: its disks are no others' changes")
	// Disks without changes are skipped.
	r = openSnapshot(t, savedAt(t, env, sealed, Form{Changes: true}))
	if _, ok := r.Manifest().Sections[sectionDisks]; ok {
		t.Error("a section without changes")
	}
	must(t, d.WriteSectors(t.Context(), 0, sector("x")))
	changed, err := s.Seal()
	must(t, err)
	defer changed.Close()
	path := savedAt(t, env, changed, Form{Changes: true})
	_, err = Load(openSnapshot(t, path), nil)
	wantError(t, err, "is one of the boot cache")
	plan, err := Load(openSnapshot(t, savedAt(t, env, changed, Form{})), nil)
	must(t, err)
	defer plan.Release()
	_, err = env.OpenDrives(plan, filepath.Join(env.TempDir, "none"))
	wantError(t, err, "disk `a`: disk socket")
	must(t, s.Close())
	_, err = s.Seal()
	must(t, err)
	s.list = []*Disk{d}
	_, err = s.Seal()
	wantError(t, err, "disk `a`")
	s.list = nil
}

// TestDrives stops a machine that is restored ahead of need, and lets it go on.
func TestDrives(t *testing.T) {
	env, warned := testEnv(t)
	s := newShelf(t, env, "v")
	add(t, s, Spec{ID: "a", Scratch: mib})
	_, err := s.Devices(env.TempDir)
	must(t, err)
	sealed, err := s.Seal()
	must(t, err)
	defer sealed.Close()
	plan, err := Load(openSnapshot(t, savedAt(t, env, sealed, Form{})), nil)
	must(t, err)
	drives, err := env.OpenDrives(plan, env.TempDir)
	must(t, err)
	plan.Release()
	cfg := &qemu.Config{Disks: plan.Devices(), Restore: &qemu.Restore{}}
	drives.Connect(cfg)
	cfg.Restore.Loaded()
	c := connect(t, cfg.Disks[0])
	clientWrite(t, c, "x")
	drives.HoldFlushes()
	must(t, c.Flush())
	drives.IgnoreFlushes()
	must(t, c.Flush())
	must(t, drives.ObeyFlushes())
	drives[0].warn.call(fmt.Errorf("nobody has it"))
	if len(warned.list()) > 0 {
		t.Errorf("%q", warned.list())
	}
	must(t, drives.Close())
	if _, err := c.ReadAt(make([]byte, SectorSize), 0); err == nil {
		t.Error("a closed drive works")
	}
}

// TestApplyRevert writes the changes of one guest to the disks of another, as a boot
// from the cache does, and takes them back.
func TestApplyRevert(t *testing.T) {
	env, _ := testEnv(t)
	image := imageFile(t, env, "image", "template")
	specs := []Spec{{ID: "a", Template: image}, {ID: "b", Scratch: mib}}
	prepared := func(name string) (*Shelf, *Disk) {
		s := newShelf(t, env, name)
		must(t, s.Declare(t.Context(), specs))
		_, err := s.Devices(env.TempDir)
		must(t, err)
		return s, s.All()[0]
	}
	first, written := prepared("v")
	must(t, written.WriteSectors(t.Context(), 0, sector("changed")))
	sealed, err := first.Seal()
	must(t, err)
	defer sealed.Close()
	r := openSnapshot(t, savedAt(t, env, sealed, Form{Changes: true}))

	second, d := prepared("w")
	must(t, second.Apply(r))
	if got := read(t, d, false); got != "changed" {
		t.Errorf("%q", got)
	}
	c := connect(t, d.Plugged())
	devices, err := second.Revert(env.TempDir)
	must(t, err)
	if got := read(t, d, false); got != "template" || len(devices) != 2 {
		t.Errorf("%q after a revert, %+v", got, devices)
	}
	if _, err := c.ReadAt(make([]byte, SectorSize), 0); err == nil {
		t.Error("the machine before still has the disk")
	}
	// They fit only the same disks in the same slots.
	_, err = d.Device(env.TempDir, 5)
	must(t, err)
	wantError(t, second.Apply(r), "is damaged: disk in slot 1")
	_, err = d.Device(env.TempDir, 1)
	must(t, err)
	must(t, second.All()[1].Close(false))
	wantError(t, second.Apply(r), "disk is closed")
	_, err = second.Revert(env.TempDir)
	wantError(t, err, "disk `b`")
}

func TestDecodeDisks(t *testing.T) {
	disk := func(id string, slot int, chunks int) entry {
		return entry{Spec: Spec{ID: id}, Slot: slot, Contents: &blockdev.Dump{Size: mib, Medium: chunks}}
	}
	decode := func(all section, chunks int) error {
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeDisks(text, make([]byte, chunks*blockdev.MapEntry), int64(chunks)*blockdev.ChunkSize)
		return err
	}
	long := strings.Repeat("a", SerialSize)
	if err := decode(section{Disks: []entry{disk("a", 1, 1), disk("b", 3, 2)}}, 3); err != nil {
		t.Error(err)
	}
	for want, all := range map[string]section{
		"slot 0":                     {Disks: []entry{disk("a", 0, 0)}},
		"slot 32":                    {Disks: []entry{disk("a", 32, 0)}},
		"slot 1":                     {Disks: []entry{disk("a", 1, 0), disk("b", 1, 0)}},
		"id `../x` is not valid":     {Disks: []entry{disk("../x", 1, 0)}},
		"two are called":             {Disks: []entry{disk(long+"a", 1, 0), disk(long, 2, 0)}},
		"contents of `a` are miss":   {Disks: []entry{disk("a", 1, 4)}},
		"contents of `b` are miss":   {Disks: []entry{disk("a", 1, 3), disk("b", 2, 1)}},
		"contents of `n` are miss":   {Disks: []entry{{Spec: Spec{ID: "n"}, Slot: 1}}},
		"contents have another size": {Disks: []entry{disk("a", 1, 1)}},
		"at most 31 are possible":    {Disks: make([]entry, 32)},
	} {
		if err := decode(all, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzDecodeDisks(f *testing.F) {
	const disk = `{"disks":[{"spec":{"id":"a"},"slot":1`
	for text, sectors := range map[string]int{
		disk + `,"contents":{"size":512,"medium":1,"pending":0,"state":{}}}]}`: blockdev.MapEntry,
		disk + `}],"token":"x"}`:                                            0,
		disk + `,"contents":{"size":512}}],"changes":true}`:                 0,
		disk + `,"contents":{"medium":-1,"pending":9223372036854775807}}]}`: 1,
	} {
		f.Add([]byte(text), make([]byte, sectors))
	}
	f.Fuzz(func(t *testing.T, text, sectors []byte) {
		length := int64(len(sectors)/blockdev.MapEntry) * blockdev.ChunkSize
		all, err := decodeDisks(text, sectors, length)
		if err != nil {
			return
		}
		for _, d := range all.Disks {
			if all.Token == "" && len(d.Contents.Map) != (d.Contents.Medium+d.Contents.Pending)*blockdev.MapEntry {
				t.Error("a map of the wrong size")
			}
		}
		encoded, err := json.Marshal(all)
		must(t, err)
		again, err := decodeDisks(encoded, sectors, length)
		must(t, err)
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(encoded) {
			t.Errorf("%s is decoded as %s, %v", encoded, twice, err)
		}
	})
}
