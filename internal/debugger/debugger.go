// Package debugger says how gdb gets at the kernel of a guest: by the socket of QEMU's stub, with
// the file of its symbols and how far the kernel was moved from their addresses.
//
// It debugs nothing. Start with Open.
package debugger

import (
	"context"
	"fmt"
	"strings"

	"provium/internal/lab"
	"provium/internal/qemu"
)

// Debugger is what gdb needs to be told.
type Debugger struct {
	Socket  string // of the stub
	Vmlinux string // file with the kernel's symbols; "" if none was found
	Offset  uint64 // how far the kernel was moved (KASLR); 0 also if that is not known
}

// Open starts the stub of a guest that runs or is paused.
func Open(ctx context.Context, vm *lab.VM) (d Debugger, err error) {
	err = vm.OnMachine(ctx, "gdb", func(m *qemu.Machine) (err error) {
		d.Socket, err = m.GDB(ctx)
		return err
	})
	if err != nil {
		return d, err
	}
	d.Vmlinux = vm.DebugFile()
	d.Offset, _ = vm.Inspect().KernelOffset(ctx) // without, symbols fit a kernel with nokaslr
	return d, nil
}

// Command returns the line that starts gdb.
func (d Debugger) Command() string {
	parts := []string{"gdb", "-ex", quote("target remote " + d.Socket)}
	if d.Vmlinux != "" {
		parts = append(parts, "-ex", quote(fmt.Sprintf("symbol-file -o %#x %s", d.Offset, d.Vmlinux)))
	}
	return strings.Join(parts, " ")
}

// quote returns text as one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
