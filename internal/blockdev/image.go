package blockdev

import (
	"errors"
	"sync/atomic"
)

// Image is a snapshot of a disk: the medium, the write cache and the faults. It does not
// change, and needs only as much space as its disk, or disks made from it, write later.
// It is safe for concurrent use. The last Release closes it.
type Image struct {
	size   int64
	medium *stack
	cache  *layer
	writes unflushed
	state  State
	refs   atomic.Int32
}

// Seal returns a snapshot of the disk, without copying it. A request that is carried out
// meanwhile may be in it in part: the machine should be stopped.
func (d *Disk) Seal() (*Image, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	i := &Image{size: d.size.Load(), medium: d.medium.seal(), cache: d.cache.seal(), writes: d.unflushed.seal(),
		state: State{d.faults.State(), d.off}}
	i.refs.Store(1)
	return i, nil
}

// become makes d, which has no contents, a private copy of an image.
func (d *Disk) become(i *Image) {
	d.derived = true
	d.size.Store(i.size)
	if i.medium.base != nil {
		i.medium.base.retain()
	}
	over, cache := i.medium.over.copy(), i.cache.copy()
	over.dir, cache.dir = d.cfg.TempDir, d.cfg.TempDir
	d.medium, d.cache = &stack{over, i.medium.base}, cache
	d.unflushed = i.writes.copy()
}

// Size returns the capacity in bytes.
func (i *Image) Size() int64 { return i.size }

// ReadAt reads what was on the medium, or with pending what the guest saw.
func (i *Image) ReadAt(p []byte, off int64, pending bool) error {
	if !pending {
		return i.medium.readAt(p, off)
	}
	return i.cache.read(p, off, i.medium.readAt)
}

// Hole reports whether off, a multiple of SectorSize, is known to read as zeroes, and
// for how many bytes of at most limit, whole sectors, the answer holds.
func (i *Image) Hole(off, limit int64, pending bool) (bool, int64) {
	if pending {
		p, n := i.cache.table.run(off/SectorSize, limit/SectorSize)
		if p != absent {
			return p == zeroed, n * SectorSize
		}
		limit = n * SectorSize
	}
	hole, n := i.medium.hole(off, limit)
	if n = n / SectorSize * SectorSize; n == 0 {
		return false, SectorSize // a hole that begins or ends within a sector
	}
	return hole, n
}

// State returns what the disk was beside its contents.
func (i *Image) State() State { return i.state }

// Retain adds a reference to the image, which Release must remove, and returns it.
func (i *Image) Retain() *Image {
	i.refs.Add(1)
	return i
}

// Release removes a reference. Disks made from the image do not need it.
func (i *Image) Release() error {
	if i.refs.Add(-1) > 0 {
		return nil
	}
	return errors.Join(i.medium.close(), i.cache.close(), i.writes.close())
}
