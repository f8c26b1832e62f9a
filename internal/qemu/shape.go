package qemu

import (
	"fmt"
	"strings"

	"provium/internal/machine"
)

// smp returns how many CPUs there are and how they are divided, as the option takes it.
func (c *Config) smp() string {
	t := c.Shape.CPU
	if t == (machine.Topology{}) {
		return fmt.Sprint(c.CPUs)
	}
	return fmt.Sprintf("%d,sockets=%d,cores=%d,threads=%d", c.CPUs,
		max(t.Sockets, 1), max(t.Cores, 1), max(t.Threads, 1))
}

// shapeParts describes what of the shape a saved state depends on, beside the devices.
func (c *Config) shapeParts() (parts []string) {
	if c.Shape.CPU != (machine.Topology{}) {
		parts = append(parts, "-smp "+c.smp())
	}
	if c.Shape.IsUEFI() {
		parts = append(parts, c.firmwareID())
	}
	if len(c.Shape.Args) > 0 {
		parts = append(parts, "qemu_args "+strings.Join(c.Shape.Args, " "))
	}
	return parts
}
