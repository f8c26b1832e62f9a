package blockdev

import (
	"errors"
	"fmt"
)

// Resize makes the disk longer, by zeroes. A client sees the new size when it connects
// again, see Retire.
func (d *Disk) Resize(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.size.Load()
	switch {
	case d.closed:
		return ErrClosed
	case d.cfg.ReadOnly:
		return errReadOnly
	case d.recording.goesOn():
		return errors.New("is being recorded: stop the recording first")
	case size <= 0 || size%SectorSize != 0:
		return fmt.Errorf("size: %d is not a positive multiple of %d", size, SectorSize)
	case size < now:
		return fmt.Errorf("%d bytes are less than the present %d: a disk can only grow", size, now)
	case size == now:
		return nil
	}
	if err := d.medium.resize(size); err != nil {
		return err
	}
	d.cache.size = size
	d.size.Store(size)
	d.epoch.Add(1)
	d.meddlings.Add(1)
	return nil
}

// Retire makes flushes of clients that connected before the latest Resize have no effect.
// An emulator flushes when it closes a connection, and that flush is not the guest's.
func (d *Disk) Retire() { d.valid.Store(d.epoch.Load()) }
