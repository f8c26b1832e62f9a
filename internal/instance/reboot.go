package instance

import (
	"bytes"
	"slices"
	"strings"

	"provium/internal/kernelreport"
)

// This file finds reboots that nobody has asked for, as by a triple fault.

// partingWords are what a kernel prints before a reset that it makes: after a reboot call, on
// sysrq, after a panic, and before another kernel takes over, of which nothing is known then.
var partingWords = [][]byte{
	[]byte("Restarting system"), []byte("sysrq: Resetting"), []byte("SysRq : Resetting"),
	[]byte(panicWords), []byte("Starting new kernel"),
}

// saysGoodbye reports whether the kernel has said that it ends.
func saysGoodbye(text []byte) bool {
	return slices.ContainsFunc(partingWords, func(words []byte) bool { return bytes.Contains(text, words) })
}

// hasConsole reports whether a kernel prints to one of the consoles that are read. serial is its name for the serial
// port.
func hasConsole(cmdline, serial string) bool {
	for word := range strings.FieldsSeq(cmdline) {
		device, ok := strings.CutPrefix(word, "console=")
		if device, _, _ = strings.Cut(device, ","); ok && (device == serial || device == "hvc0") {
			return true
		}
	}
	return false
}

// rebootEnd is how much of the console is in a report of an unexpected reboot, in bytes.
const rebootEnd = 2 << 10

// checkReboot reports a reset by the guest before which its kernel has said nothing, although an
// agent had answered. What there is of the console must have been read.
func (i *Instance) checkReboot() {
	i.mu.Lock()
	unasked := i.served && !i.crashed && !i.expected && i.panic == ""
	i.mu.Unlock()
	if !unasked || i.watch.saidGoodbye() || !hasConsole(i.cfg.QEMU.Cmdline, i.cfg.QEMU.SerialConsole()) {
		return
	}
	f := kernelreport.UnexpectedReboot(lastLines(i.cfg.Console.Tail(rebootEnd)))
	if !i.cfg.Oops.Ignores(f) {
		i.cfg.Hooks.Finding(f)
	}
}

// lastLines returns a text from its first whole line on.
func lastLines(text string) string {
	if len(text) < rebootEnd {
		return text
	}
	_, rest, _ := strings.Cut(text, "\n")
	return rest
}
