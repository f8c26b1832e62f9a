package disk

import "provium/internal/blockdev"

// PowerCut drops what the guest has not flushed, except for what c keeps. With c.Off the
// disk answers EIO until PowerOn, or until the machine is reset or booted again.
func (d *Disk) PowerCut(c blockdev.Cut) (blockdev.CutResult, error) {
	data, err := d.backend()
	if err != nil {
		return blockdev.CutResult{}, err
	}
	return data.PowerCut(c)
}

// IsOff reports whether the disk is without power.
func (d *Disk) IsOff() bool { return d.contents().IsOff() }

// PowerOn ends a power cut with Cut.Off without a reset of the machine.
func (d *Disk) PowerOn() error {
	data, err := d.backend()
	if err == nil {
		data.PowerOn()
	}
	return err
}
