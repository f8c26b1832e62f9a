package scene

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/blockdev/fault"
	"provium/internal/disk"
	"provium/internal/lab"
	"provium/internal/network"
	"provium/internal/script/failure"
	"provium/internal/script/value"
	"provium/internal/vnet"
)

// maxPart is how many rules of one kind are listed.
const maxPart = 12

// Rules describes the rules of bridges and of the disks of VMs that are in force, or
// returns "" without any.
func Rules(bridges []*network.Bridge, vms []*lab.VM) string {
	var nets, disks []string
	for _, b := range bridges {
		if b.IsClosed() {
			continue
		}
		if parts := networkRules(b.Switch().Save(), b.Unplugged()); len(parts) > 0 {
			nets = append(nets, fmt.Sprintf("bridge `%s`: %s", b.Name(), strings.Join(parts, "; ")))
		}
	}
	for _, vm := range vms {
		for _, d := range vm.Disks() {
			if parts := diskRules(d); len(parts) > 0 {
				disks = append(disks, fmt.Sprintf("[%s] disk `%s`: %s", vm.Name(), d.ID(), strings.Join(parts, "; ")))
			}
		}
	}
	return strings.Join(slices.DeleteFunc([]string{
		list("network rules in force:", nets), list("disk rules in force:", disks),
	}, func(s string) bool { return s == "" }), "\n")
}

// list writes lines under a title, "" for none.
func list(title string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	for i, line := range lines {
		lines[i] = "  " + failure.Line(line)
	}
	return title + "\n" + strings.Join(lines, "\n")
}

// networkRules describes what a switch does to frames.
func networkRules(s vnet.State, unplugged []string) (parts []string) {
	pairs := func(format string, all []vnet.Pair) {
		for _, p := range all[:min(len(all), maxPart)] {
			parts = append(parts, fmt.Sprintf(format, p.From, p.To))
		}
		parts = append(parts, rest(len(all))...)
	}
	if s.All {
		parts = append(parts, "all are partitioned")
		pairs("but %s and %s are not", s.Lifted)
	}
	pairs("%s and %s are partitioned", s.Partitions)
	pairs("nothing passes from %s to %s", s.OneWay)
	if len(s.Isolated) > 0 {
		parts = append(parts, "isolated: "+names(s.Isolated))
	}
	if len(unplugged) > 0 {
		parts = append(parts, "disconnected: "+names(unplugged))
	}
	if len(s.Whole) > 0 {
		parts = append(parts, impairments(s.Whole))
	}
	for _, p := range s.Pairs[:min(len(s.Pairs), maxPart)] {
		parts = append(parts, fmt.Sprintf("%s to %s: %s", p.From, p.To, impairments(p.Values)))
	}
	return append(parts, rest(len(s.Pairs))...)
}

// rest says how many of n are not listed.
func rest(n int) []string {
	if n <= maxPart {
		return nil
	}
	return []string{fmt.Sprintf("and %d more", n-maxPart)}
}

func names(all []string) string {
	return strings.Join(append(slices.Clone(all[:min(len(all), maxPart)]), rest(len(all))...), ", ")
}

// impairments lists values by their kinds.
func impairments(values map[string]float64) string {
	var parts []string
	for kind, v := range values {
		parts = append(parts, fmt.Sprintf("%s = %s", kind, strings.TrimSuffix(value.FormatFloat(v), ".0")))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// diskRules describes what happens to the requests of a disk.
func diskRules(d *disk.Disk) (parts []string) {
	modes, err := d.ActiveModes()
	if err != nil {
		return nil // it is detached
	}
	policy, err := d.Policy()
	if err != nil {
		return nil
	}
	rules, err := d.Rules()
	if err != nil {
		return nil
	}
	if d.IsOff() {
		parts = append(parts, "the power is off")
	}
	for _, mode := range modes {
		parts = append(parts, "fault_inject "+mode)
	}
	if policy.FailReads {
		parts = append(parts, "fail_reads")
	}
	if policy.FailWrites {
		parts = append(parts, "fail_writes")
	}
	if policy.FailAfter > 0 {
		parts = append(parts, fmt.Sprintf("fail_after %d", policy.FailAfter))
	}
	for _, r := range policy.FailRanges[:min(len(policy.FailRanges), maxPart)] {
		parts = append(parts, fmt.Sprintf("fail_range %d+%d", r.First, r.Count))
	}
	parts = append(parts, rest(len(policy.FailRanges))...)
	if policy.Delay > 0 {
		parts = append(parts, fmt.Sprintf("delay %v", policy.Delay))
	}
	for _, r := range rules[:min(len(rules), maxPart)] {
		parts = append(parts, ruleText(r))
	}
	return append(parts, rest(len(rules))...)
}

// ruleText is a rule of disk:inject.
func ruleText(r fault.Rule) string {
	text := fmt.Sprintf("rule %d: %s", r.ID, r.Op)
	if r.Sectors != (fault.Range{}) {
		text += fmt.Sprintf(" of sectors %d+%d", r.Sectors.First, r.Sectors.Count)
	}
	if r.Errno != "" {
		text += " fails with " + r.Errno
	}
	if r.Effect != "" {
		text += " " + string(r.Effect)
	}
	if r.Delay > 0 {
		text += fmt.Sprintf(", delay %v", r.Delay)
	}
	if r.Probability > 0 && r.Probability < 1 {
		text += fmt.Sprintf(", probability %g", r.Probability)
	}
	if r.Count > 0 {
		text += fmt.Sprintf(", at most %d times", r.Count)
	}
	return text + fmt.Sprintf(" (met %d times)", r.Hits)
}
