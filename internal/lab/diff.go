package lab

import (
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// diffShare is the share of a guest's memory, as a divisor, that may have changed for
// its snapshot to be a diff. With more changes the snapshot becomes a full one.
const diffShare = 4

// chooseForm makes a snapshot of a restored guest a diff and returns the path of its
// base, or makes it full and returns "" where too much has changed.
func (i *guestRun) chooseForm(w *snapshot.Writer, changed []snapshot.Range) (base string, err error) {
	var sum int64
	for _, c := range changed {
		sum += c.Length
	}
	if sum > i.plan.cfg.Memory/diffShare {
		return "", w.FillRAM(i.machine.RAM(), changed)
	}
	return i.plan.parent.Path, w.SetBase(i.plan.parent, changed)
}

// ranges are those of package qemu.
func ranges(changed []snapshot.Range) []qemu.Range {
	out := make([]qemu.Range, len(changed))
	for i, c := range changed {
		out[i] = qemu.Range{At: c.At, Length: c.Length}
	}
	return out
}
