package blockdev

import (
	"slices"

	"provium/internal/blockdev/fault"
)

// Inject switches a mode on, one of fault.Modes.
func (d *Disk) Inject(mode string) error { return d.faults.Inject(mode) }

// ClearModes switches all modes off.
func (d *Disk) ClearModes() { d.faults.ClearModes() }

// ActiveModes lists the modes that are on, sorted.
func (d *Disk) ActiveModes() []string { return d.faults.ActiveModes() }

// Policy returns the policy in force.
func (d *Disk) Policy() fault.Policy { return d.faults.Policy() }

// ChangePolicy calls change with a copy of the policy, and installs it. After an error
// the old policy stays in force. A change of FailAfter starts its count anew.
func (d *Disk) ChangePolicy(change func(*fault.Policy)) error {
	return d.faults.ChangePolicy(d.size.Load(), change)
}

// StruckFaults returns how many requests each mode and each part of the policy in force has met, by its name.
func (d *Disk) StruckFaults() map[string]int64 { return d.faults.Struck() }

// AddRule installs a rule, behind the others, and returns its ID. A rule without delay,
// errno and effect gets the errno EIO.
func (d *Disk) AddRule(r fault.Rule) (int64, error) { return d.faults.AddRule(d.size.Load(), r) }

// ListRules returns the rules in force, with their hits.
func (d *Disk) ListRules() []fault.Rule { return d.faults.ListRules() }

// RemoveRule removes a rule.
func (d *Disk) RemoveRule(id int64) error { return d.faults.RemoveRule(id) }

// RemoveRules removes all rules.
func (d *Disk) RemoveRules() { d.faults.RemoveRules() }

// CountRequests starts to count requests, in place of an earlier count, and lets the
// n-th one fail; with 0 none fails.
func (d *Disk) CountRequests(op fault.Op, n int64) *fault.Count { return d.faults.Count(op, n) }

// StopCounting ends the count of CountRequests.
func (d *Disk) StopCounting() { d.faults.StopCounting() }

// OnFault has met called for each request that meets a fault. It must not block.
func (d *Disk) OnFault(met func(fault.Met)) { d.faults.OnMet(met) }

// noteRequest counts a request of the guest, and returns an error if it is the one that
// CountRequests lets fail.
func (d *Disk) noteRequest(op fault.Op, off, n int64) error {
	if !d.faults.Counting() {
		return nil
	}
	if op == fault.Flush {
		d.mu.RLock()
		guests := d.flushing == commits
		d.mu.RUnlock()
		if !guests {
			return nil // the emulator's
		}
	}
	return d.faults.Note(op, off, n)
}

// State is what a disk is beside its contents.
type State struct {
	fault.State
	Off bool `json:"cut,omitempty"` // without power, see Cut.Off
}

// Arm installs the faults of an Image, in place of all others. It is a step of its own,
// since an emulator reads from a disk before it resumes a machine, and no fault must
// meet or count those reads.
func (d *Disk) Arm(s State) {
	d.faults.Restore(s.State)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = s.Off
}

// corrupted returns a copy of p with the deed's corruption.
func corrupted(e fault.Deed, p []byte) []byte {
	p = slices.Clone(p)
	e.Corrupt(p)
	return p
}
