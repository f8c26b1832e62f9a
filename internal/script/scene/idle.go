package scene

import (
	"fmt"
	"strings"

	"provium/internal/disk"
	"provium/internal/lab"
)

// DiskRules are the rules that disks have at one moment, by their ids.
type DiskRules map[*disk.Disk]map[int64]bool

// RulesOf returns the rules of the disks of VMs.
func RulesOf(vms []*lab.VM) DiskRules {
	all := DiskRules{}
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			rules, err := d.Rules()
			if err != nil || len(rules) == 0 {
				continue // it is detached
			}
			all[d] = map[int64]bool{}
			for _, r := range rules {
				all[d][r.ID] = true
			}
		}
	}
	return all
}

// Idle describes the rules of the disks of VMs that were not there before and have struck no
// request: the test may not have tested what it seems to.
func (before DiskRules) Idle(vms []*lab.VM) (notes []string) {
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			rules, err := d.Rules()
			if err != nil {
				continue
			}
			for _, r := range rules {
				if r.Hits == 0 && !before[d][r.ID] && len(notes) < maxPart {
					rule := strings.TrimSuffix(ruleText(r), " (met 0 times)")
					notes = append(notes, fmt.Sprintf("no request of disk `%s` of vm `%s` has met its %s", d.ID(),
						vm.Name(), rule))
				}
			}
		}
	}
	return notes
}
