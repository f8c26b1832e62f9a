package scene

import (
	"errors"
	"fmt"
	"strings"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/script/failure"
)

// CutShort shows what a command has printed that was stopped, of which err is the error of the operation.
func CutShort(op failure.Operation, err error) (blocks []string) {
	var cut *guest.CutShortError
	if !errors.As(err, &cut) {
		return nil
	}
	of := op.String()
	if cut.Item > 0 {
		of = fmt.Sprintf("operation %d of %s", cut.Item, of)
	}
	for _, out := range []struct {
		name string
		text []byte
	}{{"stdout", cut.Stdout}, {"stderr", cut.Stderr}} {
		if block := failure.Block(out.name+" so far of "+of, out.text); block != "" {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// Consoles shows the end of the consoles of VMs.
func Consoles(vms []*lab.VM) string {
	const keep = 4 << 10 // bytes per VM
	var b strings.Builder
	for _, vm := range vms {
		tail := vm.Console().Tail(keep)
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
