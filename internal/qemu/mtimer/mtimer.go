// Package mtimer sets the timers of riscv64 guests that QEMU has loaded. Their times are in the state, and QEMU waits
// for none of them until somebody writes it. It speaks the remote protocol of gdb, by which QEMU reads and
// writes physical addresses, those of devices as well.
//
// It knows nothing of guests, nor how the stub comes to be (package qemu). Start with Set.
package mtimer

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// mtimecmp is where the first CPU's time is in memory, with those of the others behind it, 8 bytes each:
// hw/riscv/virt.c (VIRT_CLINT), hw/intc/riscv_aclint.c.
const mtimecmp = 0x2000000 + 0x4000

// Set writes the time of each of the CPUs' timers over itself. stub is a connection to QEMU's stub for gdb, which has
// stopped the guest. A debugger that connects later has virtual addresses, as it expects.
func Set(stub io.ReadWriter, cpus int) error {
	c := client{w: stub, r: bufio.NewReader(stub)}
	if err := c.expect("Qqemu.PhyMemMode:1", "OK"); err != nil {
		return err
	}
	return errors.Join(c.set(cpus), c.expect("Qqemu.PhyMemMode:0", "OK"))
}

// client speaks the remote protocol.
type client struct {
	w io.Writer
	r *bufio.Reader
}

func (c *client) set(cpus int) error {
	for n := range cpus {
		at := mtimecmp + 8*n
		value, err := c.ask(fmt.Sprintf("m%x,8", at))
		if err != nil {
			return err
		}
		if b, err := hex.DecodeString(value); err != nil || len(b) != 8 {
			return fmt.Errorf("timer of CPU %d: gdb stub answers %.40q", n, value)
		}
		if err := c.expect(fmt.Sprintf("M%x,8:%s", at, value), "OK"); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) expect(packet, want string) error {
	got, err := c.ask(packet)
	if err == nil && got != want {
		err = fmt.Errorf("gdb stub answers %.40q to %s", got, packet)
	}
	return err
}

// ask sends a packet and returns the answer, which is acknowledged.
func (c *client) ask(packet string) (string, error) {
	if _, err := fmt.Fprintf(c.w, "$%s#%02x", packet, sum(packet)); err != nil {
		return "", err
	}
	if _, err := c.r.ReadString('$'); err != nil { // behind the acknowledgement
		return "", err
	}
	answer, err := c.r.ReadString('#')
	if err != nil {
		return "", err
	}
	var check [2]byte
	if _, err := io.ReadFull(c.r, check[:]); err != nil {
		return "", err
	}
	answer = strings.TrimSuffix(answer, "#")
	if string(check[:]) != fmt.Sprintf("%02x", sum(answer)) {
		return "", fmt.Errorf("gdb stub answers %.40q with the checksum %q", answer, check)
	}
	_, err = io.WriteString(c.w, "+")
	return answer, err
}

func sum(s string) (n byte) {
	for i := range len(s) {
		n += s[i]
	}
	return n
}
