// Package registers reads what QEMU prints of the CPUs of a guest.
//
// It asks no QEMU (package qemu). Start with Parse.
package registers

import (
	"regexp"
	"strconv"
	"strings"
)

// CPU is the state of one virtual CPU.
type CPU struct {
	Number int
	// Registers are the general and control registers by QEMU's names ("RIP", "R8", "RFL",
	// "CR3", "HLT"), and of segments the selectors ("CS") and the bases ("CS.base").
	Registers map[string]uint64
	// Text is how QEMU prints the general registers, in lines without line ends at the end.
	Text string
}

// IsHalted reports whether the CPU waits in HLT, and whether no interrupt can end that wait.
func (c *CPU) IsHalted() (halted, forEver bool) {
	const interrupts = 1 << 9 // IF
	halted = c.Registers["HLT"] == 1
	return halted, halted && c.Registers["RFL"]&interrupts == 0
}

// maxText is the most of QEMU's text that is read, in bytes: 4 KiB for each of 256 CPUs.
const maxText = 1 << 20

var (
	register = regexp.MustCompile(`\b([A-Z][A-Z0-9]{1,4}) ?=([0-9a-f]{1,16})\b`)
	segment  = regexp.MustCompile(`^([C-GS]S) ?=([0-9a-f]{4}) ([0-9a-f]{8,16}) `)
)

// Parse reads what QEMU prints of the CPUs of an x86-64 machine.
func Parse(text string) (cpus []CPU) {
	text = text[:min(len(text), maxText)]
	for block := range strings.SplitSeq(strings.ReplaceAll(text, "\r", ""), "CPU#") {
		head, rest, ok := strings.Cut(block, "\n")
		n, err := strconv.Atoi(strings.TrimSpace(head))
		if !ok || err != nil || n < 0 {
			continue
		}
		c := CPU{Number: n, Registers: map[string]uint64{}}
		var shown []string
		for line := range strings.Lines(rest) {
			line = strings.TrimRight(line, "\n ")
			if strings.HasPrefix(line, "FCW=") {
				break // floating point and vectors follow
			}
			if s := segment.FindStringSubmatch(line); s != nil {
				c.set(s[1], s[2])
				c.set(s[1]+".base", s[3])
				continue
			}
			for _, r := range register.FindAllStringSubmatch(line, -1) {
				c.set(r[1], r[2])
			}
			if strings.HasPrefix(line, "R") || strings.HasPrefix(line, "CR") {
				shown = append(shown, line)
			}
		}
		if _, ok := c.Registers["RIP"]; !ok {
			continue // it runs 16-bit or 32-bit code; EIP is all that it has
		}
		c.Text = strings.Join(shown, "\n")
		cpus = append(cpus, c)
	}
	return cpus
}

func (c *CPU) set(name, hex string) {
	if v, err := strconv.ParseUint(hex, 16, 64); err == nil {
		c.Registers[name] = v
	}
}
