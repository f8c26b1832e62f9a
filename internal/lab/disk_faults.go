package lab

import (
	"encoding/binary"
	"time"

	"provium/internal/blockdev/fault"
)

// DiskPolicy is what makes requests to a disk fail or wait, beside the modes of
// Inject.
type DiskPolicy = fault.Policy

// DiskRange is a number of sectors.
type DiskRange = fault.Range

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

// DiskRule says what happens to some requests.
type DiskRule = fault.Rule

// DiskEffect is what happens to a request beside failing or waiting.
type DiskEffect = fault.Effect

// AddRule has a rule be in force, and returns its ID. Without a seed it gets one
// that is the same in every run with the same seed and names.
func (d *Disk) AddRule(r DiskRule, seeded bool) (int64, error) {
	data, err := d.backend()
	if err != nil {
		return 0, err
	}
	if !seeded {
		v := d.vm
		id := digest(v.host.File, v.name, "disk", d.id)
		r.Seed = binary.BigEndian.Uint64(id[:]) ^ v.host.Seed*0x9e3779b97f4a7c15
	}
	return data.AddRule(r)
}

// Rules lists the rules in force, with how often they struck.
func (d *Disk) Rules() ([]DiskRule, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.ListRules(), nil
}

// RemoveRule ends a rule.
func (d *Disk) RemoveRule(id int64) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.RemoveRule(id)
}

// RemoveRules ends all rules.
func (d *Disk) RemoveRules() error {
	data, err := d.backend()
	if err == nil {
		data.RemoveRules()
	}
	return err
}
