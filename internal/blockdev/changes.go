package blockdev

import (
	"errors"
	"fmt"
	"os"
)

// Origin describes a disk that is blank or has the contents of a raw image, and no
// faults.
type Origin struct {
	Size int64 // of the disk in bytes
	// Base is a descriptor of the raw image with the disk's contents, or of the file that
	// describes them; the caller closes it. It is nil for a blank disk.
	Base *os.File
}

// Close closes the image.
func (o *Origin) Close() {
	if o.Base != nil {
		_ = o.Base.Close() // it was only read
	}
}

// Origin returns the origin of a disk that was not changed since it was opened, and has
// no faults, counts or recordings. It returns false for any other disk.
func (d *Disk) Origin() (*Origin, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, private := d.medium.(*stack)
	if d.closed || !private || d.derived || d.disturbed() || !s.over.table.empty() || !d.cache.table.empty() {
		return nil, false, nil
	}
	o := &Origin{Size: d.size.Load()}
	if s.base == nil {
		return o, true, nil
	}
	var err error
	if d, ok := s.base.(*described); ok {
		if o.Base, err = reopened(d.contents.File()); err != nil {
			return nil, false, err
		}
		return o, true, nil
	}
	image, ok := s.base.(*imageFile)
	if !ok {
		return nil, false, nil
	}
	if _, raw := image.imageBytes.(rawBytes); !raw {
		return nil, false, nil
	}
	if o.Base, err = reopened(image.lock); err != nil {
		return nil, false, err
	}
	if info, err := o.Base.Stat(); err != nil || info.Size() != image.length.Load() {
		o.Close() // reads of what is missing fail
		return nil, false, err
	}
	return o, true, nil
}

// reopened returns another descriptor of an open file.
func reopened(f *os.File) (*os.File, error) {
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return again, nil
}

// disturbed reports whether requests may fail, wait, or are recorded or counted. The caller must hold d.mu.
func (d *Disk) disturbed() bool {
	return d.off || d.faults.Active() || d.recording.goesOn()
}

// Meddlings returns how often the disk was changed by other means than its guest: sector
// writes, faults, power cuts, recordings, another size.
func (d *Disk) Meddlings() int64 { return d.meddlings.Load() + d.faults.Changes() }

// Changed reports whether the disk differed from its Origin at that moment.
func (i *Image) Changed() bool {
	return !i.medium.over.table.empty() || !i.cache.table.empty()
}

// DumpChanges is Dump for what was written since the disk was opened. It can be applied
// to a disk with the same Origin.
func (i *Image) DumpChanges(put func(p []byte) error) (*Dump, error) {
	d := &Dump{Size: i.size}
	var err error
	if d.Medium, err = dumpLayer(d, i.medium.over, put); err == nil {
		d.Pending, err = dumpLayer(d, i.cache, put)
	}
	if err != nil {
		return nil, fmt.Errorf("disk changes: %w", err)
	}
	return d, nil
}

// Apply replaces all that was written to the disk by an image that was loaded from a dump
// of changes, or by nothing if it is nil. The disk must not be in use.
func (d *Disk) Apply(changes *Image) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, private := d.medium.(*stack)
	size := d.size.Load()
	switch {
	case d.closed:
		return ErrClosed
	case !private || d.derived:
		return errors.New("disk changes: the disk is no private copy")
	case changes != nil && (changes.size != size || changes.medium.base != nil):
		return fmt.Errorf("disk changes: they are of another disk than this one of %d bytes", size)
	}
	over, cache, writes := &layer{size: size}, &layer{size: size}, unflushed{}
	if changes != nil {
		over, cache, writes = changes.medium.over.copy(), changes.cache.copy(), changes.writes.copy()
	}
	over.dir, cache.dir = d.cfg.TempDir, d.cfg.TempDir
	err := errors.Join(s.over.close(), d.cache.close(), d.unflushed.close())
	d.medium, d.cache, d.unflushed = &stack{over, s.base}, cache, writes
	d.spent, d.postponed = 0, false
	return err
}
