package shaped

import (
	"time"

	"provium/internal/disk"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// Parts are the devices of a guest that is restored ahead of need.
type Parts struct {
	Netdevs *network.Netdevs
	Drives  disk.Drives
}

// Stopping is called before the vCPUs are stopped.
func (p *Parts) Stopping() { p.Drives.HoldFlushes() }

// Stopped is called after it.
func (p *Parts) Stopped() { p.Drives.IgnoreFlushes() }

// Resume is called before the vCPUs go on.
func (p *Parts) Resume() error { return p.Drives.ObeyFlushes() }

// Close is called when the guest is gone.
func (p *Parts) Close() {
	p.Netdevs.Close()
	_ = p.Drives.Close() // nobody has seen them
}

// InUTC returns a time in UTC, nil for nil.
func InUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}

// Ranges returns the ranges as package qemu has them.
func Ranges(changed []snapshot.Range) []qemu.Range {
	out := make([]qemu.Range, len(changed))
	for i, c := range changed {
		out[i] = qemu.Range{At: c.At, Length: c.Length}
	}
	return out
}
