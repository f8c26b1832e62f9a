package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"provium/internal/blockdev"
	"provium/internal/qemu"
	"provium/internal/snapshot"
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

// retain returns the images, each retained.
func (disks Sealed) retain() []*blockdev.Image {
	images := make([]*blockdev.Image, len(disks))
	for i, d := range disks {
		images[i] = d.image.Retain()
	}
	return images
}

// savedDisk is a disk in a snapshot: complete, or with its contents in the process
// that took it.
type savedDisk struct {
	Spec     Spec           `json:"spec"`
	Slot     int            `json:"slot"`
	Contents *blockdev.Dump `json:"contents,omitempty"`
}

// savedDisks is the section about them.
type savedDisks struct {
	Disks []savedDisk `json:"disks"`
	Token string      `json:"token,omitempty"` // the contents are in this process under it
	// Changes says that the contents are only what was written to the disks since
	// they were opened.
	Changes bool `json:"changes,omitempty"`
}

// Form is how a snapshot contains disks. The zero value is complete in itself.
type Form struct {
	Token   string // not "": the contents stay in this process
	Changes bool   // only what was written to the disks since they were opened
}

// Save writes the disks to a snapshot. With form.Changes, nothing is written when no
// disk has any.
func (disks Sealed) Save(w *snapshot.Writer, form Form) error {
	wanted := func(d sealed) bool { return !form.Changes || d.image.Changed() }
	if !slices.ContainsFunc(disks, wanted) {
		return nil
	}
	all := savedDisks{Token: form.Token, Changes: form.Changes}
	for _, d := range disks {
		all.Disks = append(all.Disks, savedDisk{Spec: d.spec, Slot: d.slot})
	}
	if form.Token == "" {
		var sectors []byte
		err := w.PutData(sectionDiskData, sectionDiskSums, func(add func([]byte) error) error {
			for i, d := range disks {
				put := d.image.Dump
				if form.Changes {
					put = d.image.DumpChanges
				}
				dump, err := put(add)
				if err != nil {
					return fmt.Errorf("disk `%s`: %w", d.spec.ID, err)
				}
				all.Disks[i].Contents = dump
				sectors = append(sectors, dump.Map...)
			}
			return nil
		})
		if err == nil {
			err = w.PutSection(sectionDiskMap, sectors)
		}
		if err != nil {
			return err
		}
	}
	text, err := json.Marshal(&all)
	if err != nil {
		return err
	}
	return w.PutSection(sectionDisks, text)
}

// decodeDisks verifies what Save has written, or another program.
func decodeDisks(text, sectors []byte, dataLength int64) (*savedDisks, error) {
	all := &savedDisks{}
	if err := json.Unmarshal(text, all); err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	if len(all.Disks) > qemu.DiskSlots {
		return nil, fmt.Errorf("disks: %d, at most %d are possible", len(all.Disks), qemu.DiskSlots)
	}
	for i, d := range all.Disks {
		if d.Slot < 1 || d.Slot > qemu.DiskSlots || i > 0 && d.Slot <= all.Disks[i-1].Slot {
			return nil, fmt.Errorf("disks: slot %d", d.Slot)
		}
		if err := CheckID(d.Spec.ID); err != nil {
			return nil, fmt.Errorf("disks: %w", err)
		}
		if err := d.Spec.DiskModel.Check(); err != nil {
			return nil, fmt.Errorf("disks: %w", err)
		}
		for _, o := range all.Disks[:i] {
			if Serial(o.Spec.ID) == Serial(d.Spec.ID) {
				return nil, fmt.Errorf("disks: two are called `%s`", Serial(d.Spec.ID))
			}
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

// readDisks reads what a snapshot says about its disks.
func readDisks(r *snapshot.Reader) (*savedDisks, error) {
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
		return nil, fmt.Errorf("snapshot `%s` is damaged: %w", r.Path(), err)
	}
	return all, nil
}

// loadDisks returns the contents that are in a snapshot. They must be released.
func loadDisks(r *snapshot.Reader, all *savedDisks) (images []*blockdev.Image, err error) {
	at := r.Manifest().Sections[sectionDiskData].Offset
	for _, d := range all.Disks {
		image, err := blockdev.LoadImage(d.Contents, r.File(), at)
		if err != nil {
			for _, i := range images {
				err = errors.Join(err, i.Release())
			}
			return nil, fmt.Errorf("snapshot `%s` is damaged: disk `%s`: %w", r.Path(), d.Spec.ID, err)
		}
		images = append(images, image)
		at += int64(d.Contents.Medium+d.Contents.Pending) * blockdev.ChunkSize
	}
	return images, nil
}

// Kept finds the disks of temporary snapshots, which are in the process that took
// them.
type Kept interface {
	// UseDisks calls use with the disks of a token, which stay open meanwhile. It
	// reports whether there are any.
	UseDisks(token string, use func(Sealed)) bool
}

// Load returns the disks of a snapshot.
func Load(r *snapshot.Reader, kept Kept) (plan Plan, err error) {
	if _, ok := r.Manifest().Sections[sectionDisks]; !ok {
		return nil, nil
	}
	all, err := readDisks(r)
	if err != nil {
		return nil, err
	}
	if all.Changes {
		return nil, fmt.Errorf("snapshot `%s` is one of the boot cache: what its disks began with is not in it", r.Path())
	}
	var images []*blockdev.Image
	if all.Token != "" {
		ok := kept.UseDisks(all.Token, func(disks Sealed) { images = disks.retain() })
		if !ok || len(images) != len(all.Disks) {
			for _, i := range images {
				_ = i.Release()
			}
			return nil, fmt.Errorf("snapshot `%s`: the contents of its disks were in the run that took it, or were deleted; vm:snapshot(path) makes a file that is complete in itself", r.Path())
		}
	} else if images, err = loadDisks(r, all); err != nil {
		return nil, err
	}
	for i, d := range all.Disks {
		plan = append(plan, planned{d.Spec, d.Slot, images[i], images[i].State()})
	}
	return plan, nil
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
