package lab

import (
	"time"

	"provium/internal/nbd"
)

// DiskPolicy is what makes requests to a disk fail or wait, beside the modes of
// Inject.
type DiskPolicy = nbd.Policy

// DiskRange is a number of sectors.
type DiskRange = nbd.Range

// MaxDiskDelay is how long a request can be held.
const MaxDiskDelay = time.Hour

// Inject switches a fault mode on, for the guest and for sector operations.
func (d *Disk) Inject(mode string) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.Inject(mode)
}

// ClearModes switches all fault modes off.
func (d *Disk) ClearModes() error {
	data, err := d.backend()
	if err == nil {
		data.ClearModes()
	}
	return err
}

// ActiveModes lists the fault modes that are on, sorted.
func (d *Disk) ActiveModes() ([]string, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.ActiveModes(), nil
}

// ChangePolicy has change alter the rules in force. An error leaves them as they
// were.
func (d *Disk) ChangePolicy(change func(*DiskPolicy)) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.ChangePolicy(change)
}

// Policy returns the rules in force.
func (d *Disk) Policy() (DiskPolicy, error) {
	data, err := d.backend()
	if err != nil {
		return DiskPolicy{}, err
	}
	return data.Policy(), nil
}
