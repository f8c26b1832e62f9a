package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"provium/internal/blockdev"
	"provium/internal/jsonerror"
	"provium/internal/qemu"
	"provium/internal/snapshot"
	"provium/internal/userland"
)

// Sections of a snapshot.
const (
	sectionDisks    = "disks"     // JSON; absent without any
	sectionDiskMap  = "disks.map" // which sectors are where in disks.data
	sectionDiskData = "disks.data"
	sectionDiskSums = "disks.sums"
)

// Sealed are the disks of a stopped guest, in order of their slots.
type Sealed []sealed

type sealed struct {
	spec  Spec
	slot  int
	image *blockdev.Image
}

// Plan is the disks that a restored machine will have. It must be released.
type Plan []planned

type planned struct {
	spec  Spec
	slot  int
	image *blockdev.Image
	state blockdev.State
}

// Seal returns the disks of a stopped guest. They must be closed.
func (s *Shelf) Seal() (all Sealed, err error) {
	for _, d := range s.All() {
		image, err := d.contents().Seal()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("disk `%s`: %w", d.id, err), all.Close())
		}
		d.mu.Lock()
		all = append(all, sealed{d.spec, d.slot, image})
		d.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b sealed) int { return a.slot - b.slot })
	return all, nil
}

// Close releases the images.
func (disks Sealed) Close() error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.image.Release())
	}
	return errors.Join(errs...)
}

// section is what a snapshot says about disks.
type section struct {
	Disks []entry `json:"disks"`
	Token string  `json:"token,omitempty"` // see Form
	// Changes says that the contents are only what was written to the disks since
	// they were opened.
	Changes bool `json:"changes,omitempty"`
}

type entry struct {
	Spec     Spec           `json:"spec"`
	Slot     int            `json:"slot"`
	Contents *blockdev.Dump `json:"contents,omitempty"` // nil with a token
}

// Form is how a snapshot contains disks. The zero value is complete in itself.
type Form struct {
	Token   string // not "": the contents stay in this process, under that name
	Changes bool   // only what was written to the disks since they were opened
}

// Save writes the disks to a snapshot. With form.Changes, nothing is written when no
// disk has any.
func (disks Sealed) Save(w *snapshot.Writer, form Form) error {
	wanted := func(d sealed) bool { return !form.Changes || d.image.Changed() }
	if !slices.ContainsFunc(disks, wanted) {
		return nil
	}
	all := section{Token: form.Token, Changes: form.Changes}
	for _, d := range disks {
		all.Disks = append(all.Disks, entry{Spec: d.spec, Slot: d.slot})
	}
	if form.Token == "" {
		if err := disks.saveContents(w, &all); err != nil {
			return err
		}
	}
	text, err := json.Marshal(&all)
	if err != nil {
		return err
	}
	return w.PutSection(sectionDisks, text)
}

