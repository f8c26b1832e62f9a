package recording

import "fmt"

// shift makes an instruction take 2 ns of a recorded guest's time.
const shift = 1

// Log says what QEMU does with the log of a guest.
type Log struct {
	Path   string // of the log; "" is a guest that is not recorded yet
	Replay bool   // the guest is run from the log; else the log is written
	// States is the path of an image that takes the states to which a guest that is run again goes back.
	States string
}

// Args returns the words of QEMU's command line of a guest that can be recorded. All guests that come from one boot
// need them.
func Args(l Log) []string {
	count := fmt.Sprintf("shift=%d", shift)
	switch {
	case l.Path == "":
	case l.Replay:
		count += ",rr=replay,rrfile=" + l.Path
	default:
		count += ",rr=record,rrfile=" + l.Path
	}
	// With the vapic, a state that is loaded in a replay stands still.
	a := []string{"-icount", count, "-global", "apic-common.vapic=off"}
	if l.States != "" {
		a = append(a, "-drive", "file="+l.States+",if=none,id=states")
	}
	return a
}

// Ports returns the words that have QEMU record what goes through the connections of these names. It does so for
// serial ports only. A machine has four of them, and serves more without a device.
func Ports(names ...string) []string {
	a := []string{"-serial", "null", "-serial", "null", "-serial", "null"}
	for _, n := range names {
		a = append(a, "-serial", "chardev:"+n)
	}
	return a
}
