package scene

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"provium/internal/disk"
	"provium/internal/lab"
)

// DiskRules are the faults that disks have at one moment.
type DiskRules map[*disk.Disk]diskFaults

// diskFaults are the faults of one disk.
type diskFaults struct {
	rules  map[int64]bool   // by their ids
	struck map[string]int64 // how many requests modes and policy have met, by their names
}

// RulesOf returns the faults of the disks of VMs.
func RulesOf(vms []*lab.VM) DiskRules {
	all := DiskRules{}
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			rules, err := d.Rules()
			if err != nil {
				continue // it is detached
			}
			struck, err := d.StruckFaults()
			if err != nil || len(rules) == 0 && len(struck) == 0 {
				continue
			}
			f := diskFaults{rules: map[int64]bool{}, struck: struck}
			for _, r := range rules {
				f.rules[r.ID] = true
			}
			all[d] = f
		}
	}
	return all
}

// Idle describes the faults of the disks of VMs that were not there before and have struck no
// request: the test may not have tested what it seems to.
func (before DiskRules) Idle(vms []*lab.VM) (notes []string) {
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			for _, name := range before[d].idle(d) {
				if len(notes) < maxPart {
					notes = append(notes, fmt.Sprintf("no request of disk `%s` of vm `%s` has met its %s", d.ID(),
						vm.Name(), name))
				}
			}
		}
	}
	return notes
}

// idle returns the new faults of a disk that have struck no request, as words.
func (before diskFaults) idle(d *disk.Disk) (names []string) {
	rules, err := d.Rules()
	if err != nil {
		return nil
	}
	for _, r := range rules {
		if r.Hits == 0 && !before.rules[r.ID] {
			names = append(names, strings.TrimSuffix(ruleText(r), " (met 0 times)"))
		}
	}
	struck, err := d.StruckFaults()
	if err != nil {
		return names
	}
	for _, name := range slices.Sorted(maps.Keys(struck)) {
		if _, was := before.struck[name]; !was && struck[name] == 0 {
			names = append(names, name)
		}
	}
	return names
}
