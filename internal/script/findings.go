package script

import (
	"fmt"
	"strings"

	"provium/internal/console"
	"provium/internal/lab"
)

// takeFindings describes the guest failures seen since it was last called. It waits for
// what is on its way from the consoles.
func (e *execution) takeFindings(vms []*lab.VM) []string {
	found := make([][]console.Finding, len(vms))
	_ = e.s.state.Block(func() error {
		for i, vm := range vms {
			found[i] = vm.TakeFindings()
		}
		return nil
	})
	var out []string
	for i, vm := range vms {
		out = append(out, e.failures(vm, found[i])...)
	}
	return out
}

// failures describes the reports of a guest's kernel that fail the execution. Warnings
// that are only to be noted go to its log.
func (e *execution) failures(vm *lab.VM, found []console.Finding) []string {
	if e.meta != nil && e.meta.AllowOops {
		return nil
	}
	var out []string
	for _, finding := range found {
		text := fmt.Sprintf("guest failure on vm `%s`: %s", vm.Name(), finding.Title)
		if finding.Kind == console.KindWarning {
			if e.meta != nil && e.meta.AllowWarnings {
				continue
			}
			if vm.NotesWarnings() {
				e.warn(fmt.Sprintf("the kernel of vm `%s`: %s", vm.Name(), finding.Title))
				continue
			}
		}
		if finding.Excerpt != "" {
			text += "\n" + strings.TrimRight(finding.Excerpt, "\n")
		}
		out = append(out, text)
	}
	return out
}

// consoles shows the end of the consoles of the given VMs.
func consoles(vms []*lab.VM) string {
	const keep = 4 << 10 // bytes per VM
	var b strings.Builder
	for _, vm := range vms {
		console := vm.Console()
		tail := console.Tail(keep)
		if len(tail) == 0 {
			continue
		}
		fmt.Fprintf(&b, "--- console of vm `%s` ---\n%s", vm.Name(), tail)
		if tail[len(tail)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
