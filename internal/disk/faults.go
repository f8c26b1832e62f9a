package disk

import (
	"errors"
	"time"

	"provium/internal/blockdev/fault"
)

// MaxDelay is how long a request can be delayed.
const MaxDelay = time.Hour

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

// ActiveModes returns the fault modes that are on, sorted.
func (d *Disk) ActiveModes() ([]string, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.ActiveModes(), nil
}

// StruckFaults returns how many requests each mode and each part of the policy in force has met, by its name.
func (d *Disk) StruckFaults() (map[string]int64, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.StruckFaults(), nil
}

// ChangePolicy applies change to the policy in force. After an error the policy is
// unchanged.
func (d *Disk) ChangePolicy(change func(*fault.Policy)) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.ChangePolicy(change)
}

// Policy returns the policy in force.
func (d *Disk) Policy() (fault.Policy, error) {
	data, err := d.backend()
	if err != nil {
		return fault.Policy{}, err
	}
	return data.Policy(), nil
}

// AddRule installs r and returns its ID. Unless seeded, r gets a seed that is the
// same in every run with the same seed and names.
func (d *Disk) AddRule(r fault.Rule, seeded bool) (int64, error) {
	data, err := d.backend()
	if err != nil {
		return 0, err
	}
	if !seeded {
		r.Seed = d.seed()
	}
	return data.AddRule(r)
}

// Rules returns the rules in force, with how often each was applied.
func (d *Disk) Rules() ([]fault.Rule, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.ListRules(), nil
}

// RemoveRule removes the rule of that ID.
func (d *Disk) RemoveRule(id int64) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.RemoveRule(id)
}

// RemoveRules removes all rules.
func (d *Disk) RemoveRules() error {
	data, err := d.backend()
	if err == nil {
		data.RemoveRules()
	}
	return err
}

// CountRequests counts the guest's requests of a kind from now on, and makes the
// n-th one fail; with 0 none does. StopCounting ends it.
func (d *Disk) CountRequests(kind fault.Op, n int64) (*fault.Count, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.CountRequests(kind, n), nil
}

// StopCounting ends CountRequests.
func (d *Disk) StopCounting() { d.contents().StopCounting() }

// ClearFaults ends the modes, the policy, the rules and the count of CountRequests.
func (d *Disk) ClearFaults() error {
	d.StopCounting()
	return errors.Join(d.ClearModes(), d.RemoveRules(),
		d.ChangePolicy(func(p *fault.Policy) { *p = fault.Policy{} }))
}
