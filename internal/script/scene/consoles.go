package scene

import (
	"fmt"
	"strings"

	"provium/internal/lab"
)

// Consoles shows the end of the consoles of the given VMs.
func Consoles(vms []*lab.VM) string {
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