// saveContents writes the contents, and describes them in all.
func (disks Sealed) saveContents(w *snapshot.Writer, all *section) error {
	var sectors []byte
	err := w.PutData(sectionDiskData, sectionDiskSums, func(put func([]byte) error) error {
		for i, d := range disks {
			dump := d.image.Dump
			if all.Changes {
				dump = d.image.DumpChanges
			}
			contents, err := dump(put)
			if err != nil {
				return fmt.Errorf("disk `%s`: %w", d.spec.ID, err)
			}
			all.Disks[i].Contents = contents
			sectors = append(sectors, contents.Map...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.PutSection(sectionDiskMap, sectors)
}

// decodeDisks verifies what Save has written, or another program. sectors is
// sectionDiskMap, dataLength the length of sectionDiskData.
func decodeDisks(text, sectors []byte, dataLength int64) (*section, error) {
	all := &section{}
	if err := json.Unmarshal(text, all); err != nil {
		return nil, fmt.Errorf("disks: %w", jsonerror.Plain(err))
	}
	if len(all.Disks) > qemu.DiskSlots {
		return nil, fmt.Errorf("disks: %d, at most %d are possible", len(all.Disks), qemu.DiskSlots)
	}
	for i, d := range all.Disks {
		if err := d.check(all.Disks[:i]); err != nil {
			return nil, fmt.Errorf("disks: %w", jsonerror.Plain(err))
		}
		if all.Token != "" {
			continue
		}
		c := d.Contents
		if c == nil || c.Medium < 0 || c.Pending < 0 || c.Medium > len(sectors) || c.Pending > len(sectors) ||
			(c.Medium+c.Pending)*blockdev.MapEntry > len(sectors) {
			return nil, fmt.Errorf("disks: the contents of `%s` are missing", d.Spec.ID)
		}
		n := (c.Medium + c.Pending) * blockdev.MapEntry
		c.Map, sectors = sectors[:n:n], sectors[n:]
		dataLength -= int64(c.Medium+c.Pending) * blockdev.ChunkSize
	}
	if all.Token == "" && (len(sectors) > 0 || dataLength != 0) {
		return nil, errors.New("disks: their contents have another size")
	}
	return all, nil
}

// check returns an error if a disk cannot come after others in a snapshot.
func (d *entry) check(before []entry) error {
	n := len(before)
	if d.Slot < 1 || d.Slot > qemu.DiskSlots || n > 0 && d.Slot <= before[n-1].Slot {
		return fmt.Errorf("slot %d", d.Slot)
	}
	if err := CheckID(d.Spec.ID); err != nil {
		return err
	}
	if err := d.Spec.DiskModel.Check(); err != nil {
		return err
	}
	for _, o := range before {
		if Serial(o.Spec.ID) == Serial(d.Spec.ID) {
			return fmt.Errorf("two are called `%s`", Serial(d.Spec.ID))
		}
	}
	return nil
}

// readDisks reads what a snapshot says about its disks, nil if it has none.
func readDisks(r *snapshot.Reader) (*section, error) {
	if _, ok := r.Manifest().Sections[sectionDisks]; !ok {
		return nil, nil
	}
	text, err := r.Section(sectionDisks)
	if err != nil {
		return nil, err
	}
	var sectors []byte
	data, complete := r.Manifest().Sections[sectionDiskData]
	if complete {
		if sectors, err = r.Section(sectionDiskMap); err != nil {
			return nil, err
		}
	}
	all, err := decodeDisks(text, sectors, data.Length)
	if err != nil {
		return nil, damaged(r, err)
	}
	return all, nil
}

func damaged(r *snapshot.Reader, err error) error {
	return fmt.Errorf("snapshot `%s` is damaged: %w", r.Path(), err)
}

// images returns the contents that are in a snapshot. They must be released.
func (all *section) images(r *snapshot.Reader) ([]*blockdev.Image, error) {
	var out []*blockdev.Image
	at := r.Manifest().Sections[sectionDiskData].Offset
	for _, d := range all.Disks {
		base, err := d.base()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("snapshot `%s`: disk `%s`: %w", r.Path(), d.Spec.ID, err), release(out))
		}
		image, err := blockdev.LoadImage(d.Contents, r.File(), at, base)
		if err != nil {
			return nil, errors.Join(damaged(r, fmt.Errorf("disk `%s`: %w", d.Spec.ID, err)), release(out))
		}
		out = append(out, image)
		at += int64(d.Contents.Medium+d.Contents.Pending) * blockdev.ChunkSize
	}
	return out, nil
}

// base returns what the disk began with, nil if its contents are complete.
func (d *entry) base() (blockdev.Contents, error) {
	if !d.Contents.Described {
		return nil, nil
	}
	c, err := userland.Open(d.Spec.Userland)
	if err != nil {
		return nil, err // no typed nil
	}
	return c, nil
}

func release(images []*blockdev.Image) error {
	var errs []error
	for _, i := range images {
		errs = append(errs, i.Release())
	}
	return errors.Join(errs...)
}

// Kept finds the disks of temporary snapshots, which are in the process that took
// them.
type Kept interface {
	// UseDisks calls use with the disks of a token, which stay open meanwhile. It
	// reports whether there are any.
	UseDisks(token string, use func(Sealed)) bool
}

// Load returns the disks of a snapshot. They must be released.
func Load(r *snapshot.Reader, kept Kept) (Plan, error) {
	all, err := readDisks(r)
	if all == nil || err != nil {
		return nil, err
	}
	if all.Changes {
		return nil, fmt.Errorf("snapshot `%s` is one of the boot cache: what its disks began with is not in it",
			r.Path())
	}
	var images []*blockdev.Image
	if all.Token == "" {
		images, err = all.images(r)
	} else {
		images, err = all.keptImages(r, kept)
	}
	if err != nil {
		return nil, err
	}
	var plan Plan
	for i, d := range all.Disks {
		plan = append(plan, planned{d.Spec, d.Slot, images[i], images[i].State()})
	}
	return plan, nil
}

// keptImages returns the contents that are in this process. They must be released.
func (all *section) keptImages(r *snapshot.Reader, kept Kept) ([]*blockdev.Image, error) {
	var images []*blockdev.Image
	kept.UseDisks(all.Token, func(disks Sealed) {
		for _, d := range disks {
			images = append(images, d.image.Retain())
		}
	})
	if len(images) != len(all.Disks) {
		err := fmt.Errorf("snapshot `%s`: the contents of its disks were in the run that took it, or were deleted; "+
			"vm:snapshot(path) makes a file that is complete in itself", r.Path())
		return nil, errors.Join(err, release(images))
	}
	return images, nil
}

// Release releases the saved contents. Drives that were opened from them stay.
func (plan Plan) Release() {
	for _, p := range plan {
		_ = p.image.Release() // files that were only read
	}
}

// Devices describes the disks to QEMU, as far as they make a difference to a saved
// state.
func (plan Plan) Devices() []qemu.Disk {
	out := make([]qemu.Disk, len(plan))
	for i := range plan {
		out[i] = plan[i].spec.device(plan[i].slot)
	}
	return out
}

// Devices is that of a Plan.
func (disks Sealed) Devices() []qemu.Disk {
	var out []qemu.Disk
	for i := range disks {
		out = append(out, disks[i].spec.device(disks[i].slot))
	}
	return out
}
