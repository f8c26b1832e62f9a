package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"provium/internal/blockdev"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// sealedDisk is a disk at one moment.
type sealedDisk struct {
	spec  DiskSpec
	slot  int
	image *blockdev.Image
}

// plannedDisk is a disk that a restored machine is to have.
type plannedDisk struct {
	spec  DiskSpec
	slot  int
	image *blockdev.Image // to be released
	state blockdev.State
}

// sealDisks gives the disks of a stopped guest, in order of their slots.
func (v *VM) sealDisks() (sealed sealedDisks, err error) {
	for _, d := range v.disks.all() {
		image, err := d.contents().Seal()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("disk `%s`: %w", d.spec.ID, err), sealed.Close())
		}
		d.mu.Lock()
		sealed = append(sealed, sealedDisk{d.spec, d.slot, image})
		d.mu.Unlock()
	}
	slices.SortFunc(sealed, func(a, b sealedDisk) int { return a.slot - b.slot })
	return sealed, nil
}

// sealedDisks are the disks of a stopped guest, in order of their slots.
type sealedDisks []sealedDisk

// Close releases the images.
func (disks sealedDisks) Close() error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.image.Release())
	}
	return errors.Join(errs...)
}

// retain returns the images, each retained.
func (disks sealedDisks) retain() []*blockdev.Image {
	images := make([]*blockdev.Image, len(disks))
	for i, d := range disks {
		images[i] = d.image.Retain()
	}
	return images
}

// savedDisk is a disk in a snapshot: complete, or with its contents in the process
// that took it.
type savedDisk struct {
	Spec     DiskSpec       `json:"spec"`
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

// diskForm is how a snapshot has disks; the zero value has it complete in itself.
type diskForm struct {
	token   string // not "": the contents stay in this process
	changes bool   // only what was written to them since they were opened
}

// putDisks writes disks to a snapshot. Changes that there are none of are left out.
func putDisks(w *snapshot.Writer, disks sealedDisks, form diskForm) error {
	none := func(d sealedDisk) bool { return form.changes && !d.image.Changed() }
	if !slices.ContainsFunc(disks, func(d sealedDisk) bool { return !none(d) }) {
		return nil
	}
	all := savedDisks{Token: form.token, Changes: form.changes}
	for _, d := range disks {
		all.Disks = append(all.Disks, savedDisk{Spec: d.spec, Slot: d.slot})
	}
	if form.token == "" {
		var sectors []byte
		err := w.PutData(sectionDiskData, sectionDiskSums, func(add func([]byte) error) error {
			for i, d := range disks {
				put := d.image.Dump
				if form.changes {
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

// decodeDisks reads what putDisks has written, or somebody else.
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
		if err := CheckDiskID(d.Spec.ID); err != nil {
			return nil, fmt.Errorf("disks: %w", err)
		}
		if err := d.Spec.DiskModel.Check(); err != nil {
			return nil, fmt.Errorf("disks: %w", err)
		}
		for _, o := range all.Disks[:i] {
			if serialOf(o.Spec.ID) == serialOf(d.Spec.ID) {
				return nil, fmt.Errorf("disks: two are called `%s`", serialOf(d.Spec.ID))
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

// loadDisks gives the contents that are in a snapshot. They must be released.
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

// savedDisks are the disks of a snapshot. They must be released.
func (h *Host) savedDisks(r *snapshot.Reader) (planned []plannedDisk, err error) {
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
		ok := h.snapshots.UseDisks(all.Token, func(disks sealedDisks) { images = disks.retain() })
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
		planned = append(planned, plannedDisk{d.Spec, d.Slot, images[i], images[i].State()})
	}
	return planned, nil
}

// release lets go of what the plan holds. What was started from it goes on.
func (p *startPlan) release() {
	for _, d := range p.disks {
		_ = d.image.Release() // files that were only read
	}
	p.disks = nil
	if p.lower != nil {
		p.lower.Close()
		p.lower = nil
	}
}

// describeDisks is what a plan's disks are for QEMU, as far as they make a
// difference to a saved state.
func describeDisks(planned []plannedDisk) []qemu.Disk {
	out := make([]qemu.Disk, len(planned))
	for i, p := range planned {
		out[i] = qemu.Disk{Slot: p.slot, Serial: serialOf(p.spec.ID), ReadOnly: p.spec.ReadOnly, Model: p.spec.DiskModel}
	}
	return out
}

// connectDrives completes the description of a machine's disks with its drives.
func connectDrives(cfg *qemu.Config, drives []*drive) {
	cfg.Disks = slices.Clone(cfg.Disks)
	for i, d := range drives {
		cfg.Disks[i].Socket = d.server.socket
	}
	// Faults are for the guest, which goes on after that.
	check := cfg.Restore.Check
	restore := *cfg.Restore
	restore.Check = func(version string) error {
		if check != nil {
			if err := check(version); err != nil {
				return err
			}
		}
		armDrives(drives)
		return nil
	}
	cfg.Restore = &restore
}

// takeDrives makes the disks of a machine that was restored the VM's, in place of
// those it had. Where one of the same id was, its handle stays good.
func (v *VM) takeDrives(drives []*drive) error {
	s := &v.disks
	s.mu.Lock()
	before := s.list
	s.list = nil
	var errs []error
	for _, d := range drives {
		var disk *Disk
		if i := slices.IndexFunc(before, func(o *Disk) bool { return o.spec.ID == d.saved.spec.ID }); i >= 0 {
			disk = before[i]
			before = slices.Delete(slices.Clone(before), i, i+1)
		} else {
			disk = &Disk{vm: v, id: d.saved.spec.ID}
		}
		errs = append(errs, disk.become(d))
		s.list = append(s.list, disk)
	}
	if s.declared == nil {
		s.declared = map[string]DiskSpec{}
	}
	for _, spec := range v.declaredDisks(v.opts) {
		s.declared[spec.ID] = spec
	}
	for _, d := range s.list {
		s.declared[d.spec.ID] = d.spec
	}
	s.mu.Unlock()
	for _, d := range before {
		errs = append(errs, d.close(false))
	}
	return errors.Join(errs...)
}

// become puts a restored disk in the place of what the disk was.
func (d *Disk) become(from *drive) error {
	d.mu.Lock()
	server, data, recordings := d.server, d.data, d.recordings
	d.spec, d.slot, d.node, d.data, d.server, d.recordings = from.saved.spec, from.saved.slot, 0, from.data, from.server, nil
	d.mu.Unlock()
	from.teller.set(d.warn)
	return endDisk(d.spec.ID, server, data, recordings, false)
}
